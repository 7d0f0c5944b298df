"""What the SDK has no room for is counted as `other`, and said, on the SDK itself."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import View

import otel_drift
from otel_drift import Baseline
from otel_drift.telemetry.series_limit import series_limit_of

CLASSES, PREDICTIONS = 100, 1_000
LIMITED = pytest.mark.skipif(
    "cardinality_limits" not in inspect.signature(MetricReader.__init__).parameters,
    reason="this SDK has no limit",
)


def predicted(provider: MeterProvider, models: int):
    """Watch models of 100 classes."""
    labels = np.arange(PREDICTIONS) % CLASSES
    baseline = Baseline.uniform(CLASSES)
    recorders = [
        otel_drift.watch(f"model-{number}", baseline, meter_provider=provider)
        for number in range(models)
    ]
    for recorder in recorders:
        recorder.record(labels)
    return recorders


def exported(reader: InMemoryMetricReader, name: str, key: str):
    """Collect once: sums by an attribute."""
    data = reader.get_metrics_data()
    found: dict[str, int] = {}
    for scope in data.resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points if metric.name == name else ():
                if point.attributes.get("error.type", "series_limit") == "series_limit":
                    of = point.attributes.get(key, "overflow")
                    found[of] = found.get(of, 0) + point.value
    return found


def test_two_hundred_models_of_a_hundred_classes_sum_to_the_truth(caplog):
    """On an SDK with a limit and on one without: nothing falls out."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    recorders = predicted(provider, 200)
    truth = {f"model-{number}": PREDICTIONS for number in range(200)}
    with caplog.at_level(logging.WARNING):
        for times in (1, 2):
            counts = exported(reader, "keras.predictions", "keras.model.name")
            assert counts == {name: times * count for name, count in truth.items()}
            samples = exported(reader, "keras.predict.samples", "keras.model.name")
            assert samples == counts
            shares = exported(reader, "keras.prediction.baseline.proportion", "keras.model.name")
            assert shares == pytest.approx(dict.fromkeys(truth, 1.0))
            for recorder in recorders:
                recorder.record(np.arange(PREDICTIONS) % CLASSES)
    errors = exported(reader, "keras.instrumentation.errors", "keras.model.name")
    capped = "cardinality_limits" in inspect.signature(MetricReader.__init__).parameters
    assert set(errors.values()) == {int(capped)}
    assert len(caplog.records) == 200 * capped
    provider.shutdown()


@LIMITED
def test_models_that_come_later_have_room_and_no_series_falls():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    before: dict[tuple[str, str], int] = {}
    recorders = []
    for number in range(200):
        if number % 20 == 0:
            now = by_class(reader)
            assert all(now[series] >= count for series, count in before.items())
            before = now
        recorders.append(
            otel_drift.watch(f"model-{number}", Baseline.uniform(CLASSES), meter_provider=provider)
        )
        recorders[-1].record(np.arange(CLASSES))
    for recorder in recorders:
        recorder.record(np.arange(CLASSES))
    now = by_class(reader)
    assert all(now[series] >= count for series, count in before.items())
    sums: dict[str, int] = {}
    for (model, _), count in now.items():
        sums[model] = sums.get(model, 0) + count
    assert sums == {f"model-{number}": 2 * CLASSES for number in range(200)}
    provider.shutdown()


@LIMITED
def test_the_commonest_classes_of_the_baseline_keep_their_series():
    limits = dict.fromkeys((ObservableCounter, ObservableGauge), 10)
    reader = InMemoryMetricReader(cardinality_limits=limits)
    provider = MeterProvider([reader])
    baseline = Baseline.from_counts([1, 50, 2, 30, 3, 20])
    recorder = otel_drift.watch("dice", baseline, meter_provider=provider)
    recorder.record(np.arange(6))
    counts = {name: count for (_, name), count in by_class(reader).items()}
    assert counts == {"1": 1, "3": 1, "5": 1, "other": 3, "invalid": 0}
    proportion = exported(reader, "keras.prediction.baseline.proportion", "keras.prediction.class")
    assert proportion["other"] == pytest.approx(6 / 106)
    provider.shutdown()


@LIMITED
def test_an_output_without_any_room_is_counted_at_each_collection():
    limits = dict.fromkeys((ObservableCounter, ObservableGauge), 1)
    reader = InMemoryMetricReader(cardinality_limits=limits)
    provider = MeterProvider([reader])
    recorder = otel_drift.watch("dice", Baseline.uniform(6), meter_provider=provider)
    recorder.record(np.arange(6))
    assert not by_class(reader)
    failures = recorder._failures.counts()
    reader.collect()
    assert sum(recorder._failures.counts().values()) > sum(failures.values())
    provider.shutdown()


@LIMITED
def test_the_smallest_limit_counts_of_readers_and_views():
    room = dict.fromkeys((ObservableCounter, ObservableGauge), 5_000)

    def limit(*readers: MetricReader, views: tuple[View, ...] = ()):
        return series_limit_of(MeterProvider(list(readers), views=views))

    large = InMemoryMetricReader(cardinality_limits=room)
    assert limit(large) == 5_000
    large = InMemoryMetricReader(cardinality_limits=room)
    assert limit(large, InMemoryMetricReader()) == 2_000
    view = View(instrument_name="keras.prediction*", aggregation_cardinality_limit=9_000)
    assert limit(InMemoryMetricReader(), views=(view,)) == 9_000
    view = View(instrument_name="keras.predictions", aggregation_cardinality_limit=30)
    assert limit(InMemoryMetricReader(), views=(view,)) == 30


def by_class(reader: InMemoryMetricReader):
    data = reader.get_metrics_data()
    found: dict[tuple[str, str], int] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points if metric.name == "keras.predictions" else ():
                    of = point.attributes
                    found[of["keras.model.name"], of["keras.prediction.class"]] = point.value
    return found


@LIMITED
def test_a_reader_that_is_given_room_loses_nothing(caplog):
    room = dict.fromkeys((ObservableCounter, ObservableGauge), 5_000)
    reader = InMemoryMetricReader(cardinality_limits=room)
    provider = MeterProvider([reader])
    recorders = predicted(provider, 30)
    with caplog.at_level(logging.WARNING):
        counts = exported(reader, "keras.predictions", "keras.model.name")
        errors = exported(reader, "keras.instrumentation.errors", "keras.model.name")
    assert counts == {f"model-{number}": PREDICTIONS for number in range(30)}
    assert set(errors.values()) == {0}
    assert not caplog.records
    assert len(recorders) == 30
    provider.shutdown()


def test_names_that_are_no_names_and_endless_labels_are_bounded():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    odd = 'a "quoted"\nname'
    baseline = Baseline.from_counts([50, 30, 20], ["a" * 10_000, odd, "c"])
    recorder = otel_drift.watch("odd", baseline, meter_provider=provider)
    recorder.record(np.arange(100_000))
    counts = {name: count for (_, name), count in by_class(reader).items()}
    assert counts == {odd: 1, "c": 1, "other": 2, "invalid": 99_996}  # label 3 is `other`
    shares = exported(reader, "keras.prediction.baseline.proportion", "keras.prediction.class")
    assert shares["other"] == pytest.approx(0.5)
    provider.shutdown()


def test_models_beyond_two_hundred_are_named(caplog):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with caplog.at_level(logging.WARNING):
        recorders = [
            otel_drift.watch(f"model-{number}", Baseline.uniform(2), meter_provider=provider)
            for number in range(203)
        ]
    said = [one.getMessage() for one in caplog.records]
    assert [one.split("'")[1] for one in said] == ["model-200", "model-201", "model-202"]
    errors = exported(reader, "keras.instrumentation.errors", "keras.model.name")
    assert errors["other"] == 3
    assert len(recorders) == 203
    provider.shutdown()
