"""The dashboard *One model*: what a model predicts, against what its baseline says.

Comparisons are shown only while they mean something: ``output:keras_predictions:tested`` is absent
while replicas have different baselines and while a window reaches back to another baseline.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.heatmap import YAxisConfig
from grafana_foundation_sdk.models.common import BigValueTextMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import FieldColorModeId, Threshold, VariableRefresh

from grafana.expressions import FAILED
from grafana.look import (
    BLUE,
    DEVIATIONS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Alerts,
    board,
    buckets,
    choice,
    coloured,
    columns,
    density,
    graph,
    grid,
    in_order,
    limit,
    lines,
    listed,
    now,
    number,
    option,
    several,
    thresholds,
    worded,
)
from prometheus.definitions import (
    BAND_Z,
    BASELINE_DESIGN_EFFECT,
    BASELINE_MOVED,
    BASELINE_SHARE,
    BY_CLASS,
    BY_OUTPUT,
    BY_WINDOW,
    CALLS,
    CHI_SQUARE_Z,
    CRAMERS_V,
    DESIGN_EFFECT,
    DETECTED_SHARE,
    DISTRIBUTION_SHIFTED,
    ERRORS,
    EVIDENCE,
    FIVE_MINUTES,
    LOWER,
    MEAN_P_VALUE,
    MINUTE,
    ONSET,
    OUT_OF_BAND,
    OWN_ERRORS,
    PSI,
    QUANTILE,
    REPLICAS,
    SAMPLES,
    SERVING_WINDOW,
    SHARE,
    STATE,
    TESTED,
    THRESHOLD,
    TOTAL,
    TRAFFIC,
    TVD,
    UNSETTLED,
    UPPER,
    VERSION_REPLICAS,
    WINDOWS,
    Exported,
)

UID = "otel-drift-one-model"
MODEL = '{keras_model_name="$model"}'
OUTPUT = '{keras_model_name="$model",keras_model_output="$output"}'
WINDOW = '{keras_model_name="$model",keras_model_output="$output",window="$window"}'
CLASS = '{keras_model_name="$model",keras_model_output="$output",keras_prediction_class=~"$class"}'
CLASS_IN_WINDOW = CLASS[:-1] + ',window="$window"}'

SETTLED = f"unless on () ({UNSETTLED}{OUTPUT} > 0)"
EXPECTED_SHARE = (
    f"(0 * {SHARE}{WINDOW} + on ({BY_CLASS}) group_left () {BASELINE_SHARE}{OUTPUT}"
    f" and on ({BY_WINDOW}) {TESTED}{WINDOW})"
)
SHIFT = f"({SHARE}{WINDOW} - {EXPECTED_SHARE})"
CLASSES_SHOWN = 8
NOT_COMPARED = "Not compared: no baseline, replicas that disagree, or one that just changed"
COLOURS = dict(
    zip((window.name for window in WINDOWS), (SKY, BLUE, ORANGE, VERMILLION), strict=True)
)


def one_model_dashboard() -> Dashboard:
    """Make the dashboard."""
    name = "Has this model drifted: since when, which classes, how sure we are, what it costs."
    with_choices = board(UID, "One model", name)
    for variable in variables():
        with_choices = with_choices.with_variable(variable)
    return (
        with_choices.annotation(Alerts(',keras_model_name="$model",keras_model_output="$output"'))
        .with_row(Row("Has it drifted?"))
        .with_panel(state())
        .with_panel(since())
        .with_panel(most_moved())
        .with_panel(evidence_now())
        .with_panel(baseline())
        .with_panel(predictions_in_window())
        .with_row(Row("Which classes?"))
        .with_panel(classes())
        .with_panel(shift())
        .with_panel(beyond_band())
        .with_row(Row("Classes that moved most, against their tolerated band"))
        .with_panel(share_of_class())
        .with_row(Row("How sure, and how much?"))
        .with_panel(evidence())
        .with_panel(distance())
        .with_panel(effects())
        .with_panel(p_values())
        .with_panel(p_value_density())
        .with_panel(traffic())
        .with_panel(dependence())
        .with_row(Row("Serving"))
        .with_panel(durations())
        .with_panel(quantiles())
        .with_panel(samples_by_replica())
        .with_panel(versions())
        .with_panel(calls())
        .with_panel(failures())
        .with_panel(own_errors())
    )


def variables() -> list[Any]:
    """Let the reader choose model, output, window, classes and replica."""
    # Outputs that only a test of the user's has p-values of are there too.
    outputs = (
        f"query_result(group by (keras_model_output) ({TRAFFIC}{MODEL} or {MEAN_P_VALUE}{MODEL}))"
    )
    moved = (
        f"query_result(topk({CLASSES_SHOWN}, max by (keras_prediction_class)"
        f" (abs({SHIFT}) or {SHARE}{WINDOW})))"
    )
    p_values = f"{Exported.DRIFT_P_VALUE}{OUTPUT}"
    return [
        choice("model", "Model", f"label_values({SAMPLES}, keras_model_name)"),
        choice("output", "Output", outputs).regex('/keras_model_output="([^"]*)"/'),
        listed("window", "Window", list(COLOURS), FIVE_MINUTES.name),
        # Chosen when the dashboard is opened, so that panels do not change places while one looks.
        several("class", "Classes", moved)
        .regex('/keras_prediction_class="([^"]*)"/')
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD),
        choice("replica", "Replica", f"label_values({p_values}, instance)"),
    ]


def state() -> Any:
    """Tell the detector's verdict."""
    words = {0: ("No drift", BLUE), 1: ("DRIFT", VERMILLION)}
    return (
        number(
            "Detector",
            "DRIFT while the detector holds that predictions have left their baseline: over all "
            "replicas its evidence has reached the threshold, or one replica is in alarm. Then "
            "look at the classes below, and at docs/runbook.md. Without a baseline there is "
            "nothing to compare with.",
            now(f"{STATE}{OUTPUT}"),
        )
        .mappings(worded(words, absent="No baseline"))
        .no_value("No baseline")
    )


def since() -> Any:
    """Tell when drift began."""
    return (
        number(
            "Since",
            "When the drift that lasts began, by the detector's estimate: compare it with what "
            "was changed then.",
            now(f"1000 * {ONSET}{OUTPUT}"),
        )
        .unit("dateTimeFromNow")
        .no_value("-")
    )


def most_moved() -> Any:
    """Name the class farthest outside its band."""
    return (
        number(
            "Most moved class",
            "The class farthest beyond its tolerated band in any window of those that raise the "
            "alert, and by how many standard deviations.",
            now(
                f"topk(1, max by (keras_prediction_class) ({OUT_OF_BAND}{OUTPUT}))",
                "{{keras_prediction_class}}",
            ),
        )
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .unit(DEVIATIONS)
        .decimals(0)
        .no_value("None outside its band")
    )


def evidence_now() -> Any:
    """Tell how far the evidence is."""
    return (
        number(
            "Evidence, of the threshold",
            "How far the evidence is on the way to an alarm, on a logarithmic scale: a "
            "healthy model idles a little over half-way, and while drift lasts this is 100 %.",
            now(f"clamp_max({EVIDENCE}{OUTPUT} / {THRESHOLD}{OUTPUT}, 1)"),
        )
        .unit("percentunit")
        .decimals(0)
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds([Threshold(None, BLUE), Threshold(0.75, VERMILLION)]))
        .no_value("No baseline")
    )


def baseline() -> Any:
    """Tell whether the window can be compared."""
    words = {
        0: ("Compared", BLUE),
        1: ("Changed: window too old", ORANGE),
        2: ("REPLICAS DIFFER", VERMILLION),
    }
    by = f"on ({BY_OUTPUT})"
    return (
        number(
            "Baseline",
            "Whether the chosen window is compared with the baseline. 'Changed': it still holds "
            "predictions from before the baseline changed; wait, or choose a shorter window. "
            "'Replicas differ': give all replicas the same baseline file. The detector in each "
            "process goes on in both cases.",
            now(
                f"2 * ({UNSETTLED}{OUTPUT} > 0) or {by} {BASELINE_MOVED}{WINDOW}"
                f" or {by} 0 * {UNSETTLED}{OUTPUT}"
            ),
        )
        .mappings(worded(words, absent="No baseline"))
        .no_value("No baseline")
    )


def predictions_in_window() -> Any:
    """Tell how much there is to compare."""
    return (
        number(
            "Predictions in the window",
            "Predictions of all replicas in the chosen window. Few predictions show only large "
            "changes.",
            now(f"sum({TOTAL}{WINDOW})"),
        )
        .unit("short")
        .no_value("None")
    )


def classes() -> Any:
    """Make the table that has a row for each class, the one that moved most on top."""
    by_class = "sum by (keras_prediction_class)"
    comparable = f"and on () {TESTED}{WINDOW}"
    share = {
        "Moved": f"{by_class} (abs({SHIFT}))",
        "Share": f"{by_class} ({SHARE}{WINDOW})",
        "Baseline": f"{by_class} ({EXPECTED_SHARE})",
    }
    band = {
        "Lower": f"{by_class} ({LOWER}{OUTPUT} {comparable})",
        "Upper": f"{by_class} ({UPPER}{OUTPUT} {comparable})",
        "Beyond": f"{by_class} ({BAND_Z}{WINDOW})",
        "Detector": f"{by_class} ({DETECTED_SHARE}{OUTPUT})",
        "First": (
            "1000 * min by (keras_prediction_class)"
            f" (min_over_time(timestamp({OUT_OF_BAND}{OUTPUT})[$__range:$__interval]))"
        ),
    }
    panel = grid(
        "Classes in the window",
        "What share of predictions each class has in the chosen window, and what the baseline "
        "expects; the class that moved most is on top. Within the band from its lower to its "
        "upper edge a share is tolerated. Beyond band: by how many standard deviations, below 0 "
        "too rare, above 0 too frequent; "
        f"{FIVE_MINUTES.deviations} and more raise {DISTRIBUTION_SHIFTED.name}. "
        "Detector's estimate: during drift, the share now of the classes that moved most, before "
        "the window shows it. First outside: when a class was first beyond its band, in the time "
        "range. No comparison while the baseline is not settled.",
        now(columns(share)),
        now(columns(band), ref_id="B"),
    )
    shown = {
        "keras_prediction_class": "Class",
        "Moved": "Moved by",
        "Share": "Share",
        "Baseline": "Baseline",
        "Lower": "Lower edge",
        "Upper": "Upper edge",
        "Beyond": "Beyond band",
        "Detector": "Detector's estimate",
        "First": "First outside",
    }
    fraction = [option("unit", "percentunit"), option("decimals", 1)]
    gauge = option("custom.cellOptions", {"type": "gauge", "mode": "basic"})
    for name in ("Share", "Baseline", "Lower edge", "Upper edge", "Detector's estimate"):
        panel = panel.override_by_name(name, fraction)
    return (
        in_order(panel, shown)
        .override_by_name("Moved by", [*fraction, option("min", 0), gauge])
        .override_by_name("Beyond band", [option("unit", DEVIATIONS), option("decimals", 1)])
        .override_by_name("First outside", [option("unit", "dateTimeAsLocal")])
        .sort_by([common.TableSortByFieldState().display_name("Moved by").desc(True)])
    )


def shift() -> Any:
    """Show every class's distance from the baseline."""
    return graph(
        "Shift of each class",
        "Share of each class in the chosen window less its share in the baseline. Without drift "
        "all lines lie about 0; a class that moved stands out and the others give way.",
        lines(f"sum by (keras_prediction_class) ({SHIFT})", "{{keras_prediction_class}}"),
        unit="percentunit",
    ).no_value(NOT_COMPARED)


def beyond_band() -> Any:
    """Show the classes outside their bands."""
    return limit(
        graph(
            "Classes beyond their band",
            "Only classes outside their tolerated band: how far, in standard deviations. Above "
            f"the dashed line ({MINUTE.deviations} in the window of {MINUTE.name}, "
            f"{FIVE_MINUTES.deviations} in the others) {DISTRIBUTION_SHIFTED.name} is raised.",
            lines(
                f"sum by (keras_prediction_class) (abs({BAND_Z}{WINDOW}))",
                "{{keras_prediction_class}}",
            ),
            unit=DEVIATIONS,
        )
        .min(0)
        .no_value("No class is outside its band"),
        FIVE_MINUTES.deviations,
    )


def share_of_class() -> Any:
    """Show one class against its band; repeated for each class."""
    edges = {
        "upper edge": UPPER,
        "baseline": BASELINE_SHARE,
        "lower edge": LOWER,
    }
    band = "\nor ".join(
        f"label_replace(sum by (keras_prediction_class) ({record}{CLASS}),"
        f' "line", "{line}", "", "")'
        for line, record in edges.items()
    )
    panel = graph(
        "Class $class",
        "Share of the class in the chosen window (solid), its share in the baseline (dashed), and "
        "the band between its edges in which it is tolerated (grey). The classes that moved most "
        "when the dashboard was opened; choose others above. No band while replicas have "
        "different baselines.",
        lines(f"sum by (keras_prediction_class) ({SHARE}{CLASS_IN_WINDOW})", "share"),
        lines(f"({band})\n{SETTLED}", "{{line}}", ref_id="B"),
        width=6,
        height=7,
        unit="percentunit",
    )
    edge = [option("color", {"mode": "fixed", "fixedColor": GREY}), option("custom.lineWidth", 0)]
    filled = [option("custom.fillBelowTo", "lower edge"), option("custom.fillOpacity", 25)]
    return (
        coloured(panel, {"share": BLUE, "baseline": ORANGE}, dashed=["baseline"])
        .override_by_name("upper edge", edge + filled)
        .override_by_name("lower edge", edge)
        .legend(common.VizLegendOptions().show_legend(False))
        .min(0)
        .repeat("class")
        .repeat_direction("h")
    )


def evidence() -> Any:
    """Show evidence and threshold."""
    panel = graph(
        "Evidence of drift",
        "Power of ten of the detectors' evidence, all replicas together, and the threshold (7: at "
        "most one false alarm in 10 million predictions). A healthy stream idles around 10^4 of "
        "10^7, which means nothing; from an alarm on the evidence stands at or above the threshold "
        "for as long as drift lasts.",
        lines(f"sum({EVIDENCE}{OUTPUT})", "evidence"),
        lines(f"sum({THRESHOLD}{OUTPUT})", "threshold", ref_id="B"),
        unit="none",
    ).min(0)
    panel = coloured(panel, {"evidence": BLUE, "threshold": VERMILLION}, dashed=["threshold"])
    return panel.no_value("No baseline")


def dependence() -> Any:
    """Show how many predictions count as one."""
    # A baseline that was only counted says nothing of dependence: it stands for 1.
    expected = f"{BASELINE_DESIGN_EFFECT}{OUTPUT} or {DESIGN_EFFECT}{OUTPUT} ^ 0"
    panel = graph(
        "Dependence of predictions",
        "Design effect: so many predictions say as much as one independent one, because rows of a "
        "call or clicks of a visit are alike. Now, of the replica where it is largest, and by the "
        "log that the baseline was calibrated on (1 without one). Everything is found so many "
        "times later; far above the baseline's, calibrate (docs/traffic.md).",
        lines(f"sum({DESIGN_EFFECT}{OUTPUT})", "now"),
        lines(f"sum({expected})", "baseline", ref_id="B"),
        width=6,
        unit="none",
    ).min(0)
    panel = coloured(panel, {"now": BLUE, "baseline": VERMILLION}, dashed=["baseline"])
    return panel.no_value("No baseline")


def distance() -> Any:
    """Show the chi-square deviate of each window."""
    panel = graph(
        "Whole distribution, by window",
        "Chi-square of all classes against the baseline, over all replicas, as a standard normal "
        "deviate. About 0 without drift, and 3 by chance once in 700 times. It grows with the "
        "number of predictions, however small the change: the size is in Effect size.",
        lines(f"sum by (window) ({CHI_SQUARE_Z}{OUTPUT})", "{{window}}"),
        unit=DEVIATIONS,
    )
    return limit(coloured(panel, COLOURS), 3).no_value(NOT_COMPARED)


def effects() -> Any:
    """Show how large the change is."""
    measures = {
        "total variation": TVD,
        "stability index": PSI,
        "Cramér's V": CRAMERS_V,
    }
    union = "\nor ".join(
        f'label_replace({record}{WINDOW}, "measure", "{measure}", "", "")'
        for measure, record in measures.items()
    )
    panel = graph(
        "Effect size",
        "How large the change is in the chosen window, whatever the number of predictions. Total "
        "variation: the share of predictions that would have to change class. Stability index "
        "(PSI): by custom, below 0.1 small, above 0.25 large. Cramér's V: chi-square per "
        "prediction and degree of freedom. With few predictions all are above 0 by chance.",
        lines(f"sum by (measure) ({union})", "{{measure}}"),
        unit="none",
    ).min(0)
    return coloured(panel, dict(zip(measures, (BLUE, ORANGE, GREEN), strict=True))).no_value(
        NOT_COMPARED
    )


def p_values() -> Any:
    """Show p-values of one replica, raw and smoothed."""
    chosen = OUTPUT[:-1] + ',instance="$replica"}'
    panel = graph(
        "p-values of one replica",
        "The p-value of each newest window of the chosen replica (dots), and its mean over 5 "
        "minutes (line). Without drift the dots are spread evenly from 0 to 1 and the line is "
        "near 0.5. For the eye only: under drift the mean need not come near 0, which makes it a "
        "poor alarm.",
        lines(f"min by (instance) ({Exported.DRIFT_P_VALUE}{chosen})", "p-value"),
        lines(
            f"min by (instance) ({MEAN_P_VALUE}{chosen})",
            "mean of 5 minutes",
            ref_id="B",
        ),
        unit="none",
    )
    dots = [
        option("custom.drawStyle", "points"),
        option("custom.showPoints", "always"),
        option("custom.pointSize", 4),
    ]
    return (
        coloured(panel, {"p-value": SKY, "mean of 5 minutes": BLUE})
        .override_by_name("p-value", dots)
        .min(0)
        .max(1)
        .no_value("No baseline")
    )


def p_value_density() -> Any:
    """Show all p-values as a histogram over time."""
    # Cells of equal width, so that what is flat looks flat: finer buckets are left out.
    p_values = f"{Exported.DRIFT_TEST_P_VALUE}_bucket"
    tenths = '{keras_model_name="$model",keras_model_output="$output",le=~"0[.][1-9]|[+]Inf"}'
    axis = YAxisConfig().axis_label("p-value")
    return (
        density(
            "p-values of all windows",
            "How many windows of all replicas had a p-value in each tenth, per second. Evenly "
            "coloured from bottom to top without drift; under drift the lowest row is bright, the "
            "others are dark.",
            buckets(
                f"sum by (le) (rate({p_values}{tenths}[{SERVING_WINDOW}]))",
            ),
        )
        .y_axis(axis)
        .no_value("No baseline")
    )


def traffic() -> Any:
    """Show predictions per second."""
    return graph(
        "Predictions",
        "Predictions per second of all replicas, over 5 minutes.",
        lines(f"sum({TRAFFIC}{OUTPUT})", "predictions"),
        width=6,
        unit="cps",
    ).min(0)


def durations() -> Any:
    """Show how long calls take, with links to traces."""
    # Not the record of it: exemplars are found by the series they belong to.
    axis = YAxisConfig().unit("s")
    return (
        density(
            "Duration of calls",
            "How many calls took how long, per second, all replicas. The dots are single calls "
            "that were traced: click one to open its trace.",
            buckets(
                f"sum by (le) (rate({Exported.DURATION}_bucket{MODEL}[{SERVING_WINDOW}]))",
                exemplars=True,
            ),
        )
        .y_axis(axis)
        .exemplars_color(ORANGE)
    )


def quantiles() -> Any:
    """Show percentiles of the durations."""
    panel = graph(
        "Duration, percentiles",
        "Half, 95 and 99 of 100 calls take less, over 5 minutes. Interpolated within buckets. "
        "Asynchronous calls (JAX, accelerators) count until they are dispatched.",
        lines(f"max by (quantile) ({QUANTILE}{MODEL})", "{{quantile}}"),
        unit="s",
    ).min(0)
    return coloured(panel, {"0.5": SKY, "0.95": BLUE, "0.99": VERMILLION})


def samples_by_replica() -> Any:
    """Show what each replica serves."""
    return graph(
        "Predictions by replica",
        "Samples (rows) per second that each replica predicts, over 5 minutes, and how many "
        "replicas report (dashed, right axis). A line that ends is a replica that is gone.",
        lines(
            f"sum by (instance) (rate({Exported.SAMPLES}{MODEL}[{SERVING_WINDOW}]))",
            "{{instance}}",
        ),
        lines(f"sum({REPLICAS}{MODEL})", "replicas", ref_id="B"),
        unit="cps",
    ).override_by_name(
        "replicas",
        [
            option("unit", "none"),
            option("decimals", 0),
            option("min", 0),
            option("custom.axisPlacement", "right"),
            option("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            option("color", {"mode": "fixed", "fixedColor": ORANGE}),
        ],
    )


def versions() -> Any:
    """Show which versions are served, and by how many replicas."""
    panel = graph(
        "Replicas by version",
        "Processes that serve each version of the model: in a rolling update two lines cross. All "
        "else on this dashboard is about the versions together; while their baselines differ, "
        "windows are not compared.",
        lines(
            f"sum by (keras_model_version) ({VERSION_REPLICAS}{MODEL})", "{{keras_model_version}}"
        ),
        unit="none",
    )
    return panel.min(0).decimals(0).no_value("The model has no version")


def calls() -> Any:
    """Show calls by method."""
    panel = graph(
        "Calls by method",
        "Calls per second of predict, predict_on_batch and the model itself (call), over 5 "
        "minutes. Models that are fed through otel_drift.watch have none.",
        lines(f"sum by (keras_method) ({CALLS}{MODEL})", "{{keras_method}}"),
        width=8,
        unit="cps",
    ).min(0)
    return coloured(panel, {"predict": BLUE, "predict_on_batch": ORANGE, "call": PURPLE})


def failures() -> Any:
    """Show calls that raised."""
    panel = graph(
        "Calls that fail",
        "Share of calls that raised an exception (line), and how many a second (dashed, right "
        "axis), over 5 minutes.",
        lines(
            FAILED.replace(f"({ERRORS})", f"({ERRORS}{MODEL})").replace(
                f"({CALLS})", f"({CALLS}{MODEL})"
            ),
            "share",
        ),
        lines(f"sum({ERRORS}{MODEL})", "per second", ref_id="B"),
        width=8,
        unit="percentunit",
    ).min(0)
    return coloured(
        panel, {"share": VERMILLION, "per second": GREY}, dashed=["per second"]
    ).override_by_name(
        "per second", [option("unit", "cps"), option("custom.axisPlacement", "right")]
    )


def own_errors() -> Any:
    """Show what the instrumentation failed at."""
    both = '{keras_model_name=~"$model|"}'
    return (
        graph(
            "Errors of the instrumentation",
            "What otel_drift itself failed at in 15 minutes, for this model or for no model in "
            "particular. Predictions are unharmed, but drift may go unseen; the log of the "
            "process says more.",
            lines(f"sum by (error_type) ({OWN_ERRORS}{both})", "{{error_type}}"),
            width=8,
            unit="none",
        )
        .min(0)
        .show_points(VisibilityMode.AUTO)
        .no_value("Nothing reported")
    )
