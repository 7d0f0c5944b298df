"""Names of attributes, and the scope of everything that is recorded."""

from __future__ import annotations

SCOPE = "otel_drift"
MODEL = "keras.model.name"
VERSION = "keras.model.version"
OUTPUT = "keras.model.output"
CLASS = "keras.prediction.class"
METHOD = "keras.method"
SCOPE_OF_PREDICTIONS = "keras.prediction.scope"
"""``fleet`` on what the fleet's detector says; a process's own series have no such attribute."""
MEASURE = "keras.prediction.drift.measure"
ERROR_TYPE = "error.type"
DRIFT_EVENT = "keras.prediction.drift"
