# ruff: noqa: E501
"""The alerts: when they fire and what they say."""

from __future__ import annotations

from prometheus.definitions import (
    BASELINES_DIFFER,
    BY_OUTPUT,
    DISTRIBUTION_SHIFTED,
    DRIFT_DETECTED,
    FIVE_MINUTES,
    INSTRUMENTATION_ERRORS,
    INVALID_PREDICTIONS,
    INVALID_SHARE,
    OUT_OF_BAND,
    OWN_ERRORS,
    SHARE,
    STATE,
    UNSETTLED,
)
from prometheus.rule import Alert

DRIFT_IS_DETECTED = Alert(
    DRIFT_DETECTED,
    """
    No `for`: the threshold is the promise already. No keep_firing_for: the detector decides in predictions, not
    minutes, when drift has ended, and last_over_time bridges 5 minutes of missing data.
    """,
    f"{STATE} > 0",
    summary="""
        {{ $labels.keras_model_name }}: predictions have drifted from their baseline
    """,
    description="""
        {{ $output := printf "keras_model_name=%q,keras_model_output=%q" $labels.keras_model_name $labels.keras_model_output -}}
        Output {{ $labels.keras_model_output }} of model {{ $labels.keras_model_name }} no longer predicts
        what its baseline says
        {{- with printf "output:keras_prediction_drift_onset_seconds:min{%s}" $output | query }}, since about
        {{ . | first | value | humanizeTimestamp }}
        {{- end }}.
        {{- range $i, $class := printf "topk(3, abs(class:keras_prediction_drift_share:avg{%s} - on (keras_prediction_class) group_right () class:keras_prediction_baseline_proportion:avg{%s}))" $output $output | query }}
        {{- if $i }};{{ else }} Moved most:{{ end }} class {{ $class.Labels.keras_prediction_class }} from
        {{ with printf "class:keras_prediction_baseline_proportion:avg{%s,keras_prediction_class=%q}" $output $class.Labels.keras_prediction_class | query }}{{ . | first | value | humanizePercentage }}{{ end }} to
        about {{ with printf "class:keras_prediction_drift_share:avg{%s,keras_prediction_class=%q}" $output $class.Labels.keras_prediction_class | query }}{{ . | first | value | humanizePercentage }}{{ end }}
        {{- else }}
        {{- range $i, $class := printf "topk(3, topk by (keras_prediction_class) (1, (class:keras_predictions:increase{%s} - class:keras_predictions:expected{%s}) ^ 2 / (class:keras_predictions:expected{%s} + 1)) > 9)" $output $output $output | query }}
        {{- if $i }};{{ else }} Moved most:{{ end }} class {{ $class.Labels.keras_prediction_class }} from
        {{ with printf "class:keras_prediction_baseline_proportion:avg{%s,keras_prediction_class=%q}" $output $class.Labels.keras_prediction_class | query }}{{ . | first | value | humanizePercentage }}{{ end }} to
        {{ with printf "class:keras_predictions:share{%s,keras_prediction_class=%q,window=%q}" $output $class.Labels.keras_prediction_class $class.Labels.window | query }}{{ . | first | value | humanizePercentage }}{{ end }} in
        {{ $class.Labels.window }}
        {{- else }} The counters do not show yet which classes moved
        {{- end }}
        {{- end }}.
        {{- with printf "output:keras_prediction_drift_evidence:log10{%s}" $output | query }}
        Evidence now 10^{{ . | first | value | printf "%.1f" }}
        {{- with printf "output:keras_prediction_drift_threshold:max{%s}" $output | query }}, threshold
        10^{{ . | first | value | printf "%.1f" }}
        {{- end }} (it starts afresh at each alarm).
        {{- end }}
    """,
)

DISTRIBUTION_HAS_SHIFTED = Alert(
    DISTRIBUTION_SHIFTED,
    """
    keep_firing_for bridges gaps and a class that wavers about its threshold.
    """,
    f"max by ({BY_OUTPUT}) ({OUT_OF_BAND})",
    summary="""
        {{ $labels.keras_model_name }}: classes are predicted more or less often than tolerated
    """,
    description="""
        {{ $output := printf "keras_model_name=%q,keras_model_output=%q" $labels.keras_model_name $labels.keras_model_output -}}
        Over all replicas, classes of output {{ $labels.keras_model_output }} of model {{ $labels.keras_model_name }}
        are outside their tolerated band:
        {{- range $i, $class := printf "topk(3, topk by (keras_prediction_class) (1, class:keras_predictions:out_of_band{%s}))" $output | query }}
        {{- if $i }};{{ end }} class {{ $class.Labels.keras_prediction_class }} from
        {{ with printf "class:keras_prediction_baseline_proportion:avg{%s,keras_prediction_class=%q}" $output $class.Labels.keras_prediction_class | query }}{{ . | first | value | humanizePercentage }}{{ end }} to
        {{ with printf "class:keras_predictions:share{%s,keras_prediction_class=%q,window=%q}" $output $class.Labels.keras_prediction_class $class.Labels.window | query }}{{ . | first | value | humanizePercentage }}{{ end }} in
        {{ $class.Labels.window }} ({{ $class.Value | printf "%.0f" }} sigma beyond the band)
        {{- end }}.
    """,
    timing={"keep_firing_for": "5m"},
)

BASELINES_ARE_DIFFERENT = Alert(
    BASELINES_DIFFER,
    """
    While the baselines differ the windows are not tested: silence that somebody should know of.
    """,
    f"{UNSETTLED} > 0",
    summary="""
        {{ $labels.keras_model_name }}: replicas have different baselines
    """,
    description="""
        For 30 minutes the replicas of model {{ $labels.keras_model_name }} have compared output
        {{ $labels.keras_model_output }} with different baselines. PredictionDistributionShifted is
        silent meanwhile; DriftDetected is not.
    """,
    timing={"for": "30m"},
)

INSTRUMENTATION_FAILS = Alert(
    INSTRUMENTATION_ERRORS,
    "",
    f"{OWN_ERRORS} > 0",
    summary="""
        The instrumentation fails ({{ $labels.error_type }})
        {{- with $labels.keras_model_name }} in {{ . }}{{ end }}
    """,
    description="""
        otel_drift itself failed with {{ $labels.error_type }} (in 15 minutes: {{ $value | printf "%.0f" }}).
        Predictions are unharmed, but drift may go unseen. The application's log has the first failure
        with its traceback.
    """,
)

INVALID_IS_PREDICTED = Alert(
    INVALID_PREDICTIONS,
    """
    Of any model, with a baseline or without.
    """,
    f"""
    max by ({BY_OUTPUT}) (
      {SHARE}{{keras_prediction_class="invalid",window="{FIVE_MINUTES.name}"}}
    ) > {INVALID_SHARE}
    """,
    summary="""
        {{ $labels.keras_model_name }}: predictions are NaN or out of range
    """,
    description="""
        In 5 minutes {{ $value | humanizePercentage }} of what output {{ $labels.keras_model_output }} of model
        {{ $labels.keras_model_name }} predicted was NaN or out of range.
    """,
    timing={"keep_firing_for": "5m"},
)
