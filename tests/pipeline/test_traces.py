"""A prediction's trace reaches Prometheus as the exemplar of its duration."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_drift
from examples.demo.stack import Stack
from otel_drift import Baseline

pytestmark = pytest.mark.pipeline


def test_the_exemplar_in_prometheus_is_the_trace_of_the_span(
    stack: Stack, eventually: Callable[..., Any]
) -> None:
    exporter = OTLPMetricExporter(f"http://127.0.0.1:{stack.ports.otlp_grpc}", insecure=True)
    resource = Resource({"service.name": "traces", "service.instance.id": "one"})
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource)
    spans, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    model = otel_drift.instrument_model(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]),
        name="traced",
        baseline=Baseline.uniform(3),
        meter_provider=provider,
        tracer_provider=tracer_provider,
    )
    started = time.time() - 60
    model.predict(np.zeros((5, 4), dtype="float32"), verbose=0)
    provider.force_flush()

    found = eventually(
        lambda: stack.prometheus.get(
            "query_exemplars",
            query='keras_predict_duration_seconds_bucket{keras_model_name="traced"}',
            start=str(started),
            end=str(time.time() + 60),
        )
    )

    provider.shutdown()
    otel_drift.uninstrument_model(model)
    (span,) = spans.get_finished_spans()
    exemplar = found[0]["exemplars"][0]["labels"]
    assert exemplar["trace_id"] == format(span.context.trace_id, "032x")
    assert exemplar["span_id"] == format(span.context.span_id, "016x")
