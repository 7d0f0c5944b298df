"""The dashboard *Models*: every model at a glance, and which of them has drifted."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.dashboard import FieldColorModeId, Threshold

from grafana.expressions import FAILED, each_output, highest
from grafana.look import (
    ALERTS,
    BLUE,
    DEVIATIONS,
    ORANGE,
    VERMILLION,
    Alerts,
    bars,
    board,
    columns,
    graph,
    grid,
    in_order,
    limit,
    lines,
    now,
    number,
    option,
    thresholds,
    worded,
)
from grafana.one_model import UID as ONE_MODEL
from prometheus.definitions import (
    BY_CLASS,
    BY_MODEL,
    BY_OUTPUT,
    CALLS,
    DISTRIBUTION_SHIFTED,
    DRIFT_DETECTED,
    ERRORS,
    EVIDENCE,
    ONSET,
    OUT_OF_BAND,
    QUANTILE,
    QUANTILES,
    REPLICAS,
    STATE,
    THRESHOLD,
    TRAFFIC,
    UNSETTLED,
    VERSIONS,
)

UID = "otel-drift-models"
PERCENTILES = {f"p{float(value):.0%}".removesuffix("%"): value for value in QUANTILES}
DRIFT = {0: ("no drift", BLUE), 1: ("DRIFT", VERMILLION)}


def models_dashboard() -> Dashboard:
    """Make the dashboard."""
    return (
        board(UID, "Models", "All models at a glance: which drifted, since when, how sure we are.")
        .annotation(Alerts())
        .with_row(Row("Now"))
        .with_panel(drifting())
        .with_panel(firing())
        .with_panel(without_baseline())
        .with_panel(predictions_per_second())
        .with_panel(failing())
        .with_panel(replicas())
        .with_panel(all_models())
        .with_row(Row("Drift"))
        .with_panel(alerts())
        .with_panel(evidence())
        .with_panel(traffic())
        .with_row(Row("Serving"))
        .with_panel(latency())
        .with_panel(failures())
        .with_panel(replicas_over_time())
    )


def drifting() -> Any:
    """Count the models whose detector says that they drift."""
    return (
        number(
            "Models drifting",
            "Models whose detector says that predictions have drifted from their baseline "
            f"(the alert {DRIFT_DETECTED.name}). Look for DRIFT in the table below and follow the "
            "model's name.",
            now(f"sum(max by ({BY_MODEL}) ({STATE}))"),
        )
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds([Threshold(None, BLUE), Threshold(1, VERMILLION)]))
        .no_value("No model has a baseline")
    )


def firing() -> Any:
    """Count the alerts on predictions."""
    alerting = f'ALERTS{{alertstate="firing",alertname=~"{ALERTS}"}}'
    return (
        number(
            "Alerts firing",
            "Alerts of this project's rules, whatever their severity. docs/runbook.md says what to "
            "do for each.",
            now(f"count({alerting}) or 0 * count({TRAFFIC})"),
        )
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds([Threshold(None, BLUE), Threshold(1, VERMILLION)]))
    )


def without_baseline() -> Any:
    """Count the models that nothing is compared with."""
    compared = f"count by ({BY_MODEL}) ({THRESHOLD})"
    return (
        number(
            "Models without baseline",
            "Models whose predictions are counted but compared with nothing, so that drift cannot "
            "be seen. Save a baseline beside the model, or name one.",
            now(
                f"count(count by ({BY_MODEL}) ({TRAFFIC}) unless {compared})"
                f" or 0 * count({TRAFFIC})"
            ),
        )
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds([Threshold(None, BLUE), Threshold(1, ORANGE)]))
    )


def predictions_per_second() -> Any:
    """Give the traffic of all models."""
    return number(
        "Predictions",
        "Predictions per second of all models, over the last 5 minutes. A model with several "
        "outputs counts once for each.",
        now(f"sum({TRAFFIC})"),
    ).unit("cps")


def failing() -> Any:
    """Give the share of calls that raised."""
    return number(
        "Calls that fail",
        "Share of all prediction calls of the last 5 minutes that raised an exception.",
        now(f"sum({ERRORS}) / (sum({CALLS}) > 0)"),
    ).unit("percentunit")


def replicas() -> Any:
    """Count the processes."""
    return number(
        "Replicas",
        "Processes that serve models and report now; a process with two models counts twice. "
        "Fewer than you run: see Replicas below.",
        now(f"sum({REPLICAS})"),
    )


def all_models() -> Any:
    """Make the table that has a row for each model output."""
    drift = {
        "Drift": f"max by ({BY_OUTPUT}) ({STATE})",
        "Since": f"1000 * min by ({BY_OUTPUT}) ({ONSET})",
        "Evidence": f"clamp_max({EVIDENCE} / {THRESHOLD}, 1)",
        "Beyond band": (f"topk by ({BY_OUTPUT}) (1, max by ({BY_CLASS}) ({OUT_OF_BAND}))"),
        "Baseline": f"max by ({BY_OUTPUT}) ({UNSETTLED})",
    }
    quantile = f'max by ({BY_MODEL}) ({QUANTILE}{{quantile="%s"}})'
    serving = {
        "Predictions": f"sum by ({BY_OUTPUT}) ({TRAFFIC})",
        **{name: each_output(quantile % value) for name, value in PERCENTILES.items()},
        "Failing": each_output(FAILED),
        "Replicas": each_output(f"max by ({BY_MODEL}) ({REPLICAS})"),
        "Versions": each_output(f"max by ({BY_MODEL}) ({VERSIONS})"),
    }
    panel = grid(
        "All models",
        "A row for each output of each model; its name leads to the dashboard of the model. "
        "Drift: the detector's verdict, and since when. Evidence: how far it is on the way to the "
        "threshold; a healthy model idles a little over half-way, one in DRIFT is at 100 %. Most "
        "moved: the class farthest beyond its tolerated band in any window, by so many standard "
        "deviations. Baseline: whether replicas agree on it; while they do not, windows are not "
        "compared. Versions: how many are served side by side; the row is about all of "
        "them, and the dashboard of the model names them. A row that is missing belongs to a model "
        "that has reported nothing for 5 minutes.",
        now(columns(drift)),
        now(columns(serving), ref_id="B"),
        height=12,
    )
    shown = {
        "keras_model_name": "Model",
        "keras_model_output": "Output",
        "Drift": "Drift",
        "Since": "Since",
        "Evidence": "Evidence of threshold",
        "keras_prediction_class": "Most moved class",
        "Beyond band": "Beyond band",
        **{name: name for name in serving},
        "Baseline": "Baseline",
    }
    for name, properties in _formats().items():
        panel = panel.override_by_name(name, properties)
    return in_order(panel, shown).sort_by(
        [common.TableSortByFieldState().display_name("Drift").desc(True)]
    )


def _formats() -> dict[str, list[Any]]:
    link = {
        "title": "Open the model",
        "url": f"/d/{ONE_MODEL}?${{datasource:queryparam}}&var-model=${{__data.fields.Model}}"
        "&var-output=${__data.fields.Output}&${__url_time_range}",
    }
    text = {"type": "color-text"}
    settled = {0: ("replicas agree", BLUE), 1: ("DIFFERS OR CHANGED", ORANGE)}
    seconds = [option("unit", "s")]
    return {
        "Model": [option("links", [link])],
        "Drift": [
            option("mappings", worded(DRIFT, absent="no baseline")),
            option("custom.cellOptions", text),
        ],
        "Since": [option("unit", "dateTimeFromNow")],
        "Evidence of threshold": [
            option("unit", "percentunit"),
            option("min", 0),
            option("max", 1),
            option("custom.cellOptions", {"type": "gauge", "mode": "basic"}),
        ],
        "Beyond band": [option("unit", DEVIATIONS), option("decimals", 0)],
        "Predictions": [option("unit", "cps")],
        **dict.fromkeys(PERCENTILES, seconds),
        "Failing": [option("unit", "percentunit")],
        "Baseline": [
            option("mappings", worded(settled, absent="none")),
            option("custom.cellOptions", text),
        ],
    }


def alerts() -> Any:
    """Show when which alert fired."""
    return (
        bars(
            "Alerts",
            "From when to when an alert fired, for each model. "
            f"{DRIFT_DETECTED.name} comes from the detector in the process, "
            f"{DISTRIBUTION_SHIFTED.name} from the windows over all replicas; they need not agree.",
            lines(
                "max by (alertname, keras_model_name) "
                f'(ALERTS{{alertstate="firing",alertname=~"{ALERTS}"}})',
                "{{keras_model_name}}: {{alertname}}",
            ),
        )
        .mappings(worded({1: ("firing", VERMILLION)}, absent="not firing"))
        .no_value("No alert has fired in this time range")
    )


def evidence() -> Any:
    """Show how near the models are to an alarm."""
    return limit(
        graph(
            "Evidence, of the threshold",
            "Evidence of drift on a logarithmic scale: at 100 % the detector gives an alarm, and "
            "there or above the evidence stands while drift lasts. The 10 outputs with most "
            "evidence in the time range. A healthy model idles around 10^4 of 10^7, a little over "
            "half-way, which means nothing: only 100 % does.",
            lines(
                f"{highest(EVIDENCE, BY_OUTPUT)} / {THRESHOLD}",
                "{{keras_model_name}} / {{keras_model_output}}",
            ),
            unit="percentunit",
        ).min(0),
        1,
    )


def traffic() -> Any:
    """Show the busiest models."""
    return graph(
        "Predictions",
        "Predictions per second over 5 minutes; the 10 busiest outputs. Few predictions make "
        "drift slow to see: the detector counts predictions, not minutes.",
        lines(highest(TRAFFIC, BY_OUTPUT), "{{keras_model_name}} / {{keras_model_output}}"),
        unit="cps",
    ).min(0)


def latency() -> Any:
    """Show the slowest models."""
    slow = f'{QUANTILE}{{quantile="0.95"}}'
    return graph(
        "Duration, 95th percentile",
        "95 of 100 calls take less, over 5 minutes; the 10 slowest models. Asynchronous calls "
        "(JAX, accelerators) count until they are dispatched.",
        lines(
            highest(slow, BY_MODEL),
            "{{keras_model_name}}",
        ),
        width=8,
        unit="s",
    ).min(0)


def failures() -> Any:
    """Show the models whose calls fail."""
    return graph(
        "Calls that fail",
        "Share of calls that raised an exception, over 5 minutes; the 10 models with most.",
        lines(
            f"{highest(ERRORS, BY_MODEL)} / (sum by ({BY_MODEL}) ({CALLS}) > 0)",
            "{{keras_model_name}}",
        ),
        width=8,
        unit="percentunit",
    ).min(0)


def replicas_over_time() -> Any:
    """Show how many processes serve each model."""
    panel = graph(
        "Replicas",
        "Processes that serve each model; the 10 models with most. A step down is a replica that "
        "has stopped reporting: its predictions are missing from the windows from then on, which "
        "by itself moves no share.",
        lines(highest(REPLICAS, BY_MODEL), "{{keras_model_name}}"),
        width=8,
        unit="none",
    )
    return panel.min(0).decimals(0)
