"""Expressions that several panels share, in terms of the records of ``prometheus/rules``.

>>> print(each_output("model:keras_replicas:count"))
((0 * output:keras_predictions:rate5m + on (keras_model_name) group_left () model:keras_replicas:count)
or on (keras_model_name) label_replace(model:keras_replicas:count, "keras_model_output", "-", "", ""))
"""  # noqa: E501

STATE = "output:keras_prediction_drift:state"
EVIDENCE = "output:keras_prediction_drift_evidence:log10"
THRESHOLD = "output:keras_prediction_drift_threshold:max"
ONSET = "output:keras_prediction_drift_onset_seconds:min"
DETECTED_SHARE = "class:keras_prediction_drift_share:avg"
UNSETTLED = "output:keras_prediction_baseline:unsettled"
MOVED = "output:keras_prediction_baseline:moved"
TRAFFIC = "output:keras_predictions:rate5m"
INCREASE = "output:keras_predictions:increase"
CHI_SQUARE_Z = "output:keras_predictions:chi_square_z"
SHARE = "class:keras_predictions:share"
EXPECTED = "class:keras_predictions:expected"
BAND_Z = "class:keras_predictions:band_z"
OUT_OF_BAND = "class:keras_predictions:out_of_band"
CALLS = "model:keras_predict_duration_seconds:rate5m"
QUANTILE = "model:keras_predict_duration_seconds:quantile5m"
ERRORS = "model:keras_predict_errors:rate5m"
SAMPLES = "model:keras_predict_samples:rate5m"
REPLICAS = "model:keras_replicas:count"
OWN_ERRORS = "model:keras_instrumentation_errors:increase15m"

LINES_AT_MOST = 10
"""Lines in a graph over all models; more could not be told apart."""

FAILED = f"(sum by (keras_model_name) ({ERRORS}) / (sum by (keras_model_name) ({CALLS}) > 0))"
"""Share of calls that raised; absent while there are no calls."""


def highest(record: str, labels: str) -> str:
    """Keep the series of a record that were highest in the time range.

    They are ranked once for the whole range and not at each step, so no line comes and goes.

    Parameters
    ----------
    record
        A plain selector.
    labels
        What tells its series apart.
    """
    over_time = f"max_over_time({record}[$__range] @ end())"
    best = f"topk({LINES_AT_MOST}, max by ({labels}) ({over_time}))"
    return f"max by ({labels}) ({record} and on ({labels}) {best})"


def each_output(expr: str) -> str:
    """Repeat what a model has for each output; a model whose outputs are not known gets a dash."""
    every = f"0 * {TRAFFIC} + on (keras_model_name) group_left () {expr}"
    rest = f'label_replace({expr}, "keras_model_output", "-", "", "")'
    return f"(({every})\nor on (keras_model_name) {rest})"
