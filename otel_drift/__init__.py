"""Watch what a Keras model predicts, in an OpenTelemetry stack.

otel_drift times every prediction of a Keras 3 model, compares what it predicts with a baseline,
and records both as OpenTelemetry metrics. Its detector of drift comes with a promise: at most one
false alarm in 10 million predictions, on average, proved and not tuned.

There are three ways in, and one behaviour.

*Without code*, in a program that knows nothing of it::

    opentelemetry-instrument python app.py

The baseline of ``digits.keras`` is found in ``digits.baseline.json`` beside it.
`otel_drift.environment_variables` lists the options.

*Every model of a program*::

    from otel_drift import KerasInstrumentor

    KerasInstrumentor().instrument()

*One model*::

    import otel_drift

    otel_drift.instrument_model(model, name="digits", baseline="digits.baseline.json")

Models that are not Keras have a door of their own:

>>> import numpy as np
>>> from otel_drift import Baseline, watch
>>> forest = watch("iris-forest", Baseline.from_counts([50, 50, 50]))
>>> forest.record(np.array([0, 2, 1, 1]))

Nothing here makes a provider, a reader or an exporter: that is the program's, or
``opentelemetry-instrument``'s. Importing this package imports neither NumPy nor Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_drift.package import __version__

if TYPE_CHECKING:
    from otel_drift.baseline import Baseline
    from otel_drift.callbacks import DriftBaseline, TrainingMetrics
    from otel_drift.chi_square import chi_square_test
    from otel_drift.instrumentation import (
        KerasInstrumentor,
        instrument_model,
        uninstrument_model,
    )
    from otel_drift.monitor import DriftMonitor, DriftSnapshot
    from otel_drift.recording import watch
    from otel_drift.sequential import SequentialDetector

__all__ = [
    "Baseline",
    "DriftBaseline",
    "DriftMonitor",
    "DriftSnapshot",
    "KerasInstrumentor",
    "SequentialDetector",
    "TrainingMetrics",
    "__version__",
    "chi_square_test",
    "instrument_model",
    "uninstrument_model",
    "watch",
]

_MODULES = {
    "Baseline": "baseline",
    "DriftBaseline": "callbacks",
    "DriftMonitor": "monitor",
    "DriftSnapshot": "monitor",
    "KerasInstrumentor": "instrumentation",
    "SequentialDetector": "sequential",
    "TrainingMetrics": "callbacks",
    "chi_square_test": "chi_square",
    "instrument_model": "instrumentation",
    "uninstrument_model": "instrumentation",
    "watch": "recording",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
