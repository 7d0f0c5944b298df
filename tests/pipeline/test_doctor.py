"""The doctor on the real collector and Prometheus: what it asks is understood, and it is right."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.stack import Ports, Programs, Stack
from otel_drift.cli import main
from otel_drift.doctor.endpoint import look_at_endpoint
from tests.grafana.prometheus_server import prometheus_alone, write_history

pytestmark = pytest.mark.pipeline

PROGRAM = """
import signal, sys
import numpy as np
import otel_drift
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

exporter = OTLPMetricExporter(endpoint=sys.argv[1] + "/v1/metrics")
provider = MeterProvider([PeriodicExportingMetricReader(exporter, 500)])
kept = {
    "good": otel_drift.watch("good", otel_drift.Baseline.uniform(2), meter_provider=provider),
    "bare": otel_drift.watch("bare", None, meter_provider=provider),
    "unread": otel_drift.watch("unread", None, meter_provider=provider),
}
kept["good"].record([0, 1, 1])
kept["bare"].record(np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
kept["unread"].record(np.array(["cat", "dog", "cat"]))
signal.pause()
"""


def test_the_doctor_sees_what_has_arrived(
    programs: Programs,
    tmp_path: Path,
    eventually: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hurried = Stack(programs, Ports.free(), tmp_path, seconds_between_scrapes=1)
    with hurried as stack:
        url = f"http://127.0.0.1:{stack.ports.otlp_http}"
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        assert look_at_endpoint(variables).state == "ok"

        def doctor() -> dict[str, list[str]]:
            status = main(["doctor", "--prometheus", stack.prometheus.url, "--json"])
            told: dict[str, list[str]] = {"ok": [], "wrong": [], "unknown": []}
            for one in json.loads(capsys.readouterr().out):
                told[one["state"]].append(one["what"])
            assert status == bool(told["wrong"])
            return told

        assert "no series keras_predictions_total in the last hour" in doctor()["wrong"]
        stack.run("models", [sys.executable, "-c", PROGRAM, url])

        def complete(told: dict[str, list[str]]) -> bool:
            known = "\n".join(told["ok"])
            return all(
                part in known for part in ("model 'good'", "keras_serving", "targets are up")
            )

        told = eventually(doctor, complete, seconds=60)
        assert told["wrong"] == [
            "model 'bare', output 'output': 3 predictions, no baseline: drift is not watched"
        ]
        known = "\n".join(told["ok"])
        assert "model 'good'" in known
        assert "3 predictions, has a baseline" in known
        assert "rules keras_drift: " in known
        assert "none of our alerts fires" in known
        assert "scrape targets are up" in known
        assert known.count("its newest sample is ") == 3
        assert "model 'unread': 3 rows predicted, none counted by class" in told["unknown"]


def test_series_that_come_and_go_and_such_as_have_ended_are_told(
    programs: Programs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A history of 50 minutes, with gaps that are longer than Prometheus looks back."""
    now = int(time.time())
    minutes = {
        "steady": range(50),
        "ended": range(4, 50),
        "restarted": [at for at in range(50) if not 20 <= at < 30],
        "goes": [at for at in range(50) if not (10 <= at < 20 or 30 <= at < 40)],
    }
    lines = [
        f'keras_predict_samples_total{{keras_model_name="{name}"}} 5 {now - 60 * at}'
        for name, there in minutes.items()
        for at in reversed(there)
    ]
    history = ["# TYPE keras_predict_samples counter", *lines, "# EOF", ""]
    write_history(tmp_path, "\n".join(history))
    with prometheus_alone(tmp_path) as url:
        assert main(["doctor", "--prometheus", url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    ages = {one["what"].split("'")[1]: one for one in told if one["subject"] == "age"}
    states = {name: one["state"] for name, one in ages.items()}
    assert states == {"steady": "ok", "restarted": "ok", "ended": "wrong", "goes": "wrong"}
    assert "its newest sample is 2" in ages["ended"]["what"]
    assert "vanished 2 times" in ages["goes"]["what"]
