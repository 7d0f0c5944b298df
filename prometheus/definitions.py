"""What is monitored: every name, window, threshold and severity, and where the runbook is.

The rules (`prometheus`) and the dashboards (`grafana`) are written from what stands here, so that
a threshold is changed, or a record renamed, in one line:

>>> [window.name for window in WINDOWS]
['1m', '5m', '1h', '1d']
>>> print(in_window(SHARE, "5m"))
class:keras_predictions:share{window="5m"}
>>> print(DRIFT_DETECTED.runbook)
https://github.com/otel-drift/otel-drift/blob/main/docs/runbook.md#driftdetected
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RUNBOOK = "https://github.com/otel-drift/otel-drift/blob/main/docs/runbook.md"
"""Has a section for each alert."""


# What is exported. The names are those that OpenTelemetry's instruments in otel_drift get in
# Prometheus; of a histogram, the name without _bucket, _count or _sum.


class Exported(StrEnum):
    """The series that applications export, as Prometheus names them."""

    DURATION = "keras_predict_duration_seconds"
    SAMPLES = "keras_predict_samples_total"
    PREDICTIONS = "keras_predictions_total"
    BASELINE_PROPORTION = "keras_prediction_baseline_proportion"
    BASELINE_LOWER = "keras_prediction_baseline_lower"
    BASELINE_UPPER = "keras_prediction_baseline_upper"
    BASELINE_SIZE = "keras_prediction_baseline_size"
    BASELINE_DESIGN_EFFECT = "keras_prediction_baseline_design_effect"
    DESIGN_EFFECT = "keras_prediction_design_effect"
    DRIFT_P_VALUE = "keras_prediction_drift_p_value"
    DRIFT_TEST_P_VALUE = "keras_prediction_drift_test_p_value"
    DRIFT_EVIDENCE = "keras_prediction_drift_evidence"
    DRIFT_THRESHOLD = "keras_prediction_drift_threshold"
    DRIFT_ACTIVE = "keras_prediction_drift_active"
    DRIFT_ONSET = "keras_prediction_drift_onset_seconds"
    DRIFT_SHARE = "keras_prediction_drift_share"
    INSTRUMENTATION_ERRORS = "keras_instrumentation_errors_total"
    TRAINING_LOSS = "keras_training_loss"
    TRAINING_METRIC = "keras_training_metric"
    TRAINING_LEARNING_RATE = "keras_training_learning_rate"
    TRAINING_EPOCHS = "keras_training_epochs_total"
    TRAINING_STEPS = "keras_training_steps_total"
    TRAINING_EPOCH_DURATION = "keras_training_epoch_duration_seconds"


INVALID = '{keras_prediction_class="invalid"}'
"""Selects the class of predictions that are NaN or out of range, which every output has."""

FLEET = '{keras_prediction_scope="fleet"}'
"""Selects what the fleet's detector (``otel-drift fleet``) says."""
PROCESSES = '{keras_prediction_scope!="fleet"}'
"""Selects what the processes say: they have no such label."""

MODELS = '{keras_model_name!=""}'
"""Selects what is about a model: a stranger's metric of the same name raises no alert."""


# Levels: by what a record is told apart, beside its window.

BY_MODEL = "keras_model_name"
BY_VERSION = "keras_model_name, keras_model_version"
BY_OUTPUT = "keras_model_name, keras_model_output"
BY_OUTPUT_VERSION = "keras_model_name, keras_model_version, keras_model_output"
BY_CLASS = "keras_model_name, keras_model_output, keras_prediction_class"
BY_WINDOW = "keras_model_name, keras_model_output, window"


# Records of the baseline

BASELINE_SHARE = "class:keras_prediction_baseline_proportion:avg"
LOWER = "class:keras_prediction_baseline_lower:min"
UPPER = "class:keras_prediction_baseline_upper:max"
REMEMBERED_SHARE = "class:keras_prediction_baseline_proportion:remembered"
BASELINE_SIZE = "output:keras_prediction_baseline_size:min"
BASELINE_DESIGN_EFFECT = "output:keras_prediction_baseline_design_effect:max"
DESIGN_EFFECT = "output:keras_prediction_design_effect:max"
UNSETTLED = "output:keras_prediction_baseline:unsettled"
BASELINE_MOVED = "output:keras_prediction_baseline:moved"
BASELINE_DISTANCE = "replica:keras_prediction_baseline:distance"
BASELINE_FARTHEST = "replica:keras_prediction_baseline:farthest"

# Records of the windows

COUNT = "class:keras_predictions:increase"
TOTAL = "output:keras_predictions:increase"
EFFECTIVE = "output:keras_predictions:effective"
SHARE = "class:keras_predictions:share"
TESTED = "output:keras_predictions:tested"
SHARE_OUTSIDE = "class:keras_predictions:share_outside"
BAND_EDGE = "class:keras_predictions:band_edge"
BAND_Z = "class:keras_predictions:band_z"
SHARE_INSIDE = "class:keras_predictions:share_inside"
OUT_OF_BAND = "class:keras_predictions:out_of_band"
SHIFTED = "class:keras_predictions:moved"

# Records of the detector

EVIDENCE = "output:keras_prediction_drift_evidence:log10"
THRESHOLD = "output:keras_prediction_drift_threshold:max"
ACTIVE = "output:keras_prediction_drift_active:max"
ONSET = "output:keras_prediction_drift_onset_seconds:min"
DETECTED_SHARE = "class:keras_prediction_drift_share:avg"
STATE = "output:keras_prediction_drift:state"
MOVED = "class:keras_prediction_drift:moved"

# Records for the eye

EXPECTED = "class:keras_predictions:expected"
SIZE_RATIO = "output:keras_predictions:baseline_size_ratio"
CHI_SQUARE = "output:keras_predictions:chi_square"
DEGREES_OF_FREEDOM = "output:keras_predictions:degrees_of_freedom"
CHI_SQUARE_Z = "output:keras_predictions:chi_square_z"
TVD = "output:keras_predictions:tvd"
PSI = "output:keras_predictions:psi"
CRAMERS_V = "output:keras_predictions:cramers_v"
MEAN_P_VALUE = "replica:keras_prediction_drift_p_value:avg5m"

# Records of serving

SERVING_WINDOW = "5m"
"""Of rates, quantiles and means."""
ERRORS_WINDOW = "15m"
"""A failure of the instrumentation is an alert for so long."""
QUANTILES = ("0.5", "0.95", "0.99")

CALLS = f"model:keras_predict_duration_seconds:rate{SERVING_WINDOW}"
CALL_BUCKETS = f"model:keras_predict_duration_seconds_bucket:rate{SERVING_WINDOW}"
QUANTILE = f"model:keras_predict_duration_seconds:quantile{SERVING_WINDOW}"
ERRORS = f"model:keras_predict_errors:rate{SERVING_WINDOW}"
SAMPLES = f"model:keras_predict_samples:rate{SERVING_WINDOW}"
REPLICAS = "model:keras_replicas:count"
VERSION_REPLICAS = "version:keras_replicas:count"
VERSIONS = "model:keras_versions:count"
TRAFFIC = f"output:keras_predictions:rate{SERVING_WINDOW}"
OWN_ERRORS = f"model:keras_instrumentation_errors:increase{ERRORS_WINDOW}"


# Windows


@dataclass(frozen=True)
class Window:
    """A time over which the counters of all replicas are compared with the baseline."""

    name: str
    """As PromQL writes it; also the value of the label `window`."""
    deviations: float
    """How far beyond its band a class must be for PredictionDistributionShifted."""
    settled_after: str
    """How long after a change of the baseline it holds nothing from before."""


MINUTE = Window("1m", 6, "90s")
FIVE_MINUTES = Window("5m", 5, "6m")
HOUR = Window("1h", 5, "70m")
DAY = Window("1d", 5, "1d")
SHORT_WINDOWS = (MINUTE, FIVE_MINUTES)
"""Counted from what is exported, at each evaluation."""
LONG_WINDOWS = (HOUR, DAY)
"""Added up from shorter ones, once a minute."""
WINDOWS = (*SHORT_WINDOWS, *LONG_WINDOWS)


def in_window(record: str, *names: str) -> str:
    """Select a record in windows, by their names."""
    match = "=~" if len(names) > 1 else "="
    return f'{record}{{window{match}"{"|".join(names)}"}}'


# Thresholds

BRIDGED = "5m"
"""Gaps in the data up to this long are bridged: the last sample counts on."""
DIFFERENCE = 0.05
"""Replicas' baselines differ if one expects so much more of a class than they do on average."""
CHANGE = 0.1
"""A baseline has changed if a class has moved by so much of its share."""
DEPENDENT = 1.5
"""Times the baseline's design effect from which on predictions depend on each other too much."""
CLEARED = 0.5
"""A sum of evidence that has fired ends below so much of the threshold."""
CELL = 5
"""Classes expected less often are one cell of the chi-square test."""
BACK_INSIDE = 3
"""Standard errors by which a shorter window must show a class inside its band to end a longer."""
NAMED = 3
"""Classes at most that an alert names."""
NOTICEABLE = 3
"""Standard deviations from the baseline at which a class has moved, once drift is known."""
INVALID_SHARE = 0.01
"""Of predictions that are NaN or out of range."""
DEPENDENT_FOR = "15m"
"""Longer than a drift disturbs the measurement of the design effect."""
DIFFERENT_FOR = "30m"
"""Longer than a rolling update takes: then different baselines are an alert."""
KEPT_FIRING = "5m"
"""How long an alert outlives its condition where that may waver."""


# Alerts


@dataclass(frozen=True)
class Alarm:
    """An alert's name and how urgent it is."""

    name: str
    severity: str

    @property
    def runbook(self) -> str:
        """What to do when it fires."""
        return f"{RUNBOOK}#{self.name.lower()}"


DRIFT_DETECTED = Alarm("DriftDetected", "critical")
DISTRIBUTION_SHIFTED = Alarm("PredictionDistributionShifted", "warning")
BASELINES_DIFFER = Alarm("PredictionBaselinesDiffer", "info")
DEPENDENT_PREDICTIONS = Alarm("PredictionsDependent", "info")
INSTRUMENTATION_ERRORS = Alarm("KerasInstrumentationErrors", "warning")
INVALID_PREDICTIONS = Alarm("InvalidPredictions", "warning")
ALARMS = (
    DRIFT_DETECTED,
    DISTRIBUTION_SHIFTED,
    BASELINES_DIFFER,
    DEPENDENT_PREDICTIONS,
    INSTRUMENTATION_ERRORS,
    INVALID_PREDICTIONS,
)
