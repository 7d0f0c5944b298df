"""Watch what a Keras model predicts, in an OpenTelemetry stack.

otel_drift times every prediction of a Keras 3 model, compares what it predicts with a baseline,
and records both as OpenTelemetry metrics. Its detector of drift comes with a promise: at most one
false alarm in 10 million predictions, on average. That is proved, and nothing has to be calibrated.

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
    from otel_drift.baselines.baseline import (
        Baseline,
        baselines_from_model,
        load_baselines,
        save_baselines,
    )
    from otel_drift.drift.alarm import Alarm
    from otel_drift.drift.chi_square import chi_square_test
    from otel_drift.drift.monitor import DriftMonitor, DriftSnapshot
    from otel_drift.drift.sequential import SequentialDetector
    from otel_drift.fleet.detector import FleetDetector
    from otel_drift.keras.callbacks import DriftBaseline, TrainingMetrics
    from otel_drift.keras.instrumentor import (
        KerasInstrumentor,
        instrument_model,
        uninstrument_model,
    )
    from otel_drift.outputs.decision import Decision
    from otel_drift.telemetry.session import watch

__all__ = [
    "Alarm",
    "Baseline",
    "Decision",
    "DriftBaseline",
    "DriftMonitor",
    "DriftSnapshot",
    "FleetDetector",
    "KerasInstrumentor",
    "SequentialDetector",
    "TrainingMetrics",
    "__version__",
    "baselines_from_model",
    "chi_square_test",
    "instrument_model",
    "load_baselines",
    "save_baselines",
    "uninstrument_model",
    "watch",
]

_MODULES = {
    "Alarm": "drift.alarm",
    "Baseline": "baselines.baseline",
    "Decision": "outputs.decision",
    "DriftBaseline": "keras.callbacks",
    "DriftMonitor": "drift.monitor",
    "DriftSnapshot": "drift.monitor",
    "FleetDetector": "fleet.detector",
    "KerasInstrumentor": "keras.instrumentor",
    "SequentialDetector": "drift.sequential",
    "TrainingMetrics": "keras.callbacks",
    "baselines_from_model": "baselines.baseline",
    "chi_square_test": "drift.chi_square",
    "instrument_model": "keras.instrumentor",
    "load_baselines": "baselines.baseline",
    "save_baselines": "baselines.baseline",
    "uninstrument_model": "keras.instrumentor",
    "watch": "telemetry.session",
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
