"""The span around a prediction.

It is the current span while the model runs, so that what the model calls nests in it, and while the
duration is recorded, so that the histogram's exemplars carry its trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_drift.instruments import ERROR_TYPE, METHOD, MODEL

if TYPE_CHECKING:
    from otel_drift.recorder import Recorder


class PredictionSpan:
    """One span, or none where spans are switched off; nothing here raises but `end`.

    Parameters
    ----------
    recorder
        Of the model.
    method
        ``predict``, ``predict_on_batch`` or ``call``.
    """

    __slots__ = ("_span", "_token")

    def __init__(self, recorder: Recorder, method: str) -> None:
        self._span = self._token = None
        if recorder.tracer is None:
            return
        try:
            self._span = recorder.tracer.start_span(
                f"{method} {recorder.name}", attributes={MODEL: recorder.name, METHOD: method}
            )
            self._token = otel_context.attach(trace.set_span_in_context(self._span))
        except Exception:
            recorder.failed("internal", f"{recorder.name}: a span could not be started")

    def leave(self) -> None:
        """Make the span before it the current one again."""
        if self._token is not None:
            otel_context.detach(self._token)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """End the span; one that is never ended is never exported.

        Parameters
        ----------
        error
            What the model raised.
        at
            When it ended, in nanoseconds since the epoch; now if None.
        """
        if self._span is None:
            return
        if error is not None:
            self._span.set_attribute(ERROR_TYPE, type(error).__qualname__)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
            self._span.record_exception(error)
        self._span.end(at)
