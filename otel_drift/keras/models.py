"""The models of a program: which are recorded, and by which session."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Mapping
from typing import Any

from otel_drift.baselines.baseline import Baseline
from otel_drift.baselines.discovery import outdated
from otel_drift.keras.loading import Loaders, identity_of
from otel_drift.keras.patch import STATE, ModelState, Patch
from otel_drift.telemetry.recorder import ModelRecorder
from otel_drift.telemetry.session import Session

logger = logging.getLogger(__name__)


class Models:
    """The models of one imported Keras.

    Parameters
    ----------
    keras
        The imported package.
    """

    def __init__(self, keras: Any) -> None:
        self._patch = Patch(keras, self._recorder_of, self._failed)
        self._loaders = Loaders(self._loaded)
        self._all: Session | None = None
        self._single: weakref.WeakSet[Any] = weakref.WeakSet()
        self._patched = False
        self._users: weakref.WeakKeyDictionary[ModelRecorder, weakref.WeakSet[Any]] = (
            weakref.WeakKeyDictionary()
        )
        """The models that each recorder of the session of all models records."""

    def record_all(self, session: Session) -> None:
        """Record every model of the program."""
        self._all = session
        self._loaders.install()
        self._patch_class()

    def forget_all(self) -> None:
        """Record only those of `record_one` from now on."""
        if self._all is not None:
            self._all.close()
        self._all = None
        self._loaders.remove()
        self._restore_class()

    def record_one(
        self,
        model: Any,
        session: Session,
        name: str,
        baselines: Mapping[str, Baseline],
    ) -> None:
        """Record one model by a session of its own.

        Raises
        ------
        ValueError
            If another model of that name and version is recorded otherwise.
        """
        state: ModelState | None = model.__dict__.get(STATE)
        path = None if state is None else state.path
        earlier = None if state is None else state.session

        def is_this_model(_: ModelRecorder, holders: set[Any]) -> bool:
            return holders == {earlier}

        recorder = session.recorder(
            name,
            path,
            version=None if path is None else identity_of(path)[1],
            baselines=baselines,
            may_replace=is_this_model,
        )
        _check_model(recorder, model, path)
        model.__dict__[STATE] = ModelState(recorder, session, path)
        self._single.add(model)
        if earlier is not None and earlier is not self._all:
            earlier.close()
        self._patch_class()

    def forget_one(self, model: Any) -> bool:
        """Undo `record_one`; False if there was none."""
        if model not in self._single:
            return False
        self._single.discard(model)
        state: ModelState = model.__dict__.pop(STATE)
        if state.path is not None:
            model.__dict__[STATE] = ModelState(None, None, state.path)
        if state.session is not None:
            state.session.close()
        self._restore_class()
        return True

    def path_of(self, model: Any) -> str | None:
        """File that a model was loaded from, where that was seen."""
        state: ModelState | None = model.__dict__.get(STATE)
        return None if state is None else state.path

    def reset(self) -> None:
        """Start anew in the child of a fork."""
        self._patch.reset()

    def _recorder_of(self, model: Any) -> ModelRecorder | None:
        """Give the recorder of a model that has none that is still open."""
        state: ModelState | None = model.__dict__.get(STATE)
        session = self._all
        if session is None:
            return None
        if state is not None and state.session is session and state.recorder is None:
            return None  # it could not be recorded, which has been said
        return self._start(model, session, None if state is None else state.path)

    def _failed(self, model: Any, what: str, subject: str) -> None:
        """Count a failure with a model that is to be recorded: never raises."""
        try:
            state: ModelState | None = model.__dict__.get(STATE)
            session = self._all if state is None else state.session or self._all
            if state is not None and state.recorder is not None:
                name, failed = state.recorder.name, state.recorder.failed
                failed("internal", f"{name}: {what}", subject=subject)
            elif session is not None:
                name = session.options.model_name or str(model.name)
                session.failed(name, "internal", f"{name}: {what}", subject=subject)
        except Exception:
            logger.warning("a failure that is not counted: %s", what, exc_info=True)

    def _loaded(self, model: Any, path: str) -> None:
        if self._all is not None:
            self._start(model, self._all, path)

    def _start(self, model: Any, session: Session, path: str | None) -> ModelRecorder | None:
        """Give a model its recorder, at its first prediction or when it has been loaded."""
        recorder = None
        try:
            name, version = (str(model.name), None) if path is None else identity_of(path)
            recorder = session.recorder(session.options.model_name or name, path, version=version)
            if path is not None:  # while it is being loaded, not while it predicts
                _check_model(recorder, model, path)
            self._users.setdefault(recorder, weakref.WeakSet()).add(model)
            self._release_unused(session, recorder)
        except Exception:
            what = f"model {model.name}: cannot be recorded"
            session.failed(str(model.name), "internal", what, subject="start")
        model.__dict__[STATE] = ModelState(recorder, session, path)
        return recorder

    def _release_unused(self, session: Session, newest: ModelRecorder) -> None:
        """Let go of earlier versions of a model that no model is left of."""
        for recorder, users in list(self._users.items()):
            if recorder is not newest and recorder.name == newest.name and not users:
                session.release(recorder)

    def _patch_class(self) -> None:
        if not self._patched:
            self._patched = True
            self._patch.install()

    def _restore_class(self) -> None:
        if self._patched and self._all is None and not self._single:
            self._patched = False
            self._patch.remove()


def _check_model(recorder: ModelRecorder, model: Any, path: str | None) -> None:
    """Report, once, baselines that were taken from another model than this."""
    reason = outdated(recorder.configuration.baselines, model, path)
    if reason is not None:
        what = f"{recorder.name}: {reason}: drift may be reported where there is none"
        recorder.failed("baseline_outdated", what, subject="model", traceback=False)


_models: Models | None = None


def _after_fork() -> None:
    if _models is not None:
        _models.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def models() -> Models:
    """Give the models of the Keras that this process has imported."""
    global _models
    if _models is None:
        _models = Models(sys.modules["keras"])
    return _models
