"""The models of a program: which are recorded, by what recorder, under which name.

What belongs to a model is kept in its ``__dict__``, past Keras's attribute tracking: it is not
saved, copied, cloned or pickled with the model, and dies with it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from otel_drift.baseline import path_beside
from otel_drift.patch import Patch
from otel_drift.recorder import Recorder
from otel_drift.recording import Recording

logger = logging.getLogger(__name__)

STATE = "_otel_drift"
"""Key in a model's ``__dict__``."""
LOADERS = (
    ("keras.src.saving.saving_lib", "load_model"),
    ("keras.src.legacy.saving.legacy_h5_format", "load_model_from_hdf5"),
)
"""Where every way of loading a model leads, looked up at each call; private, so they may move."""
PUBLIC_LOADERS = (("keras.saving", "load_model"), ("keras.models", "load_model"))


class ModelState(NamedTuple):
    """What a model's ``__dict__`` holds of ours."""

    recorder: Recorder | None
    recording: Recording | None
    """The instrumentor's recording that it belongs to; None for `instrument_model`."""
    path: str | None
    """File that it was loaded from."""


class Models:
    """The models of one imported Keras."""

    def __init__(self, keras: Any) -> None:
        self._patch = Patch(keras, self.recorder_of)
        self._all: Recording | None = None
        self._single: weakref.WeakSet[Any] = weakref.WeakSet()
        self._loaders: list[tuple[Any, str, Any, Any]] = []
        self._patched = False

    def record_all(self, recording: Recording) -> None:
        """Record every model of the program."""
        self._all = recording
        self._patch_loaders()
        self._patch_class()

    def forget_all(self) -> None:
        """Record only those of `record_one` any more."""
        if self._all is not None:
            self._all.close()
        self._all = None
        self._restore_loaders()
        self._restore_class()

    def record_one(self, model: Any, recorder: Recorder) -> None:
        """Record one model with a recorder of its own."""
        model.__dict__[STATE] = ModelState(recorder, None, self.path_of(model))
        self._single.add(model)
        self._patch_class()

    def forget_one(self, model: Any) -> bool:
        """Undo `record_one`; False if there was none."""
        if model not in self._single:
            return False
        self._single.discard(model)
        model.__dict__.pop(STATE, None)
        self._restore_class()
        return True

    def path_of(self, model: Any) -> str | None:
        """File that a model was loaded from, where that was seen."""
        state: ModelState | None = model.__dict__.get(STATE)
        return None if state is None else state.path

    def recorder_of(self, model: Any) -> Recorder | None:
        """Give a model's recorder; None if it is not to be recorded."""
        state: ModelState | None = model.__dict__.get(STATE)
        recording = self._all
        if state is not None and (state.recording is None or state.recording is recording):
            return state.recorder
        if recording is None:
            return None
        return self._start(model, recording, None if state is None else state.path)

    def _start(self, model: Any, recording: Recording, path: str | None) -> Recorder | None:
        """Give a model its recorder, at its first prediction or when it has been loaded."""
        recorder = None
        try:
            name = recording.options.model_name or _name_of(model, path)
            recorder = recording.recorder(name, path)
            if path is not None:  # while it is being loaded, not while it predicts
                recorder.check_model(model, path)
        except Exception:
            recording.failed(str(model.name), f"model {model.name}: cannot be recorded")
        model.__dict__[STATE] = ModelState(recorder, recording, path)
        return recorder

    def reset(self) -> None:
        """Start anew in the child of a fork."""
        self._patch.reset()

    def _patch_class(self) -> None:
        if not self._patched:
            self._patched = True
            self._patch.install()

    def _restore_class(self) -> None:
        if self._patched and self._all is None and not self._single:
            self._patched = False
            self._patch.remove()

    def _patch_loaders(self) -> None:
        """Remember where loaded models come from."""
        for places in (LOADERS, PUBLIC_LOADERS):
            for module_name, name in places:
                try:
                    module = importlib.import_module(module_name)
                    original = getattr(module, name)
                except (ImportError, AttributeError):
                    continue
                replacement = self._remembering(original)
                setattr(module, name, replacement)
                self._loaders.append((module, name, original, replacement))
            if self._loaders:
                return

    def _restore_loaders(self) -> None:
        for module, name, original, replacement in self._loaders:
            if getattr(module, name, None) is replacement:
                setattr(module, name, original)
        self._loaders = []

    def _remembering(self, load: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(load)
        def load_and_remember(filepath: Any, *args: Any, **kwargs: Any) -> Any:
            model = load(filepath, *args, **kwargs)
            try:
                if self._all is not None and isinstance(filepath, (str, os.PathLike)):
                    self._start(model, self._all, os.fspath(filepath))
            except Exception:
                logger.warning("a loaded model's file is not remembered", exc_info=True)
            return model

        return load_and_remember


def _name_of(model: Any, path: str | None) -> str:
    if path is None:
        return str(model.name)
    return path_beside(Path(path)).name.removesuffix(".baseline.json")


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
