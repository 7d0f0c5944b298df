"""Names of attributes, and the scope of everything that is recorded."""

from __future__ import annotations

SCOPE = "otel_drift"
MODEL = "keras.model.name"
VERSION = "keras.model.version"
OUTPUT = "keras.model.output"
CLASS = "keras.prediction.class"
METHOD = "keras.method"
MEASURE = "keras.prediction.drift.measure"
ERROR_TYPE = "error.type"
DRIFT_EVENT = "keras.prediction.drift"
