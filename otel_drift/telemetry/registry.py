"""Which recorder each model has: one for each name and version, as long as somebody holds it.

Two models that are configured alike and have one name and version share a recorder: a model that is
loaded again goes on counting where the last one stopped. Two that differ never do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from otel_drift.telemetry.recorder import Configuration, ModelRecorder

MAXIMUM_MODELS = 200
"""Names and versions that get series of their own: a program may make models in a loop."""


class Identity(NamedTuple):
    """What tells the series of models apart."""

    name: str
    version: str | None


class Taken(Exception):  # noqa: N818 # an answer, which `Session` turns into an error or a warning
    """Another model of the same name and version is recorded, and it is configured otherwise."""

    def __init__(self, recorder: ModelRecorder) -> None:
        super().__init__(recorder.name)
        self.recorder = recorder


class _Entry(NamedTuple):
    recorder: ModelRecorder
    holders: set[Any]


class ModelRegistry:
    """The recorders that report to one meter provider."""

    def __init__(self) -> None:
        self._entries: dict[Identity, _Entry] = {}
        self._leaving: dict[Identity, ModelRecorder] = {}
        self.reset()

    def reset(self) -> None:
        """Make the lock anew, and forget who was leaving, in the child of a fork."""
        self._lock = threading.Lock()
        self._leaving = {}
        for entry in self._entries.values():
            entry.recorder.reset()

    def recorders(self) -> list[ModelRecorder]:
        """Give the recorders of all models."""
        with self._lock:
            return [entry.recorder for entry in self._entries.values()]

    def take_leaving(self) -> list[ModelRecorder]:
        """Give, once, the recorders whose series end: what they counted since is still due."""
        with self._lock:
            leaving, self._leaving = self._leaving, {}
            return list(leaving.values())

    def is_full(self, identity: Identity) -> bool:
        """Whether there is no room for another name or version."""
        with self._lock:
            return identity not in self._entries and len(self._entries) >= MAXIMUM_MODELS

    def claim(
        self,
        identity: Identity,
        holder: Any,
        configuration: Configuration,
        make: Callable[[], ModelRecorder],
        may_replace: Callable[[ModelRecorder, set[Any]], bool],
    ) -> ModelRecorder:
        """Give the recorder of an identity, made if there is none.

        Parameters
        ----------
        identity
            Name and version.
        holder
            Who holds it from now on.
        configuration
            What it must be configured as.
        make
            Makes it; may raise, and then nothing has changed.
        may_replace
            Whether a recorder that is configured otherwise may be replaced, given its holders.

        Raises
        ------
        Taken
            If it may not.
        """
        with self._lock:
            found = self._shared(identity, holder, configuration, may_replace)
        if found is not None:
            return found
        recorder = make()  # without the lock: it may import the user's modules
        with self._lock:
            found = self._shared(identity, holder, configuration, may_replace)
            if found is None:
                entry = self._entries.get(identity)
                earlier = entry.recorder if entry else self._leaving.pop(identity, None)
                self._entries = {**self._entries, identity: _Entry(recorder, {holder})}
                if earlier is not None:
                    recorder.succeed(earlier)
                return recorder
        return found

    def _shared(
        self,
        identity: Identity,
        holder: Any,
        configuration: Configuration,
        may_replace: Callable[[ModelRecorder, set[Any]], bool],
    ) -> ModelRecorder | None:
        """Give the recorder that is there, if it serves; None if one is to be made."""
        entry = self._entries.get(identity)
        if entry is None:
            return None
        if entry.recorder.configuration == configuration:
            entry.holders.add(holder)
            return entry.recorder
        if not may_replace(entry.recorder, entry.holders):
            raise Taken(entry.recorder)
        return None

    def release(self, holder: Any) -> None:
        """Let go of all that somebody holds; what nobody holds any longer leaves."""
        with self._lock:
            for identity, entry in list(self._entries.items()):
                if holder in entry.holders:
                    self._let_go(identity, entry, holder)

    def release_one(self, recorder: ModelRecorder, holder: Any) -> None:
        """Let go of one recorder."""
        with self._lock:
            for identity, entry in list(self._entries.items()):
                if entry.recorder is recorder and holder in entry.holders:
                    self._let_go(identity, entry, holder)

    def _let_go(self, identity: Identity, entry: _Entry, holder: Any) -> None:
        entry.holders.discard(holder)
        if not entry.holders:
            self._entries = {key: one for key, one in self._entries.items() if key != identity}
            self._leaving[identity] = entry.recorder
            entry.recorder.close()
