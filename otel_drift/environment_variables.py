"""The environment variables, for programs that are instrumented without code.

Each is also a flag of ``opentelemetry-instrument``: ``OTEL_PYTHON_KERAS_BASELINE`` is
``--keras_baseline``. A value that makes no sense is reported once, and the default is used.
"""

OTEL_PYTHON_KERAS_BASELINE = "OTEL_PYTHON_KERAS_BASELINE"
"""
Where the baseline is: a file, a folder that holds ``<model name>.baseline.json`` for each model, or
``first:10000`` to take the first 10,000 predictions of this process as the baseline. By default the
file beside the model that was loaded: ``digits.baseline.json`` for ``digits.keras``.
"""

OTEL_PYTHON_KERAS_MODEL_NAME = "OTEL_PYTHON_KERAS_MODEL_NAME"
"""
What ``keras.model.name`` says, for a program with one model. By default the name of the file it was
loaded from, or of its folder where the file's name is one that any model has (``model.keras``),
else ``model.name``.
"""

OTEL_PYTHON_KERAS_MODEL_VERSION = "OTEL_PYTHON_KERAS_MODEL_VERSION"
"""
What ``keras.model.version`` says. By default the numbered folder that the model was loaded from
(``digits/7/model.keras``), else a digest of its baseline.
"""

OTEL_PYTHON_KERAS_TOLERANCE = "OTEL_PYTHON_KERAS_TOLERANCE"
"""
Relative change of a class's share that does not matter, above 0 and below 1. Default 0.2.
"""

OTEL_PYTHON_KERAS_AVERAGE_RUN_LENGTH = "OTEL_PYTHON_KERAS_AVERAGE_RUN_LENGTH"
"""
Predictions per false alarm that the sequential detector promises, 100 or more. Default 10000000.
``otel-drift average-run-length`` turns traffic and pages a quarter into it.
"""

OTEL_PYTHON_KERAS_DECISION = "OTEL_PYTHON_KERAS_DECISION"
"""
How a row of the output becomes a class: ``argmax``, ``threshold:0.5``, ``multilabel:0.5`` or
``label``. By default what the baseline says, else what the output's shape and the last layer's
activation leave no doubt about.
"""

OTEL_PYTHON_KERAS_OUTPUTS = "OTEL_PYTHON_KERAS_OUTPUTS"
"""
A function of the program, as ``module:function``, that turns what the model returns into labels.
"""

OTEL_PYTHON_KERAS_DRIFT_FUNCTION = "OTEL_PYTHON_KERAS_DRIFT_FUNCTION"
"""
A drift test of the program, as ``module:function``, that is given inputs and outputs of each
prediction and returns a p-value and a statistic, or None. It runs in a thread of its own.
"""

OTEL_PYTHON_KERAS_TRACES = "OTEL_PYTHON_KERAS_TRACES"
"""
Whether there is a span for each prediction: ``true`` or ``false``. Default ``true``.
"""
