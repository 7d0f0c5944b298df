"""The metrics are those of the contract: names, kinds, units, attributes, and no value lost."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    InMemoryMetricReader,
    Sum,
)

import otel_drift
from otel_drift import Baseline
from otel_drift.drift.variation import Variation
from otel_drift.telemetry.failures import ERROR_TYPES
from otel_drift.telemetry.metric_table import DURATION_BOUNDS_SECONDS

MODEL = {"keras.model.name": "digits"}
OUTPUT = {**MODEL, "keras.model.output": "output"}

CONTRACT = {
    "keras.predict.samples": (Sum, "{sample}", {"keras.method"}),
    "keras.predictions": (Sum, "{prediction}", {"keras.model.output", "keras.prediction.class"}),
    "keras.prediction.baseline.proportion": (
        *(Gauge, "{proportion}"),
        {"keras.model.output", "keras.prediction.class"},
    ),
    "keras.prediction.baseline.lower": (
        *(Gauge, "{proportion}"),
        {"keras.model.output", "keras.prediction.class"},
    ),
    "keras.prediction.baseline.upper": (
        *(Gauge, "{proportion}"),
        {"keras.model.output", "keras.prediction.class"},
    ),
    "keras.prediction.baseline.size": (Gauge, "{prediction}", {"keras.model.output"}),
    "keras.prediction.baseline.design_effect": (Gauge, "{prediction}", {"keras.model.output"}),
    "keras.prediction.design_effect": (Gauge, "{prediction}", {"keras.model.output"}),
    "keras.prediction.drift.p_value": (Gauge, "{probability}", {"keras.model.output"}),
    "keras.prediction.drift.statistic": (Gauge, "{chi_square}", {"keras.model.output"}),
    "keras.prediction.drift.test.p_value": (
        *(Histogram, "{probability}"),
        {"keras.model.output"},
    ),
    "keras.prediction.drift.evidence": (Gauge, "{decade}", {"keras.model.output"}),
    "keras.prediction.drift.threshold": (Gauge, "{decade}", {"keras.model.output"}),
    "keras.prediction.drift.alarms": (Sum, "{alarm}", {"keras.model.output"}),
    "keras.prediction.drift.active": (Gauge, "{state}", {"keras.model.output"}),
    "keras.prediction.drift.onset": (Gauge, "s", {"keras.model.output"}),
    "keras.prediction.drift.share": (
        *(Gauge, "{proportion}"),
        {"keras.model.output", "keras.prediction.class"},
    ),
    "keras.prediction.drift.effect": (
        *(Gauge, "{effect}"),
        {"keras.model.output", "keras.prediction.drift.measure"},
    ),
}


def drifted(collected, **options):
    """A recorder whose stream has lost class 0 after 3,000 predictions."""
    calm = Variation(1.0, (1.0,), np.full(10, 0.1), np.full(10, 0.1), 512, 40)
    recorder = otel_drift.watch(
        "digits",
        replace(Baseline.from_counts([1_000] * 10), variation=calm),
        meter_provider=collected.provider,
        logger_provider=collected.logger_provider,
        **options,
    )
    random = np.random.default_rng(1)
    recorder.record(random.integers(0, 10, size=3_000))
    recorder.record(random.integers(1, 10, size=1_000))
    return recorder


def test_every_instrument_of_the_contract(collected):
    drifted(collected)
    data = collected.reader.get_metrics_data()
    metrics = {
        metric.name: metric
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    for name, (kind, unit, attributes) in CONTRACT.items():
        metric = metrics[name]
        assert isinstance(metric.data, kind), name
        assert metric.unit == unit, name
        if kind is Sum:
            assert metric.data.is_monotonic, name
        for point in metric.data.data_points:
            expected = {"keras.model.name", "keras.model.version"} | attributes
            assert set(point.attributes) == expected, name
            assert all(type(value) is str for value in point.attributes.values()), name
            number = point.sum if kind is Histogram else point.value
            assert type(number) in (int, float), name
            assert math.isfinite(number), name
    assert set(metrics) == {*CONTRACT, "keras.instrumentation.errors"}
    assert metrics["keras.instrumentation.errors"].unit == "{error}"


def test_no_gauge_has_the_unit_one(collected):
    """The collector would append _ratio, the Python exporter would not."""
    drifted(collected)
    data = collected.reader.get_metrics_data()
    units = {
        metric.unit for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics
    }
    assert "1" not in units


def test_duration_bounds_are_seconds():
    assert DURATION_BOUNDS_SECONDS[0] == 0.0005
    assert DURATION_BOUNDS_SECONDS[-1] == 60
    assert all(type(bound) is float for bound in DURATION_BOUNDS_SECONDS)
    assert sorted(set(DURATION_BOUNDS_SECONDS)) == list(DURATION_BOUNDS_SECONDS)


def test_every_class_has_a_series_before_the_first_prediction(collected):
    otel_drift.watch(
        "digits", Baseline.uniform(3, ["a", "b", "c"]), meter_provider=collected.provider
    )
    classes = {"a", "b", "c", "other", "invalid"}
    zeros = dict.fromkeys(classes, 0)
    assert collected.values("keras.predictions", "keras.prediction.class") == zeros
    for edge in ("proportion", "lower", "upper"):
        name = f"keras.prediction.baseline.{edge}"
        assert set(collected.values(name, "keras.prediction.class")) == classes
    assert collected.values("keras.prediction.drift.alarms", "keras.model.output") == {"output": 0}
    assert collected.values("keras.prediction.baseline.size", "keras.model.output") == {}
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors == dict.fromkeys(ERROR_TYPES, 0)


def test_counts_and_p_values_are_all_there(collected):
    recorder = drifted(collected)
    counts = collected.values("keras.predictions", "keras.prediction.class")
    assert sum(counts.values()) == 4_000
    histogram = collected.points("keras.prediction.drift.test.p_value")[0][2]
    assert histogram.count == 2  # both calls were longer than a window
    assert histogram.max <= 1
    for _ in range(60):
        recorder.record(np.arange(10))
    assert collected.points("keras.prediction.drift.test.p_value")[0][2].count == 2 + 12


def test_two_readers_see_the_same(collected):
    """Each collection runs the callbacks: nothing may be handed to the first reader only."""
    first, second = InMemoryMetricReader(), InMemoryMetricReader()
    collected.provider = MeterProvider([first, second])
    collected.reader = first
    drifted(collected)
    seen = []
    for reader in (first, second, first):
        collected.reader = reader
        points = collected.points()
        seen.append(
            {
                (name, *sorted(attributes.items())): getattr(point, "value", None)
                or point.__dict__.get("count")
                for name, attributes, point in points
            }
        )
    assert seen[0] == seen[1] == seen[2]


def test_an_alarm_is_an_event_with_what_moved_and_since_when(collected):
    before = time.time()
    drifted(collected)
    collected.points()
    collected.points()
    events = [one.log_record for one in collected.log_exporter.get_finished_logs()]
    assert events
    first = events[0]
    assert first.event_name == "keras.prediction.drift"
    assert first.severity_text == "WARN"
    attributes = first.attributes
    assert attributes["keras.model.name"] == "digits"
    assert list(attributes["keras.prediction.drift.classes"]) == ["0"]
    assert attributes["keras.prediction.drift.evidence"] >= 7
    assert before - 1 <= attributes["keras.prediction.drift.onset"] <= time.time()
    assert 0 < attributes["keras.prediction.drift.effect.tvd"] < 1
    assert "class 0" in first.body
    assert len(events) == 1  # though there have been several alarms
    assert attributes["keras.prediction.drift.state"] == "began"


def test_onset_is_there_only_while_drift_is_active(collected):
    recorder = drifted(collected)
    assert collected.values("keras.prediction.drift.active", "keras.model.output") == {"output": 1}
    assert len(collected.points("keras.prediction.drift.onset")) == 1
    random = np.random.default_rng(9)
    recorder.record(random.integers(0, 10, size=20_000))
    assert collected.values("keras.prediction.drift.active", "keras.model.output") == {"output": 0}
    assert collected.points("keras.prediction.drift.onset") == []
    assert collected.points("keras.prediction.drift.share") == []


def test_the_classes_that_moved_most_are_named_from_the_first_alarm_on(collected):
    drifted(collected)
    shares = collected.values("keras.prediction.drift.share", "keras.prediction.class")
    assert list(shares) == ["0"]
    assert 0 < shares["0"] < 0.02


def test_the_same_provider_gets_its_instruments_once(collected):
    for name in ("one", "two"):
        otel_drift.watch(name, Baseline.uniform(2), meter_provider=collected.provider)
    models = {
        attributes["keras.model.name"]
        for _, attributes, _ in collected.points("keras.prediction.drift.threshold")
    }
    assert models == {"one", "two"}


def test_a_second_watch_of_a_name_goes_on_counting(collected):
    for _ in range(2):
        recorder = otel_drift.watch(
            "digits", Baseline.uniform(2), meter_provider=collected.provider
        )
        recorder.record(np.array([0, 1, 1]))
    counts = collected.values("keras.predictions", "keras.prediction.class")
    assert counts == {"0": 2, "1": 4, "other": 0, "invalid": 0}


@pytest.mark.parametrize(
    ("predictions", "counts"),
    [
        (["cat", "dog", "dog", "bird"], {"cat": 1, "dog": 2, "other": 1, "invalid": 0}),
        (np.array([0, 1, 5]), {"cat": 1, "dog": 1, "other": 0, "invalid": 1}),
        (
            np.array([[0.2, 0.8], [math.nan, 0.5]]),
            {"cat": 0, "dog": 1, "other": 0, "invalid": 1},
        ),
        ([], {"cat": 0, "dog": 0, "other": 0, "invalid": 0}),
    ],
)
def test_labels_names_and_scores_can_be_watched(collected, predictions, counts):
    recorder = otel_drift.watch(
        "pets", Baseline.from_counts([5, 5], ["cat", "dog"]), meter_provider=collected.provider
    )
    recorder.record(predictions)
    assert collected.values("keras.predictions", "keras.prediction.class") == counts


def test_what_cannot_be_counted_is_an_error_of_ours_and_no_exception(collected, caplog):
    recorder = otel_drift.watch(
        "pets", Baseline.from_counts([5, 5]), meter_provider=collected.provider
    )
    for _ in range(3):
        recorder.record(object())
        recorder.record(np.zeros((2, 2), dtype=complex))
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors["output"] == 6
    assert 1 <= len(caplog.records) <= 2


def test_dependent_predictions_are_said_once_in_the_log(collected, caplog):
    recorder = otel_drift.watch("digits", Baseline.uniform(10), meter_provider=collected.provider)
    output = "keras.model.output"
    recorder.record(np.arange(3_000) % 10)
    assert collected.values("keras.prediction.design_effect", output) == {"output": 1}
    random = np.random.default_rng(1)
    for label in random.integers(0, 10, size=1_000):
        recorder.record(np.full(32, label))
    assert collected.values("keras.prediction.design_effect", output)["output"] > 20
    assert collected.values("keras.prediction.baseline.design_effect", output) == {}
    collected.values("keras.predictions", output)
    (said,) = [one.message for one in caplog.records if "depend on each other" in one.message]
    assert said.startswith("digits: predictions of output 'output'")
    assert "otel-drift calibrate" in said


def test_a_key_says_which_predictions_belong_together(collected):
    recorder = otel_drift.watch("digits", Baseline.uniform(10), meter_provider=collected.provider)
    random, output = np.random.default_rng(1), "keras.model.output"
    for visit, label in enumerate(random.integers(0, 10, size=300)):
        recorder.record(np.eye(10)[np.full(20, label)], key=f"visit {visit}")
    recorder.record(np.eye(10)[:3], key=["a", "b", "a"])
    recorder.record(np.eye(10)[:3], key=["a", "b"])  # one unit, and said
    counts = collected.values("keras.predictions", "keras.prediction.class")
    assert sum(counts.values()) == 6_006
    assert collected.values("keras.prediction.drift.alarms", output)["output"] == 0
    known = collected.values("keras.prediction.baseline.design_effect", output)["output"]
    assert known == pytest.approx((300 * 400 + 4 + 1 + 9) / 6_006)
    assert collected.values("keras.instrumentation.errors", "error.type")["output"] == 1


def test_keys_of_a_function_that_gives_other_numbers_of_labels(collected):
    recorder = otel_drift.watch(
        "digits",
        Baseline.uniform(10),
        meter_provider=collected.provider,
        outputs=lambda scores: scores[1:].argmax(axis=1),
    )
    recorder.record(np.eye(10), key=range(10))
    counts = collected.values("keras.predictions", "keras.prediction.class")
    assert sum(counts.values()) == 9
    assert collected.values("keras.instrumentation.errors", "error.type")["output"] == 0
