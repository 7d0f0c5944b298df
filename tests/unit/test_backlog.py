"""Calls are counted by others than the caller: all of them, once, and nothing is left behind."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from opentelemetry import context, metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_drift
from otel_drift import Baseline
from otel_drift.telemetry import backlog as module
from otel_drift.telemetry.backlog import BACKLOG, HELP, Backlog

SCORES = np.eye(3, dtype="float32")[[0, 1, 2, 2]]


class Method:
    """Counts calls, and says which thread did."""

    def __init__(self):
        self.taken, self.threads, self.helped = [], set(), 0
        self.counted = threading.Event()

    def take(self, found, seconds, context):
        self.taken.append(found)
        self.threads.add(threading.current_thread().name)
        self.counted.set()

    def works(self, at_leisure):
        return iter(())

    def full(self):
        self.helped += 1


def watched(provider, name="net", classes=3):
    recorder = otel_drift.watch(name, Baseline.uniform(classes), meter_provider=provider)
    recorder.serve(("predict",))
    recorder.comes_alive()
    return recorder


def test_a_thread_counts_and_the_caller_does_not():
    backlog, method = Backlog(), Method()
    backlog.add((method, 1, None, None))
    assert method.counted.wait(20)
    assert method.threads == {"otel_drift"}


def test_it_sleeps_when_it_is_not_used_and_wakes_at_the_next_call(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.001)
    monkeypatch.setattr(module, "SECONDS_UNUSED", 0.0)
    backlog, method = Backlog(), Method()
    for number in range(300):
        method.counted.clear()
        backlog.add((method, number, None, None))
        assert method.counted.wait(20)
    assert method.taken == list(range(300))


def test_whoever_works_it_off_has_counted_what_another_thread_took():
    backlog, method = Backlog(), Method()
    writers = [
        threading.Thread(
            target=lambda: [backlog.add((method, 1, None, None)) for _ in range(5_000)]
        )
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        backlog.work_off()
    backlog.work_off()
    assert len(method.taken) == 20_000


@pytest.mark.parametrize("limit", ["most_calls", "most_bytes"])
def test_a_caller_helps_only_at_the_limit_and_that_is_reported(monkeypatch, limit):
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 3_600.0)
    if limit == "most_calls":
        monkeypatch.setattr(module, "MOST_CALLS", 100)
    else:
        monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    backlog, method = Backlog(), Method()
    for number in range(100):
        backlog.add_large((method, number, None, None), 1_000)
    assert (method.taken, method.helped) == ([], 0)
    backlog.add_large((method, 100, None, None), 1_000)
    assert method.helped == 1
    assert 0 < len(method.taken) <= HELP
    for number in range(101, 1_000):
        backlog.add_large((method, number, None, None), 1_000)
        assert len(backlog.calls) <= 101 + HELP
    backlog.work_off()
    assert method.taken == list(range(1_000))


def test_what_the_caller_had_to_count_is_an_error_of_ours(collected, monkeypatch):
    recorder = watched(collected.provider)
    recorder.methods["predict"].full()
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors["backlog_full"] == 1


def test_without_an_sdk_nothing_is_kept():
    recorder = watched(metrics.NoOpMeterProvider(), "nobody")
    assert not recorder.comes_alive()
    BACKLOG.work_off()
    recorder.record([0, 1, 2])
    assert len(BACKLOG.calls) == 0
    assert [monitor.snapshot().predictions for _, monitor in recorder.monitors()] == [0]


def test_the_last_collection_of_a_shutdown_has_what_waits():
    exported = []

    class Reader(InMemoryMetricReader):
        def shutdown(self, *args, **kwargs):
            exported.append(self.get_metrics_data())
            super().shutdown(*args, **kwargs)

    provider = MeterProvider([Reader()])
    recorder = watched(provider)
    for _ in range(50):
        recorder.methods["predict"].returned(SCORES, 0.01)
    provider.shutdown()
    points = {
        metric.name: metric.data.data_points
        for metric in exported[0].resource_metrics[0].scope_metrics[0].metrics
    }
    assert [point.count for point in points["keras.predict.duration"]] == [50]
    assert sum(point.value for point in points["keras.predictions"]) == 50 * len(SCORES)


def test_durations_have_the_span_of_their_call_and_not_of_the_collection(collected):
    seen = []
    recorder = watched(collected.provider)

    class Histogram:
        def record(self, amount, attributes, given):
            seen.append((given or context.get_current(), amount))

    recorder.duration = Histogram()
    of_call = context.set_value("request", 1)
    method = recorder.methods["predict"]
    method.returned(SCORES, 0.25)
    method.returned(SCORES, 0.5, of_call)
    token = context.attach(context.set_value("request", "of the collection"))
    BACKLOG.work_off()
    context.detach(token)
    assert seen == [({}, 0.25), (of_call, 0.5)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_inherits_no_call(collected):
    recorder = watched(collected.provider)
    recorder.methods["predict"].returned(SCORES, 0.01)
    child = os.fork()
    if child == 0:
        recorder.methods["predict"].returned(SCORES, 0.01)
        counts = collected.values("keras.predict.samples", "keras.method")
        os._exit(0 if counts.get("predict") == len(SCORES) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    samples = collected.values("keras.predict.samples", "keras.method")
    assert samples["predict"] == len(SCORES)


def test_memory_is_flat_however_much_is_predicted(collected):
    recorder = watched(collected.provider, classes=10)
    method = recorder.methods["predict"]
    batches = list(np.random.default_rng(1).random((2_500, 4, 10), dtype="float32"))

    def predict():
        for scores in batches:
            method.returned(scores, 0.01)
        collected.points()

    predict()  # also fills what Python keeps of tuples that are gone, to use them again
    tracemalloc.start()
    try:
        predict()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            predict()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_models_that_are_gone_leave_nothing_behind():
    gone = []
    for number in range(50):
        provider = MeterProvider([reader := InMemoryMetricReader()])
        recorder = watched(provider, f"model {number}")
        recorder.methods["predict"].returned(SCORES, 0.01)
        reader.get_metrics_data()
        gone.append(weakref.ref(recorder))
        provider.shutdown()
        del provider, reader, recorder
    BACKLOG.work_off()
    gc.collect()
    alive = sum(one() is not None for one in gone)
    assert alive <= 1  # the thread that collected still has the last snapshot


AN_SDK_THAT_COMES_LATER = """
import numpy as np
import otel_drift
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_drift.telemetry.backlog import BACKLOG

recorder = otel_drift.watch("net", otel_drift.Baseline.uniform(3))
recorder.record(np.array([0, 1]))
assert len(BACKLOG.calls) == 0 and BACKLOG.most == 0, "nobody will ever be told"
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
recorder.record(np.array([0, 1, 2]))
scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
counts = {one.name: sum(p.value for p in one.data.data_points) for one in scope.metrics[:2]}
assert counts == {"keras.predict.samples": 3, "keras.predictions": 3}, counts
"""


def test_an_sdk_that_comes_later_is_told_of_what_follows():
    subprocess.run([sys.executable, "-c", AN_SDK_THAT_COMES_LATER], check=True)
