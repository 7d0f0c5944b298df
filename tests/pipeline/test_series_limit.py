"""More classes than the SDK keeps series: through the collector, sums equal the truth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from examples.demo.stack import Stack

pytestmark = pytest.mark.pipeline

PROGRAM = """
import signal, sys
import numpy as np
import otel_drift
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

exporter = OTLPMetricExporter(endpoint=sys.argv[1] + "/v1/metrics")
provider = MeterProvider([PeriodicExportingMetricReader(exporter, 2_000)])
baseline = otel_drift.Baseline.uniform(100)
watched = [otel_drift.watch(f"m{k}", baseline, meter_provider=provider) for k in range(200)]
for k, recorder in enumerate(watched):
    recorder.record(np.arange(100 + k) % 100)
signal.pause()
"""
TRUTH = {f"m{k}": 100.0 + k for k in range(200)}


def test_two_hundred_models_of_a_hundred_classes_sum_to_the_truth(
    stack: Stack, eventually: Callable[..., Any]
) -> None:
    endpoint = f"http://127.0.0.1:{stack.ports.otlp_http}"
    stack.run("models", [sys.executable, "-c", PROGRAM, endpoint])

    def sums(name: str) -> dict[str, float]:
        found = stack.prometheus.query(f"sum by (keras_model_name) ({name})")
        return {one.labels["keras_model_name"]: one.value for one in found}

    eventually(lambda: sums("keras_predictions_total"), lambda found: found == TRUTH)
    eventually(lambda: sums("keras_predict_samples_total"), lambda found: found == TRUTH)
    expected = sums("keras_prediction_baseline_proportion")
    assert expected == pytest.approx(dict.fromkeys(TRUTH, 1.0))
    assert not stack.prometheus.query('{otel_metric_overflow="true"}')
    assert set(sums('keras_instrumentation_errors_total{error_type="series_limit"}').values()) == {
        1
    }
