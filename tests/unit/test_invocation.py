"""A span around each outermost prediction, and its trace in the histogram's exemplars."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_drift
from otel_drift import Baseline

X = np.zeros((5, 4), dtype="float32")


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


@pytest.fixture
def model(collected, tracer_provider):
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    yield otel_drift.instrument_model(
        made,
        name="digits",
        baseline=Baseline.uniform(3),
        meter_provider=collected.provider,
        tracer_provider=tracer_provider,
    )
    otel_drift.uninstrument_model(made)


def test_each_prediction_is_a_span(model, spans):
    model.predict(X, verbose=0)
    model.predict_on_batch(X)
    model(X, training=False)
    finished = spans.get_finished_spans()
    assert [span.name for span in finished] == [
        "predict digits",
        "predict_on_batch digits",
        "call digits",
    ]
    for span in finished:
        assert span.kind is trace.SpanKind.INTERNAL
        assert span.attributes["keras.model.name"] == "digits"
        assert span.status.status_code is trace.StatusCode.UNSET
        assert span.instrumentation_scope.name == "otel_drift"
    assert finished[0].attributes["keras.method"] == "predict"


def test_it_nests_in_the_programs_span_and_ends_before_it(model, spans, tracer_provider):
    with tracer_provider.get_tracer("program").start_as_current_span("request") as request:
        model.predict(X, verbose=0)
        assert trace.get_current_span() is request
    inner, outer = spans.get_finished_spans()
    assert inner.parent.span_id == outer.context.span_id
    assert inner.context.trace_id == outer.context.trace_id


def test_a_failure_is_recorded_and_raised_as_it_was(model, spans, collected):
    with pytest.raises(ValueError, match=r"incompatible|expected") as caught:
        model.predict(np.zeros((5, 9), dtype="float32"), verbose=0)
    span = spans.get_finished_spans()[0]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert span.events[0].attributes["exception.type"] == "ValueError"
    assert trace.get_current_span() is trace.INVALID_SPAN
    (point,) = collected.points("keras.predict.duration")
    assert point[1]["error.type"] == "ValueError"
    assert isinstance(caught.value, ValueError)


def test_a_call_that_may_be_training_ends_its_span_with_its_count(model, spans, collected):
    y = model(X)  # records gradients: held until the model is called again, or metrics are read
    assert spans.get_finished_spans() == ()
    assert sum(collected.values("keras.predict.samples", "keras.method").values()) == 5
    (span,) = spans.get_finished_spans()
    assert span.name == "call digits"
    assert span.end_time - span.start_time < 60e9
    assert y.shape == (5, 3)


def test_a_training_step_leaves_no_span(model, spans, collected):
    import torch

    for _ in range(3):
        loss = torch.nn.functional.nll_loss(model(X), torch.zeros(5, dtype=torch.long))
        loss.backward()
    assert sum(collected.values("keras.predict.samples", "keras.method").values()) == 0
    assert spans.get_finished_spans() == ()


def test_exemplars_carry_the_trace(spans, tracer_provider):
    reader = InMemoryMetricReader()
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    otel_drift.instrument_model(
        made,
        baseline=Baseline.uniform(3),
        meter_provider=MeterProvider([reader]),
        tracer_provider=tracer_provider,
    )
    made.predict(X, verbose=0)
    made(X)
    otel_drift.uninstrument_model(made)
    metrics = {
        metric.name: metric
        for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    points = metrics["keras.predict.duration"].data.data_points
    exemplars = {point.attributes["keras.method"]: point.exemplars[0].trace_id for point in points}
    finished = {
        span.attributes["keras.method"]: span.context.trace_id
        for span in spans.get_finished_spans()
    }
    assert exemplars == finished
    assert len(set(exemplars.values())) == 2


def test_off_by_an_option(collected, spans, tracer_provider):
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    otel_drift.instrument_model(
        made,
        baseline=Baseline.uniform(3),
        traces=False,
        meter_provider=collected.provider,
        tracer_provider=tracer_provider,
    )
    made.predict(X, verbose=0)
    otel_drift.uninstrument_model(made)
    assert spans.get_finished_spans() == ()
    assert len(collected.points("keras.predict.duration")) == 1
