"""The alerts: when they fire and what they say."""

from __future__ import annotations

from prometheus.definitions import (
    BASELINE_DESIGN_EFFECT,
    BASELINE_FARTHEST,
    BASELINES_DIFFER,
    BRIDGED,
    BY_OUTPUT,
    DEPENDENT,
    DEPENDENT_FOR,
    DEPENDENT_PREDICTIONS,
    DESIGN_EFFECT,
    DIFFERENT_FOR,
    DISTRIBUTION_SHIFTED,
    DRIFT_DETECTED,
    FIVE_MINUTES,
    INSTRUMENTATION_ERRORS,
    INVALID_PREDICTIONS,
    INVALID_SHARE,
    KEPT_FIRING,
    MODELS,
    MOVED,
    NAMED,
    ONSET,
    OUT_OF_BAND,
    OWN_ERRORS,
    SHARE,
    SHIFTED,
    STATE,
    UNSETTLED,
)
from prometheus.rule_file import Alert


def of_output(record: str) -> str:
    """Query a record of the output that an alert is about, in a template."""
    selector = "keras_model_name=%q,keras_model_output=%q"
    values = "$labels.keras_model_name $labels.keras_model_output"
    return f'printf "{record}{{{selector}}}" {values} | query'


def farthest(record: str) -> str:
    """Query the three series of an output that have the highest values, in a template."""
    selector = "keras_model_name=%q,keras_model_output=%q"
    values = "$labels.keras_model_name $labels.keras_model_output"
    found = f'printf "topk({NAMED}, {record}{{{selector}}})" {values} | query'
    return f'{found} | sortByLabel "instance" | sortByLabel "keras_model_version"'


def classes(record: str) -> str:
    """Tell in a template which classes moved: the beginning of a range over a record of them."""
    found = f'{of_output(record)} | sortByLabel "keras_prediction_class"'
    return "\n".join(
        (
            f"{{{{- range $i, $class := {found} }}}}",
            "{{- if $i }};{{ end }} class {{ .Labels.keras_prediction_class }}",
            "from {{ .Labels.from | humanizePercentage }} to",
            "{{ if not .Labels.window }}about {{ end }}{{ .Value | humanizePercentage }}",
            "{{- with .Labels.window }} in {{ . }}{{ end }}",
        )
    )


DRIFT_IS_DETECTED = Alert(
    DRIFT_DETECTED,
    f"""
    No `for`: the threshold is the promise already. No keep_firing_for: the detector decides in
    predictions, not minutes, when drift has ended, and last_over_time bridges {BRIDGED} of missing
    data.
    """,
    f"{STATE}{MODELS} > 0",
    summary="{{ $labels.keras_model_name }}: predictions have drifted from their baseline",
    description="\n".join(
        (
            "Output {{ $labels.keras_model_output }} of model {{ $labels.keras_model_name }}",
            "no longer predicts what its baseline says",
            f"{{{{- with {of_output(ONSET)} }}}}, since about",
            "{{ . | first | value | humanizeTimestamp }}{{ end }}:",
            classes(MOVED),
            "{{- else }} the counters do not show yet which classes moved",
            "{{- end }}.",
        )
    ),
)

DISTRIBUTION_HAS_SHIFTED = Alert(
    DISTRIBUTION_SHIFTED,
    "keep_firing_for bridges gaps and a class that wavers about its threshold.",
    f"max by ({BY_OUTPUT}) ({OUT_OF_BAND}{MODELS})",
    summary="""
    {{ $labels.keras_model_name }}: classes are predicted more or less often than tolerated
    """,
    description="\n".join(
        (
            "Over all replicas, classes of output {{ $labels.keras_model_output }}",
            "of model {{ $labels.keras_model_name }} are outside their tolerated band,",
            'by up to {{ $value | printf "%.0f" }} standard deviations:',
            classes(SHIFTED),
            "{{- end }}.",
        )
    ),
    timing={"keep_firing_for": KEPT_FIRING},
)

BASELINES_ARE_DIFFERENT = Alert(
    BASELINES_DIFFER,
    """
    While the baselines differ the windows are not tested: silence that somebody should know of.
    """,
    f"{UNSETTLED}{MODELS} > 0",
    summary="{{ $labels.keras_model_name }}: replicas have different baselines",
    description="\n".join(
        (
            "For 30 minutes the replicas of model {{ $labels.keras_model_name }} have compared",
            "output {{ $labels.keras_model_output }} with different baselines",
            f"{{{{- range $i, $replica := {farthest(BASELINE_FARTHEST)} }}}}",
            "{{- if $i }},{{ else }}; farthest from the mean of all:{{ end }}",
            "{{ with .Labels.instance }}{{ . }}{{ else }}a replica without instance{{ end }}",
            "{{- with .Labels.keras_model_version }} of version {{ . }}{{ end }}",
            "by {{ .Value | humanizePercentage }}",
            "{{- end }}.",
            f"{DISTRIBUTION_SHIFTED.name} is silent meanwhile; {DRIFT_DETECTED.name} is not.",
        )
    ),
    timing={"for": DIFFERENT_FOR},
)

PREDICTIONS_ARE_DEPENDENT = Alert(
    DEPENDENT_PREDICTIONS,
    "The promise on false alarms is proved for less dependence than there is.",
    f"""
    {DESIGN_EFFECT}
      > {DEPENDENT} * (
        {BASELINE_DESIGN_EFFECT}
        or {DESIGN_EFFECT} ^ 0
      )
    """,
    summary="""
    {{ $labels.keras_model_name }}: predictions depend on each other more than the baseline allows
    """,
    description="\n".join(
        (
            "Of what output {{ $labels.keras_model_output }} of model",
            "{{ $labels.keras_model_name }} predicts, about",
            '{{ $value | printf "%.0f" }} predictions say as much as one. Drift is found so much',
            "later, and the promise on false alarms is no longer exact. Calibrate the baseline on",
            "a log of predictions.",
        )
    ),
    timing={"for": DEPENDENT_FOR},
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
    otel_drift itself failed with {{ $labels.error_type }} (in 15 minutes:
    {{ $value | printf "%.0f" }}). Predictions are unharmed, but drift may go unseen. The
    application's log has the first failure with its traceback.
    """,
)

INVALID_IS_PREDICTED = Alert(
    INVALID_PREDICTIONS,
    "Of any model, with a baseline or without.",
    f"""
    max by ({BY_OUTPUT}) (
      {SHARE}{{keras_prediction_class="invalid",window="{FIVE_MINUTES.name}"}}
    ) > {INVALID_SHARE}
    """,
    summary="{{ $labels.keras_model_name }}: predictions are NaN or out of range",
    description="""
    In 5 minutes {{ $value | humanizePercentage }} of what output
    {{ $labels.keras_model_output }} of model {{ $labels.keras_model_name }} predicted was NaN
    or out of range.
    """,
    timing={"keep_firing_for": KEPT_FIRING},
)
