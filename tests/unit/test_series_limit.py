"""What the SDK has no room for is said, on the SDK itself."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

import otel_drift
from otel_drift import Baseline

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


@LIMITED
def test_models_whose_series_are_lost_are_named_once_and_counted(caplog):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    recorders = predicted(provider, 30)
    with caplog.at_level(logging.WARNING):
        counts = exported(reader, "keras.predictions", "keras.model.name")
        errors = exported(reader, "keras.instrumentation.errors", "keras.model.name")
    whole = {name for name, count in counts.items() if count == PREDICTIONS}
    assert len(whole) == 19  # of 102 series each, of 2,000
    assert counts["overflow"] > 0
    assert {name for name, count in errors.items() if not count} == whole
    assert min(count for count in errors.values() if count) == 2  # two collections
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 11
    assert all("cardinality_limits" in one for one in said)
    assert len(recorders) == 30
    provider.shutdown()


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
