"""One call of a model: started, then stopped or failed.

.. code-block:: python

    invocation = Invocation(recorder, "predict")
    try:
        y = model.predict(x)
    except BaseException as error:
        invocation.fail(error)
        raise
    invocation.stop(y, x=x, model=model)

Its span is the current one while the model runs, so that what the model calls nests in it, and
while the duration is recorded, so that the histogram's exemplars carry its trace. Nothing here
raises, but what interrupts a program (``KeyboardInterrupt``) passes.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time_ns
from typing import Any, Protocol
from weakref import ReferenceType

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_drift.outputs.reader import Found
from otel_drift.telemetry.names import ERROR_TYPE, METHOD
from otel_drift.telemetry.recorder import ModelRecorder


class PossibleStep(Protocol):
    """The sign of a training step, which may come of a call that looked like a prediction."""

    output: ReferenceType[Any]
    """What the model returned: while it lives, a backward pass may follow."""

    def unchanged(self) -> bool:
        """Whether gradients and weights are as they were when the model returned."""
        ...


class Invocation:
    """One call that may be a prediction; it starts, with its span, when this is made.

    Parameters
    ----------
    recorder
        Of the model.
    method
        What ``keras.method`` says: ``predict``, ``predict_on_batch`` or ``call``.
    """

    __slots__ = ("_method", "_recorder", "_span", "_start", "_token")

    def __init__(self, recorder: ModelRecorder, method: str) -> None:
        self._recorder, self._method = recorder, method
        self._span = self._token = None
        if recorder.tracer is not None:
            self._start_span(recorder.tracer)
        self._start = perf_counter()

    def stop(
        self,
        y: Any,
        *,
        x: Any = None,
        model: Any = None,
        training_step: Callable[[Any, Any], PossibleStep | None] | None = None,
    ) -> None:
        """Record a call that has returned.

        Parameters
        ----------
        y
            What it returned.
        x
            What it was given, for the user's own tests.
        model
            For what its layers say about its outputs.
        training_step
            Given model and output: the sign of a training step, where the call may turn out to be
            the forward half of one.
        """
        seconds = perf_counter() - self._start
        recorder = self._recorder
        try:
            found = recorder.reader.read(y, model)
            if found is None:
                return  # it was traced or built: no prediction, and its span is never ended
            step = training_step(model, y) if training_step is not None else None
            if step is not None:
                self._wait_and_see(step, found, seconds, x, y)
                return
            recorder.count(self._method, found, x, y)
            recorder.duration.record(seconds, recorder.duration_attributes[self._method])
            self._end_span()
        except Exception:
            what = f"{recorder.name}: a {self._method} that is not recorded"
            recorder.failed("internal", what, subject="stop")
        finally:
            self._leave_span()

    def fail(self, error: BaseException) -> None:
        """Record a call that has raised."""
        seconds = perf_counter() - self._start
        recorder = self._recorder
        try:
            error_type = type(error).__qualname__
            attributes = {**recorder.duration_attributes[self._method], ERROR_TYPE: error_type}
            recorder.duration.record(seconds, attributes)
            if self._span is not None:
                self._span.set_attribute(ERROR_TYPE, error_type)
                self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
                self._span.record_exception(error)
            self._end_span()
        except Exception:
            what = f"{recorder.name}: a {self._method} that failed is not recorded"
            recorder.failed("internal", what, subject="fail")
        finally:
            self._leave_span()

    def _wait_and_see(
        self, step: PossibleStep, found: Found, seconds: float, x: Any, y: Any
    ) -> None:
        """Leave open whether a call was a prediction or the forward half of a training step."""
        recorder, method, context, ended = (
            *(self._recorder, self._method),
            *(otel_context.get_current(), time_ns()),
        )
        tested = (x, y) if recorder.tests else (None, None)  # else they are not kept alive

        def count_now() -> None:
            recorder.count(method, found, *tested)
            recorder.duration.record(seconds, recorder.duration_attributes[method], context)
            self._end_span(ended)

        recorder.pending.until_no_training(step.unchanged, step.output, count_now)

    def _start_span(self, tracer: trace.Tracer) -> None:
        recorder = self._recorder
        try:
            attributes = {**recorder.attributes, METHOD: self._method}
            name = f"{self._method} {recorder.name}"
            self._span = tracer.start_span(name, attributes=attributes)
            self._token = otel_context.attach(trace.set_span_in_context(self._span))
        except Exception:
            what = f"{recorder.name}: a span could not be started"
            recorder.failed("internal", what, subject="span")

    def _end_span(self, at: int | None = None) -> None:
        """End the span, at a time in nanoseconds since the epoch; now if None."""
        if self._span is not None:
            self._span.end(at)

    def _leave_span(self) -> None:
        """Make the span before it the current one again."""
        if self._token is not None:
            otel_context.detach(self._token)
