"""The adapter for Keras 3: patches the class, and tells `otel_drift.telemetry` of each call.

- `instrumentor`: `KerasInstrumentor`, `instrument_model`, `uninstrument_model`;
- `patch`: the patched methods;
- `models`: which models are recorded, and by which session;
- `loading`: the file that a model came from, and the name and version that follow from it;
- `introspection`, `training_step`: what a model and its backend tell about a call;
- `callbacks`: `DriftBaseline` and `TrainingMetrics`.
"""
