"""The patched methods of `keras.Model`.

`predict`, `predict_on_batch` and `__call__` are timed and read; `fit`, `evaluate` and their like
are only marked, so that what they call inside does not look like a prediction. The methods are
plain functions set on the class that go on to ``super(keras.Model, self)``: the look-up that would
happen without them, in every order of inheritance. Removing them is deleting them.

Only the outermost call of a thread counts. A thread-local says whether there is one: a context
variable would be copied into every task and callback made inside a prediction, and the predictions
made there would be lost.
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
import weakref
from collections.abc import Callable
from time import perf_counter, time_ns
from typing import Any, cast

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_drift.outputs import leaves
from otel_drift.recorder import Call, Recorder
from otel_drift.span import PredictionSpan
from otel_drift.training import TrainingSign

logger = logging.getLogger(__name__)

OBSERVED = {"predict": "predict", "predict_on_batch": "predict_on_batch", "__call__": "call"}
"""Methods of the class, and what ``keras.method`` says of them."""
MARKED = ("fit", "evaluate", "train_on_batch", "test_on_batch", "stateless_call")

RecorderOf = Callable[[Any], "Recorder | None"]


class Inside(threading.local):
    """Whether this thread is inside a call of a model."""

    model = False


class Patch:
    """The patched methods of one Keras.

    Parameters
    ----------
    keras
        The imported package.
    recorder_of
        Gives the recorder of a model, or None if it is not to be recorded; must not raise.
    """

    def __init__(self, keras: Any, recorder_of: RecorderOf) -> None:
        self._class: Any = keras.Model
        self._symbolic = keras.KerasTensor
        self._recorder_of = recorder_of
        self._inside = Inside()
        self._enabled = False
        self._functions: dict[str, Callable[..., Any]] = {}
        self._before: dict[str, Any] = {}
        self._building = _symbolic_scope()
        backend = keras.backend.backend()
        self._compiling: Callable[[], bool] = _never
        self._recording_gradients: Callable[[], bool] = _never
        self._torch = backend == "torch"
        if self._torch:
            from torch.compiler import is_compiling  # pyright: ignore # only where torch is

            self._compiling = is_compiling
        elif backend == "tensorflow":
            self._recording_gradients = _tensorflow_recording()

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
        self._inside = Inside()

    def _set(self, name: str, function: Callable[..., Any]) -> None:
        # Named after where it is found, so that cloudpickle sends a bound method of a model by this
        # reference, which leads to Keras's own method in a process without us.
        function.__module__ = self._class.__module__
        function.__qualname__ = f"{self._class.__qualname__}.{name}"
        self._functions[name] = function
        setattr(self._class, name, function)

    def _next(self, name: str) -> Callable[[Any], Callable[..., Any]]:
        """Give what looks up, for a model, the method that would run without us."""
        cls = self._class
        before = cast("dict[str, Any]", vars(cls)).get(name)
        if before is None:
            return lambda model: getattr(super(cls, model), name)  # pyright: ignore
        self._before[name] = before  # somebody else's patch: it goes on running inside ours
        return lambda model: before.__get__(model, cls)

    def _observing(self, name: str, method: str) -> Callable[..., Any]:
        compiling, following = self._compiling, self._next(name)

        @functools.wraps(getattr(self._class, name))
        def observed(model: Any, *args: Any, **kwargs: Any) -> Any:
            call = following(model)
            if compiling() or not self._enabled or self._inside.model:
                return call(*args, **kwargs)
            return self._outermost(method, model, call, args, kwargs)

        return observed

    def _marking(self, name: str) -> Callable[..., Any]:
        compiling, following = self._compiling, self._next(name)

        @functools.wraps(getattr(self._class, name))
        def marked(model: Any, *args: Any, **kwargs: Any) -> Any:
            call = following(model)
            if compiling() or not self._enabled or self._inside.model:
                return call(*args, **kwargs)
            self._inside.model = True
            try:
                return call(*args, **kwargs)
            finally:
                self._inside.model = False

        return marked

    def _outermost(
        self, method: str, model: Any, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        self._inside.model = True
        try:
            recorder = self._recorder_for(method, model, args, kwargs)
            if recorder is None:
                return call(*args, **kwargs)
            return self._recorded(recorder, method, model, call, args, kwargs)
        finally:
            self._inside.model = False

    def _recorder_for(self, method: str, model: Any, args: Any, kwargs: Any) -> Recorder | None:
        """Give the recorder of a call that may be a prediction: never raises."""
        try:
            if not is_instrumentation_enabled():
                return None
            if method == "call" and self._not_predicting(args, kwargs):
                return None
            recorder = self._recorder_of(model)
            if recorder is not None and recorder.held:
                recorder.settle(collecting=False)
            return recorder
        except Exception:
            logger.warning("a prediction is not recorded", exc_info=True)
            return None

    def _not_predicting(self, args: Any, kwargs: Any) -> bool:
        """Whether a call can be told beforehand to train, or to build another model."""
        return (
            _says_training(kwargs.get("training"))
            or (bool(args) and type(args[0]) is self._symbolic)
            or self._building()
            or self._recording_gradients()
        )

    def _recorded(
        self,
        recorder: Recorder,
        method: str,
        model: Any,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> Any:
        span = PredictionSpan(recorder, method)
        try:
            start = perf_counter()
            try:
                y = call(*args, **kwargs)
            except BaseException as error:
                _failed(recorder, span, method, perf_counter() - start, error)
                raise
            seconds = perf_counter() - start
            self._returned(recorder, span, method, seconds, model, args, kwargs, y)
            return y
        finally:
            span.leave()

    def _returned(
        self,
        recorder: Recorder,
        span: PredictionSpan,
        method: str,
        seconds: float,
        model: Any,
        args: Any,
        kwargs: Any,
        y: Any,
    ) -> None:
        """Record a call that has returned: never raises."""
        try:
            x = args[0] if args else next(iter(kwargs.values()), None)
            call = recorder.read(method, model, x, y)
            if call is None:
                return  # it was traced or built: no prediction, and its span is never ended
            if self._torch and method == "call" and kwargs.get("training") is None:
                output = _with_gradients(y)
                if output is not None:
                    _hold(recorder, span, call, seconds, model, output)
                    return
            recorder.duration(method, seconds)
            recorder.count(call)
            span.end()
        except Exception:
            recorder.failed("internal", f"{recorder.name}: a {method} that is not recorded")


def _failed(
    recorder: Recorder, span: PredictionSpan, method: str, seconds: float, error: BaseException
) -> None:
    try:
        recorder.duration(method, seconds, error)
        span.end(error)
    except Exception:
        recorder.failed("internal", f"{recorder.name}: a {method} that failed is not recorded")


def _hold(
    recorder: Recorder, span: PredictionSpan, call: Call, seconds: float, model: Any, output: Any
) -> None:
    """Leave open whether a call was a prediction or the forward half of a training step."""
    sign = TrainingSign(model)
    context, end_time = otel_context.get_current(), time_ns()

    def count() -> None:
        recorder.duration(call.method, seconds, context=context)
        recorder.count(call)
        span.end(at=end_time)

    recorder.held.until_no_training(sign.unchanged, weakref.ref(output), count)


def _with_gradients(y: Any) -> Any:
    """Give the first tensor of an output that gradients can flow back from, if there is one."""
    if hasattr(y, "requires_grad"):  # mostly there is but one
        return y if y.requires_grad else None
    for _, tensor in leaves(y):
        if getattr(tensor, "requires_grad", False):
            return tensor
    return None


def _says_training(training: Any) -> bool:
    if training is None or training is False:
        return False
    try:
        return bool(training)
    except Exception:  # a symbolic flag has no value: the model is being traced
        return True


def _never() -> bool:
    return False


def _symbolic_scope() -> Callable[[], bool]:
    """Whether Keras only works out the shapes of a model, on some backends with real arrays."""
    for module, name in (
        ("keras.src.backend.common.symbolic_scope", "in_symbolic_scope"),
        ("keras.src.backend.common.stateless_scope", "in_stateless_scope"),  # before Keras 3.4
    ):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):  # both are private, so they may move
            continue
    return _never


def _tensorflow_recording() -> Callable[[], bool]:
    """Whether a gradient tape records this thread: an eager training loop."""
    try:
        from tensorflow.python.eager.record import (  # pyright: ignore # private, so it may move
            could_possibly_record,
        )
    except ImportError:
        return _never
    return could_possibly_record
