"""Every query of every panel and variable, run on a real Prometheus, and what the panels claim."""

import math
from typing import Any

import pytest

from tests.grafana.board import NAMES, Panel, choices, filled_in, load, panel, panels
from tests.grafana.prometheus_server import Series
from tests.grafana.simulated_models import CLASSES, LOST, Story

pytestmark = pytest.mark.pipeline

KERAS = "digits"
MODELS = ("drifting", "steady", "plain", "mixed", "retrained", KERAS)
CHI_SQUARE_LEVEL = 5
"""Of standard normal deviates: 3 in 10 million by chance."""


def chosen(model: str, **more: str) -> dict[str, str]:
    """Choose a model, and what there is of it."""
    values = {
        "model": model,
        "output": "output",
        "window": "1m",
        "class": "|".join(str(k) for k in range(CLASSES)),
        "replica": KERAS if model == KERAS else "one",
        "run": "first|second",
        "metric": "accuracy",
    }
    return {**values, **more}


def moments(story: Story) -> tuple[float, float]:
    return story.before_drift, story.during_drift


def found(story: Story, one: Panel, at: float, model: str, **more: str) -> list[Series]:
    return one.series(story.stack.prometheus, at, chosen(model, **more))


def value(story: Story, title: str, at: float, model: str = "", board: str = "one_model") -> float:
    """Give what a panel with one number shows."""
    (series,) = found(story, panel(board, title), at, model)
    return series.value


def rows(story: Story, board: str, title: str, at: float, model: str, **more: str) -> Any:
    return panel(board, title).table(story.stack.prometheus, at, chosen(model, **more))


def newest(series: list[Series], at: float) -> list[Series]:
    """Keep the series that are still there at the end of the range."""
    return [one for one in series if one.values[-1][0] == pytest.approx(at, abs=1e-3, rel=0)]


# Every query runs, and finds what there is to find.

SERVING = {
    "Duration of calls",
    "Duration, percentiles",
    "Calls by method",
    "Calls that fail",
    "Duration, 95th percentile",
}
ONLY_DURING_DRIFT = {"Since", "Most moved class", "Classes beyond their band", "Alerts"}


@pytest.mark.parametrize("one", list(panels()), ids=lambda one: f"{one.dashboard}: {one.title}")
def test_every_query_of_a_panel_runs_and_finds_series(one: Panel, story: Story) -> None:
    model = KERAS if one.title in SERVING or one.dashboard == "training" else "drifting"
    for at in moments(story):
        for query in one.queries:
            single = Panel(one.dashboard, {**one.json, "targets": [query]})
            series = found(story, single, at, model)
            expected = at == story.during_drift or one.title not in ONLY_DURING_DRIFT
            assert bool(series) == expected, query["expr"]
            for each in series:
                assert all(math.isfinite(number) for _, number in each.values), each.labels


@pytest.mark.parametrize("window", ["1m", "5m", "1h", "1d"])
@pytest.mark.parametrize("model", [*MODELS, "nobody", 'quoted"\\name'])
def test_every_query_runs_whatever_is_chosen(model: str, window: str, story: Story) -> None:
    name = model.replace("\\", "\\\\").replace('"', '\\"')  # as Grafana fills it in
    for one in panels():
        found(story, one, story.during_drift, name, window=window)


@pytest.mark.parametrize("board", NAMES)
def test_annotations_are_alerts_that_fired(board: str, story: Story) -> None:
    for annotation in load(board)["annotations"].get("list", []):
        expr = filled_in(annotation["expr"], chosen("drifting"))
        assert story.stack.prometheus.instant(expr, story.before_drift) == []
        marks = story.stack.prometheus.instant(expr, story.during_drift)
        assert {mark.labels["alertname"] for mark in marks} == {
            "DriftDetected",
            "PredictionDistributionShifted",
        }
        assert {mark.labels["keras_model_name"] for mark in marks} == {"drifting"}


def test_variables_offer_what_there_is(story: Story) -> None:
    offered = {
        (board, variable["name"]): set(
            choices(
                variable,
                story.stack.prometheus,
                story.during_drift,
                chosen(KERAS if board == "training" else "drifting"),
            )
        )
        for board in NAMES
        for variable in load(board)["templating"]["list"]
        if variable["type"] in ("query", "custom")
    }
    assert offered[("one_model", "model")] == set(MODELS)
    assert offered[("one_model", "output")] == {"output"}
    assert offered[("one_model", "window")] == {"1m", "5m", "1h", "1d"}
    assert offered[("one_model", "replica")] == {"one", "two"}
    assert LOST in offered[("one_model", "class")]
    assert len(offered[("one_model", "class")]) == 8
    assert offered[("training", "model")] == {KERAS}
    assert offered[("training", "run")] == {"first", "second"}
    assert offered[("training", "metric")] == {"accuracy"}


# Models: the one that drifted is shown as drifted.


def test_the_drifting_model_is_the_one_shown_as_drifting(story: Story) -> None:
    before, during = moments(story)
    assert value(story, "Models drifting", before, board="models") == 0
    assert value(story, "Models drifting", during, board="models") == 1
    assert value(story, "Alerts firing", before, board="models") == 0
    assert value(story, "Alerts firing", during, board="models") == 2
    assert value(story, "Models without baseline", during, board="models") == 1
    for at, drifted in ((before, set()), (during, {"drifting"})):
        table = rows(story, "models", "All models", at, "")
        assert {model for model, _ in table} == set(MODELS)
        assert {model for (model, _), row in table.items() if row.get("Drift") == 1} == drifted


def test_the_row_of_the_drifting_model_says_since_when_and_which_class(story: Story) -> None:
    table = rows(story, "models", "All models", story.during_drift, "")
    row = table[("drifting", "output")]
    assert row["keras_prediction_class"] == LOST
    assert row["Beyond band"] > CHI_SQUARE_LEVEL
    assert 0 <= row["Evidence"] <= 1
    # The estimate may lie some predictions before the first that drifted, never after the alarm.
    assert story.drift - 10 <= row["Since"] / 1000 <= story.during_drift
    for key in table.keys() - {("drifting", "output")}:
        assert "Since" not in table[key]
        assert "Beyond band" not in table[key]


def test_a_model_without_baseline_shows_no_drift_column(story: Story) -> None:
    row = rows(story, "models", "All models", story.during_drift, "")[("plain", "output")]
    assert row.keys() == {"Predictions", "Replicas"}


def test_serving_columns_are_of_the_model_in_the_row(story: Story) -> None:
    row = rows(story, "models", "All models", story.during_drift, "")[(KERAS, "output")]
    assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    assert row["Failing"] == pytest.approx(1 / 3, abs=0.01)  # one call in three raises


def test_a_replica_that_is_gone_is_not_counted(story: Story) -> None:
    before, during = moments(story)
    table = rows(story, "models", "All models", before, "")
    assert table[("steady", "output")]["Replicas"] == 2
    table = rows(story, "models", "All models", during, "")
    assert table[("steady", "output")]["Replicas"] == 1
    assert table[("steady", "output")]["Drift"] == 0
    assert "Beyond band" not in table[("steady", "output")]
    assert value(story, "Baseline", during, "steady") == 0


# One model: shares add up, the class that moved is on top.


@pytest.mark.parametrize("model", ["drifting", "steady", "plain", "mixed", "retrained"])
def test_shares_add_up_to_one(model: str, story: Story) -> None:
    for at in moments(story):
        for window in ("1m", "5m"):
            table = rows(story, "one_model", "Classes in the window", at, model, window=window)
            assert sum(row["Share"] for row in table.values()) == pytest.approx(1)


def test_the_class_that_moved_is_on_top(story: Story) -> None:
    name = panel("one_model", "Classes in the window").json
    assert name["options"]["sortBy"] == [{"desc": True, "displayName": "Moved by"}]
    table = rows(story, "one_model", "Classes in the window", story.during_drift, "drifting")
    (top,) = max(table, key=lambda key: table[key]["Moved"])
    assert top == LOST
    row = table[(LOST,)]
    assert row["Share"] < row["Lower"] < row["Baseline"] < row["Upper"]
    assert row["Moved"] == pytest.approx(row["Baseline"] - row["Share"])
    assert row["Beyond"] < -CHI_SQUARE_LEVEL
    assert story.drift <= row["First"] / 1000 <= story.during_drift
    assert [key for key, other in table.items() if "Beyond" in other] == [(LOST,)]
    assert row["Detector"] < row["Lower"]


def test_before_drift_no_class_is_beyond_its_band(story: Story) -> None:
    table = rows(story, "one_model", "Classes in the window", story.before_drift, "drifting")
    for row in table.values():
        assert not row.keys() & {"Beyond", "Detector", "First"}
        assert row["Lower"] <= row["Share"] <= row["Upper"]
    assert sum(row["Baseline"] for row in table.values()) == pytest.approx(1)


def test_the_numbers_on_top_name_drift_and_class(story: Story) -> None:
    before, during = moments(story)
    assert value(story, "Detector", before, "drifting") == 0
    assert value(story, "Detector", during, "drifting") == 1
    (moved,) = found(story, panel("one_model", "Most moved class"), during, "drifting")
    assert moved.labels["keras_prediction_class"] == LOST
    assert value(story, "Baseline", during, "drifting") == 0
    assert value(story, "Predictions in the window", during, "drifting") > 10_000


def test_a_class_is_drawn_with_its_band(story: Story) -> None:
    lines = {
        (one.labels["keras_prediction_class"], one.labels.get("line", "share")): one.value
        for one in found(story, panel("one_model", "Class $class"), story.during_drift, "drifting")
    }
    assert len(lines) == 4 * CLASSES
    assert lines[LOST, "share"] < lines[LOST, "lower edge"]
    for name in (str(k) for k in range(CLASSES) if str(k) != LOST):
        assert lines[name, "lower edge"] < lines[name, "share"] < lines[name, "upper edge"]
        assert lines[name, "lower edge"] < lines[name, "baseline"] < lines[name, "upper edge"]


def test_the_lost_class_is_the_line_that_stands_out(story: Story) -> None:
    series = found(story, panel("one_model", "Shift of each class"), story.during_drift, "drifting")
    shifts = {one.labels["keras_prediction_class"]: one.value for one in series}
    assert min(shifts, key=shifts.__getitem__) == LOST
    assert sum(shifts.values()) == pytest.approx(0, abs=1e-9)


def test_evidence_is_drawn_with_its_threshold(story: Story) -> None:
    series = found(story, panel("one_model", "Evidence of drift"), story.during_drift, "drifting")
    evidence, threshold = series
    assert threshold.value == pytest.approx(7)
    assert all(number >= 0 for _, number in evidence.values)
    assert evidence.value >= threshold.value  # and not afresh from 0
    assert value(story, "Evidence, of the threshold", story.during_drift, "drifting") == 1


def test_distance_and_effect_grow_with_drift(story: Story) -> None:
    def largest(title: str, at: float) -> dict[str, float]:
        series = newest(found(story, panel("one_model", title), at, "drifting"), at)
        return {next(iter(one.labels.values())): one.value for one in series}

    before = largest("Whole distribution, by window", story.before_drift)
    during = largest("Whole distribution, by window", story.during_drift)
    assert set(during) >= {"1m", "5m"}
    assert all(z < CHI_SQUARE_LEVEL for z in before.values())
    assert all(z > CHI_SQUARE_LEVEL for z in (during["1m"], during["5m"]))
    before, during = (largest("Effect size", at) for at in moments(story))
    assert set(before) == {"total variation", "stability index", "Cramér's V"}
    assert all(during[measure] > before[measure] for measure in before)


def test_p_values_are_flat_before_drift_and_low_during_drift(story: Story) -> None:
    def tenths(at: float) -> list[float]:
        series = found(story, panel("one_model", "p-values of all windows"), at, "drifting")
        bounds = {float(one.labels["le"].replace("+Inf", "inf")): one.value for one in series}
        upto = [bounds[bound] for bound in sorted(bounds)]
        return [b - a for a, b in zip([0.0, *upto], upto, strict=False)]

    before, during = (tenths(at) for at in moments(story))
    assert len(before) == len(during) == 10
    # No more than a third of what there is in any tenth: for the counts here, beyond chance.
    assert max(before) < sum(before) / 3
    assert max(during) == during[0]
    assert during[0] / sum(during) > 2 * before[0] / sum(before)
    dots, _ = found(
        story, panel("one_model", "p-values of one replica"), story.during_drift, "drifting"
    )
    assert all(0 <= number <= 1 for _, number in dots.values)


# What cannot be compared is not compared.


def test_replicas_with_different_baselines_are_not_compared(story: Story) -> None:
    for at in moments(story):
        assert value(story, "Baseline", at, "mixed") == 2
        table = rows(story, "one_model", "Classes in the window", at, "mixed")
        assert all(row.keys() == {"Share"} for row in table.values())
        for title in ("Shift of each class", "Whole distribution, by window", "Effect size"):
            assert newest(found(story, panel("one_model", title), at, "mixed"), at) == [], title
        band = found(story, panel("one_model", "Class $class"), at, "mixed")
        assert {one.labels.get("line") for one in band} == {None}
        assert value(story, "Detector", at, "mixed") == 0


def test_a_changed_class_set_is_not_compared(story: Story) -> None:
    at = story.during_drift
    assert value(story, "Baseline", story.before_drift, "retrained") == 0
    assert value(story, "Baseline", at, "retrained") in (1, 2)
    table = rows(story, "one_model", "Classes in the window", at, "retrained")
    assert {key for (key,) in table} == {*"012345", "other", "invalid"}
    assert all(row.keys() == {"Share"} for row in table.values())
    for title in ("Shift of each class", "Whole distribution, by window", "Effect size"):
        assert newest(found(story, panel("one_model", title), at, "retrained"), at) == [], title
    assert value(story, "Detector", at, "retrained") == 0


def test_a_model_without_baseline_is_not_compared(story: Story) -> None:
    at = story.during_drift
    for title in (
        "Detector",
        "Since",
        "Most moved class",
        "Evidence, of the threshold",
        "Baseline",
        "Shift of each class",
        "Classes beyond their band",
        "Evidence of drift",
        "Whole distribution, by window",
        "Effect size",
        "p-values of one replica",
        "p-values of all windows",
    ):
        one = panel("one_model", title)
        assert found(story, one, at, "plain") == [], title
        if title not in ONLY_DURING_DRIFT:
            assert "baseline" in one.json["fieldConfig"]["defaults"]["noValue"]
    table = rows(story, "one_model", "Classes in the window", at, "plain")
    assert all(row.keys() == {"Share"} for row in table.values())


def test_nothing_is_shown_of_a_model_that_is_not_there(story: Story) -> None:
    for one in panels("one_model", "training"):
        if one.title != "Errors of the instrumentation":  # shows what belongs to no model, too
            assert found(story, one, story.during_drift, "nobody") == [], one.title


def test_nothing_is_shown_before_there_was_anything(story: Story) -> None:
    for one in panels():
        assert found(story, one, story.before_all - 1, "drifting") == [], one.title


# Serving


def test_latency_has_exemplars_that_name_traces(story: Story) -> None:
    (query,) = panel("one_model", "Duration of calls").queries
    expr = filled_in(query["expr"], chosen(KERAS))
    answer = story.stack.prometheus.exemplars(expr, story.before_all, story.during_drift)
    traces = [one["labels"]["trace_id"] for series in answer for one in series["exemplars"]]
    assert traces
    assert all(len(bytes.fromhex(trace)) == 16 for trace in traces)


def test_predictions_are_shown_by_replica(story: Story) -> None:
    series = found(
        story, panel("one_model", "Predictions by replica"), story.during_drift, "drifting"
    )
    assert {one.labels["instance"] for one in series if "instance" in one.labels} == {"one", "two"}


def test_calls_are_shown_by_method(story: Story) -> None:
    series = found(story, panel("one_model", "Calls by method"), story.during_drift, KERAS)
    assert {one.labels["keras_method"] for one in series} >= {"predict", "predict_on_batch"}


# Training


def test_training_runs_are_told_apart(story: Story) -> None:
    table = rows(story, "training", "Runs", story.during_drift, KERAS)
    assert {run for (run,) in table} == {"first", "second"}
    assert (table[("first",)]["Epochs"], table[("second",)]["Epochs"]) == (2, 3)
    for row in table.values():
        assert row.keys() >= {"Training loss", "Validation loss", "Seconds per epoch"}
        assert row["Learning rate"] == pytest.approx(0.001)
    loss = found(story, panel("training", "Loss"), story.during_drift, KERAS)
    assert {
        (one.labels["keras_training_run"], one.labels["keras_training_phase"]) for one in loss
    } == {(run, phase) for run in ("first", "second") for phase in ("train", "validation")}
