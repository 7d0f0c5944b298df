"""The fleet's detector as a user runs it: replicas, collector, Prometheus, Alertmanager."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

import otel_drift
from examples.demo.stack import Ports, Process, Programs, Stack
from otel_drift import Baseline

pytestmark = pytest.mark.pipeline

REPLICAS, ROWS, SECONDS = 8, 6, 0.1
"""Each replica predicts so many rows every so often."""
EVEN = np.full(10, 0.1)
THIN = np.append(np.full(9, 0.96 / 9), 0.04)
"""One class at less than half: it takes the fleet 1,500 predictions to see."""
MODEL = 'keras_model_name="digits"'
REPLICAS_OWN = f'{{{MODEL},keras_prediction_scope!="fleet"}}'
FLEET = f'{{{MODEL},keras_prediction_scope="fleet"}}'


class Replica:
    """A process of its own, as far as the collector can tell."""

    def __init__(self, number: int, endpoint: str) -> None:
        resource = Resource.create({"service.name": "digits", "service.instance.id": f"r{number}"})
        exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True)
        self.provider = MeterProvider([PeriodicExportingMetricReader(exporter, 1_000)], resource)
        self.stream = otel_drift.watch(
            "digits", Baseline.from_proportions(EVEN), meter_provider=self.provider
        )
        self.provider.force_flush()  # its series begin at 0

    def end(self) -> None:
        self.provider.force_flush()
        self.provider.shutdown()


class Replicas:
    """Replicas that predict until they are stopped, and the truth."""

    def __init__(self, endpoint: str) -> None:
        self.shares, self.predicted = EVEN, 0
        self._endpoint = endpoint
        self.all = [Replica(number, endpoint) for number in range(REPLICAS)]
        self._rng, self._lock, self._ended = np.random.default_rng(1), threading.Lock(), False
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._predict)

    def start(self) -> None:
        self._thread.start()

    def _predict(self) -> None:
        while not self._pause.wait(SECONDS):
            with self._lock:
                for replica in self.all:
                    replica.stream.record(self._rng.choice(10, ROWS, p=self.shares))
                    self.predicted += ROWS

    def settle(self, read: Callable[[], bool]) -> None:
        """Hold all predictions until what there is has been read."""
        with self._lock:
            for replica in self.all:
                replica.provider.force_flush()
            read()

    def restart(self, number: int) -> None:
        """Begin again at 0 under the same name."""
        self.all[number].end()
        self.all[number] = Replica(number, self._endpoint)

    def stop(self) -> None:
        if not self._pause.is_set():
            self._pause.set()
            self._thread.join()
            for replica in self.all:
                replica.end()


@pytest.fixture
def hurried(programs: Programs, tmp_path: Path) -> Iterator[Stack]:
    with Stack(programs, Ports.free(), tmp_path / "stack", seconds_between_scrapes=1) as running:
        yield running


def fleet(stack: Stack, name: str, state: Path) -> Process:
    options = ["--prometheus", stack.prometheus.url, "--tick", "1", "--delay", "1"]
    return stack.run(
        name,
        [sys.executable, "-m", "otel_drift.cli", "fleet", *options, "--state", state],
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stack.ports.otlp_grpc}"},
    )


def test_drift_that_no_replica_is_sure_of_reaches_the_webhook(
    hurried: Stack, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    stack, state = hurried, tmp_path / "fleet.json"
    value = stack.prometheus.value
    replicas = Replicas(f"http://127.0.0.1:{stack.ports.otlp_grpc}")
    try:
        eventually(
            lambda: value(f"count(keras_prediction_drift_threshold{{{MODEL}}})"),
            lambda n: n == REPLICAS,
        )
        first = fleet(stack, "fleet", state)
        eventually(
            lambda: value(f"count(keras_prediction_drift_threshold{FLEET})"), lambda n: n == 1
        )
        replicas.start()

        def all_read() -> bool:
            """Whether what all fleet's detectors have read is what was predicted, to the last."""
            read = "sum(max by (instance) (max_over_time(otel_drift_fleet_predictions_total[10m])))"
            return eventually(lambda: value(read), lambda n: n == replicas.predicted)

        eventually(
            lambda: value("max(otel_drift_fleet_ticks_total)"), lambda n: n is not None and n > 12
        )
        replicas.settle(all_read)

        # The fleet's detector ends, predictions go on, and it goes on where it was.
        first.stop()
        before = replicas.predicted
        eventually(lambda: replicas.predicted, lambda n: n > before + 500)
        second = fleet(stack, "fleet-again", state)
        eventually(
            lambda: value("count(otel_drift_fleet_ticks_total > 3)"), lambda n: n is not None
        )
        replicas.settle(all_read)

        # A replica begins again at 0.
        def restart() -> None:
            all_read()
            replicas.restart(3)

        replicas.settle(restart)

        # Prometheus is gone for a while.
        (prometheus,) = [one for one in stack._running if one.name == "prometheus"]
        prometheus.stop()
        eventually(lambda: "will be read when it answers" in second.log.read_text())
        before = replicas.predicted
        eventually(lambda: replicas.predicted, lambda n: n > before + 500)
        stack._start_prometheus()
        eventually(lambda: "answers again" in second.log.read_text())
        replicas.settle(all_read)
        second.check()
        assert value(f"max(keras_prediction_drift_active{{{MODEL}}})") == 0
        assert value("sum(max_over_time(otel_drift_fleet_ticks_skipped_total[10m]))") == 0
        assert stack.webhook.wait_for(lambda one: one.firing("DriftDetected"), seconds=0) is None

        # Every replica sees a little of a drift.
        replicas.shares = THIN
        told = stack.webhook.wait_for(lambda one: one.firing("DriftDetected"), seconds=60)
        assert told is not None
        (alert,) = told.firing("DriftDetected")
        assert alert["labels"]["keras_model_name"] == "digits"
        assert "class 9 from 10% to about" in alert["annotations"]["description"]
        assert value(f"max(keras_prediction_drift_active{FLEET})") == 1
        assert value(f"max(keras_prediction_drift_active{REPLICAS_OWN})") == 0
        summed = value(f"log10(sum(10 ^ keras_prediction_drift_evidence{REPLICAS_OWN}))")
        assert summed < 7 <= value(f"max(keras_prediction_drift_evidence{FLEET})")
        replicas.settle(all_read)
    finally:
        replicas.stop()
    second.stop()
    assert second.log.read_text().count("drift began") == 1
    assert "Traceback" not in first.log.read_text() + second.log.read_text()
    once = [sys.executable, "-m", "otel_drift.cli", "fleet", "--once", "--state", state]
    shown = stack.run("once", [*once, "--prometheus", stack.prometheus.url, "--tick", "1"])
    assert shown.wait(30) == 1
    assert "drift since" in shown.log.read_text()
