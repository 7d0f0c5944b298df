"""The patched methods of `keras.Model`.

`predict`, `predict_on_batch` and `__call__` are timed and read; `fit`, `evaluate` and their like
are only marked, so that what they call inside does not look like a prediction. The methods are
plain functions set on the class that go on to ``super(keras.Model, self)``: the look-up that would
happen without them, in every order of inheritance. Removing them is deleting them.

Only the outermost call of a thread counts. A set of threads says whether there is one: a context
variable would be copied into every task and callback made inside a prediction, and the predictions
made there would be lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any, NamedTuple, cast

from opentelemetry.context import Context, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_drift.keras.introspection import (
    says_training,
    symbolic_scope,
    tensorflow_recording,
)
from otel_drift.keras.training_step import possible_step
from otel_drift.telemetry.invocation import Method
from otel_drift.telemetry.recorder import ModelRecorder
from otel_drift.telemetry.session import Session

OBSERVED = {"predict": "predict", "predict_on_batch": "predict_on_batch", "__call__": "call"}
"""Methods of the class, and what ``keras.method`` says of them."""
MARKED = ("fit", "evaluate", "train_on_batch", "test_on_batch", "stateless_call")

STATE = "_otel_drift"
"""Key in a model's ``__dict__``, past Keras's attribute tracking: what is there is not saved,
copied, cloned or pickled with the model, and dies with it."""


class ModelState(NamedTuple):
    """What this package keeps in a model's ``__dict__``."""

    recorder: ModelRecorder | None
    session: Session | None
    """The session that the recorder is of; None for a model that none records."""
    path: str | None
    """File that it was loaded from."""


class Patch:
    """The patched methods of one Keras.

    Parameters
    ----------
    keras
        The imported package.
    recorder_of
        Gives the recorder of a model that has none yet, or None if it is not to be recorded.
    failed
        Counts a failure with a model, given what to say of it and its subject.
    """

    def __init__(
        self,
        keras: Any,
        recorder_of: Callable[[Any], ModelRecorder | None],
        failed: Callable[[Any, str, str], None],
    ) -> None:
        self._class: Any = keras.Model
        self._symbolic = keras.KerasTensor
        self._recorder_of = recorder_of
        self._failed = failed
        self._inside: set[int] = set()
        """The threads that are inside a call of a model."""
        self._enabled = False
        self._functions: dict[str, Callable[..., Any]] = {}
        self._before: dict[str, Any] = {}
        self._building = symbolic_scope()
        backend = keras.backend.backend()
        self._compiling: Callable[[], bool] | None = None
        self._recording_gradients: Callable[[], bool] | None = None
        self._torch = backend == "torch"
        if self._torch:
            from torch.compiler import is_compiling  # pyright: ignore # only where torch is

            self._compiling = is_compiling
        elif backend == "tensorflow":
            self._recording_gradients = tensorflow_recording()

    def install(self) -> None:
        """Set the methods on the class."""
        self._enabled = True
        for name, method in OBSERVED.items():
            self._set(name, self._observing(name, method))
        for name in MARKED:
            self._set(name, self._marking(name))

    def remove(self) -> None:
        """Restore the class: delete what is still ours; what somebody wrapped passes through."""
        self._enabled = False
        for name, function in self._functions.items():
            members = cast("dict[str, Any]", vars(self._class))
            if members.get(name) is not function:
                continue
            if name in self._before:
                setattr(self._class, name, self._before[name])
            else:
                delattr(self._class, name)
        self._functions = {}
        self._before = {}

    def reset(self) -> None:
        """Start anew in the child of a fork, which may have happened inside a call."""
        self._inside.clear()

    def _set(self, name: str, function: Callable[..., Any]) -> None:
        # Named after where it is found, so that cloudpickle sends a bound method of a model by this
        # reference, which leads to Keras's own method in a process without us.
        function.__module__ = self._class.__module__
        function.__qualname__ = f"{self._class.__qualname__}.{name}"
        self._functions[name] = function
        setattr(self._class, name, function)

    def _before_us(self, name: str) -> Any:
        """Give somebody else's patch of a method, which goes on running inside ours, if any."""
        before = cast("dict[str, Any]", vars(self._class)).get(name)
        if before is not None:
            self._before[name] = before
        return before

    def _observing(self, name: str, method: str) -> Callable[..., Any]:
        # Few functions, and their variables: after a model has run, nothing of ours is in the
        # processor's caches, and each function and object that is touched costs anew.
        cls, compiling, inside = self._class, self._compiling, self._inside
        before, recorded_by = self._before_us(name), self._recorded_by(method)
        step = possible_step if self._torch and method == "call" else None

        @functools.wraps(getattr(cls, name))
        def observed(model: Any, *args: Any, **kwargs: Any) -> Any:
            if before is None:
                call = getattr(super(cls, model), name)  # pyright: ignore
            else:
                call = before.__get__(model, cls)
            try:
                compiled = compiling is not None and compiling()
            except Exception:
                compiled = self._not_told(model)
            # First, since a compiler must not see the rest.
            if compiled or (thread := get_ident()) in inside:
                return call(*args, **kwargs)
            try:
                inside.add(thread)
                recorded, context = recorded_by(model, args, kwargs)
                if recorded is None:
                    return call(*args, **kwargs)
                invocation = recorded.started() if recorded.recorder.traced else None
                start = perf_counter()
                try:
                    y = call(*args, **kwargs)
                except BaseException as error:
                    recorded.raised(error, perf_counter() - start, context, invocation)
                    raise
                seconds = perf_counter() - start
                if step is None or kwargs.get("training") is not None:
                    recorded.returned(y, seconds, context, invocation, model, args, kwargs)
                else:
                    recorded.returned(y, seconds, context, invocation, model, args, kwargs, step)
                return y
            finally:
                inside.discard(thread)

        return observed

    def _not_told(self, model: Any) -> bool:
        """Take a model not to be compiled, where that cannot be told."""
        self._failed(model, "it cannot be told whether it is being compiled", "compiling")
        return False

    def _recorded_by(
        self, method: str
    ) -> Callable[[Any, Any, Any], tuple[Method | None, Context | None]]:
        """Give what tells by what a call of a method is recorded, and its context: never raises.

        None for a call that is not to be recorded, and for an empty context.
        """
        is_call, symbolic, building = method == "call", self._symbolic, self._building
        recording = self._recording_gradients

        def recorded_by(model: Any, args: Any, kwargs: Any) -> tuple[Method | None, Context | None]:
            try:
                state: ModelState | None = model.__dict__.get(STATE)
                recorder = None if state is None else state.recorder
                # First what costs least, for a program that has no SDK.
                if (
                    recorder is not None
                    and not recorder.alive
                    and not recorder.closed
                    and not recorder.comes_alive()
                ):
                    return None, None
                context = get_current() or None
                if context is not None and not is_instrumentation_enabled():
                    return None, None
                training = kwargs.get("training") if is_call else None
                if not self._enabled or (
                    is_call  # told beforehand to train, or to build another model
                    and (
                        (training is not None and says_training(training))
                        or (args and type(args[0]) is symbolic)
                        or building()
                        or (recording is not None and recording())
                    )
                ):
                    return None, None
                if recorder is None or recorder.closed:
                    recorder = self._recorder_of(model)
                    if recorder is None or not recorder.comes_alive():
                        return None, None
                recorded = recorder.methods[method]
                if recorder.newest is not None and (not is_call or training is not None):
                    recorder.see_unchanged(recorded)
                return recorded, context
            except Exception:
                self._failed(model, f"a {method} that is not recorded", "observed")
                return None, None

        return recorded_by

    def _marking(self, name: str) -> Callable[..., Any]:
        cls, compiling, inside = self._class, self._compiling, self._inside
        before = self._before_us(name)

        @functools.wraps(getattr(cls, name))
        def marked(model: Any, *args: Any, **kwargs: Any) -> Any:
            if before is None:
                call = getattr(super(cls, model), name)  # pyright: ignore
            else:
                call = before.__get__(model, cls)
            try:
                compiled = compiling is not None and compiling()
            except Exception:
                compiled = self._not_told(model)
            if compiled or (thread := get_ident()) in inside or not self._enabled:
                return call(*args, **kwargs)
            try:
                inside.add(thread)
                return call(*args, **kwargs)
            finally:
                inside.discard(thread)

        return marked
