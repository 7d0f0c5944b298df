"""Workers that are forked from a process in which the model has already predicted."""

from __future__ import annotations

import io
import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.demo.example import zero_code_command
from examples.demo.stack import ROOT, Stack

pytestmark = pytest.mark.pipeline

APPLICATION = ROOT / "examples/gunicorn"
MODEL = '{keras_model_name="digits"}'
WARM_UP = 1_000
"""Rows that the application predicts before the fork."""
EXPORT_BEFORE_THE_FORK = """
def when_ready(server):
    from opentelemetry import metrics
    metrics.get_meter_provider().force_flush()
"""


class Client:
    """Sends images until both workers have answered; the truth is what they answered."""

    def __init__(self, url: str) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._x = (digits.images / digits.images.max()).astype(np.float32)[..., np.newaxis]
        self._url = url
        self.counts = np.zeros(10, dtype=int)
        self.responses = 0
        self.workers: set[int] = set()

    def _ask(self, chosen: np.ndarray) -> dict[str, Any]:
        body = io.BytesIO()
        np.save(body, self._x[chosen])
        with urllib.request.urlopen(self._url, body.getvalue(), timeout=60) as answer:
            return json.load(answer)

    def send(self, rounds: int) -> None:
        random = np.random.default_rng(3)
        with ThreadPoolExecutor(4) as pool:
            while self.responses < 4 * rounds or len(self.workers) < 2:
                sent = [random.integers(0, len(self._x), n) for n in (1, 20, 50, 3)]
                for answer in pool.map(self._ask, sent):
                    self.responses += 1
                    self.workers.add(answer["worker"])
                    self.counts += np.bincount(answer["labels"], minlength=10)


def serve(
    stack: Stack,
    model: Path,
    eventually: Callable[..., Any],
    configuration: Path,
    *launcher: str | Path,
    **settings: str,
) -> Client:
    """Serve with two workers, send, and end them as a supervisor does."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    command = [*launcher, sys.executable, "-m", "gunicorn", "--preload", "--workers", "2"]
    options = ["-c", configuration, "--bind", f"127.0.0.1:{port}"]
    server = stack.run(
        "gunicorn",
        [*command, *options, "--chdir", APPLICATION, "application:application"],
        {"MODEL": str(model), "OTEL_SERVICE_NAME": "digits", **settings},
    )

    def listens() -> bool:
        server.check()
        with socket.create_connection(("127.0.0.1", port)):
            return True

    eventually(listens)
    client = Client(f"http://127.0.0.1:{port}")
    client.send(20)
    server.stop()  # the exports are those of the end: the interval is a minute
    return client


def counted(stack: Stack) -> dict[str, float]:
    by_class = f"sum by (keras_prediction_class) (keras_predictions_total{MODEL})"
    found = stack.prometheus.by("keras_prediction_class", by_class)
    return {name: count for name, count in found.items() if count}


def truth(counts: np.ndarray) -> dict[str, float]:
    return {str(k): n for k, n in enumerate(counts) if n}


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_with_an_sdk_of_each_worker_nothing_is_inherited(
    stack: Stack, model: Path, eventually: Callable[..., Any], worker: str
) -> None:
    endpoint = f"http://127.0.0.1:{stack.ports.otlp_grpc}"
    client = serve(
        stack,
        model,
        eventually,
        APPLICATION / "gunicorn.conf.py",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        GUNICORN_CMD_ARGS=f"--worker-class {worker} --threads {1 if worker == 'sync' else 2}",
    )
    eventually(lambda: counted(stack), truth(client.counts).__eq__)
    value = stack.prometheus.value
    assert value(f"count(count by (instance) (keras_predictions_total{MODEL}))") == 2
    assert value(f"sum(keras_predict_duration_seconds_count{MODEL})") == client.responses
    assert value(f"sum(keras_predict_samples_total{MODEL})") == client.counts.sum()
    assert not value("sum(keras_instrumentation_errors_total)")


def test_with_an_sdk_from_before_the_fork_predictions_are_counted_once(
    stack: Stack, model: Path, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(EXPORT_BEFORE_THE_FORK)
    client = serve(
        stack,
        model,
        eventually,
        configuration,
        *zero_code_command()[:1],
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{stack.ports.otlp_http}",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    total = client.counts.sum() + WARM_UP
    value = stack.prometheus.value
    eventually(lambda: value(f"sum(keras_predictions_total{MODEL})"), total.__eq__)
    assert value(f"sum(keras_predict_samples_total{MODEL})") == total
    assert value(f"count(count by (instance) (keras_predictions_total{MODEL}))") == 3
    # What the page warns of: the SDK's histograms hold the parent's one call in each worker, too.
    calls = client.responses + 1
    assert value(f"sum(keras_predict_duration_seconds_count{MODEL})") == calls + 2
    assert not value("sum(keras_instrumentation_errors_total)")
