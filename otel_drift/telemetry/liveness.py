"""Whether there is an OpenTelemetry SDK behind what the API gave us.

Without one, the API gives instruments and tracers that do nothing; they come alive if an SDK is set
later. Until then nothing need be recorded, and nothing is.

>>> from opentelemetry import metrics, trace
>>> instrument_is_live(metrics.NoOpMeter("none").create_histogram("seconds"))
False
>>> tracer_is_live(trace.NoOpTracer())
False
"""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics, trace


def instrument_is_live(histogram: Any) -> bool:
    """Whether what is recorded into a histogram goes anywhere.

    The API has no public way to ask its proxies. Where one does not tell, it is taken to be live.
    """
    real = getattr(histogram, "_real_instrument", histogram)
    return real is not None and not isinstance(real, metrics.NoOpHistogram)


def tracer_is_live(tracer: Any) -> bool:
    """Whether the spans of a tracer go anywhere; taken to be so where it does not tell."""
    if isinstance(tracer, trace.ProxyTracer):
        return getattr(trace, "_TRACER_PROVIDER", tracer) is not None
    return not isinstance(tracer, trace.NoOpTracer)
