"""From a Keras call to a fired alert, on the real collector, Prometheus and Alertmanager."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from examples.demo.example import zero_code_command, zero_code_environment
from examples.demo.stack import ROOT, Ports, Process, Programs, Stack

pytestmark = pytest.mark.pipeline

DRIFT = ROOT / "examples/digits/drift.py"
MODEL = 'keras_model_name="digits"'
HISTOGRAMS = ("keras_predict_duration_seconds", "keras_prediction_drift_test_p_value")
OF_MODEL = {"keras_model_name", "keras_model_version"}
OF_OUTPUT = {*OF_MODEL, "keras_model_output"}
OF_CLASS = {*OF_OUTPUT, "keras_prediction_class"}
CONTRACT = {
    "keras_predict_samples_total": {*OF_MODEL, "keras_method"},
    "keras_predictions_total": OF_CLASS,
    "keras_prediction_baseline_proportion": OF_CLASS,
    "keras_prediction_baseline_lower": OF_CLASS,
    "keras_prediction_baseline_upper": OF_CLASS,
    "keras_prediction_baseline_size": OF_OUTPUT,
    "keras_prediction_design_effect": OF_OUTPUT,
    "keras_prediction_drift_p_value": OF_OUTPUT,
    "keras_prediction_drift_statistic": OF_OUTPUT,
    "keras_prediction_drift_effect": {*OF_OUTPUT, "keras_prediction_drift_measure"},
    "keras_prediction_drift_evidence": OF_OUTPUT,
    "keras_prediction_drift_threshold": OF_OUTPUT,
    "keras_prediction_drift_alarms_total": OF_OUTPUT,
    "keras_prediction_drift_active": OF_OUTPUT,
    "keras_prediction_drift_onset_seconds": OF_OUTPUT,
    "keras_prediction_drift_share": OF_CLASS,
    "keras_instrumentation_errors_total": {*OF_MODEL, "error_type"},
    **{
        f"{histogram}_{part}": labels | ({"le"} if part == "bucket" else set())
        for histogram, labels in zip(
            HISTOGRAMS, ({*OF_MODEL, "keras_method"}, OF_OUTPUT), strict=True
        )
        for part in ("bucket", "count", "sum")
    },
}
"""Every series while a model drifts, with the labels that are ours."""


def test_the_trained_model_is_accurate(accuracy: float) -> None:
    assert accuracy >= 0.97


def test_a_lost_class_reaches_the_webhook(
    stack: Stack, model: Path, eventually: Callable[..., Any]
) -> None:
    report = stack.folder / "report.jsonl"
    example = _zero_code(
        stack, model, "--predictions", "40000", "80000", "--rate", "4000", "--report", report
    )

    # The collector's endpoint.
    collector = f"http://127.0.0.1:{stack.ports.collector_metrics}/metrics"
    scraped = eventually(lambda: _names_at(collector), lambda found: found >= CONTRACT.keys())
    assert {name for name in scraped if name.startswith("keras_")} == CONTRACT.keys()

    # Prometheus: series, then the alert.
    names = f'{{job="digits-example", __name__=~"keras_.*", {MODEL}}}'
    eventually(
        lambda: {one.labels["__name__"] for one in stack.prometheus.query(names)},
        lambda found: found == CONTRACT.keys(),
    )
    alert = eventually(lambda: _firing(stack, "DriftDetected"))
    assert alert["labels"] == {
        "alertname": "DriftDetected",
        "severity": "critical",
        "keras_model_name": "digits",
        "keras_model_output": "output",
    }

    # The webhook, told by Alertmanager: both tests, the detector's and the windows'.
    told = stack.webhook.wait_for(lambda one: one.firing("DriftDetected"), seconds=60)
    assert told is not None
    (sent,) = told.firing("DriftDetected")
    assert sent["labels"] == alert["labels"]
    assert sent["annotations"]["summary"].startswith("digits: ")
    assert sent["annotations"]["runbook_url"].endswith("#driftdetected")
    assert told.body["groupLabels"] == {
        "keras_model_name": "digits",
        "keras_model_output": "output",
    }
    shifted = stack.webhook.wait_for(
        lambda one: one.firing("PredictionDistributionShifted"), seconds=90
    )
    assert shifted is not None
    assert ": class 0 from 9.9" in sent["annotations"]["description"]
    for one in shifted.firing():
        assert "class 0 from 9.9" in one["annotations"]["description"]

    # The truth: what the script counted itself, and what Prometheus has in the end.
    assert example.wait(120) == 0, example.log.read_text()
    records = [json.loads(text) for text in report.read_text().splitlines()]
    drifted_at = next(one["time"] for one in records if one["phase"] == "drifted")
    started_at = datetime.fromisoformat(sent["startsAt"]).timestamp()
    assert started_at >= drifted_at, "an alert before there was drift"
    _assert_counted(stack, records[-1], 120_000, eventually)
    assert stack.prometheus.value("sum(keras_instrumentation_errors_total)") == 0


def test_two_million_undrifted_predictions_raise_no_alert(
    stack: Stack, model: Path, eventually: Callable[..., Any]
) -> None:
    report = stack.folder / "report.jsonl"
    sizes = ("--predictions", "2000000", "0", "--rate", "0", "--batch-size", "4000")
    example = _zero_code(stack, model, *sizes, "--report", report)

    assert example.wait(400) == 0, example.log.read_text()
    truth = json.loads(report.read_text().splitlines()[-1])
    _assert_counted(stack, truth, 2_000_000, eventually)

    # The rules have since been evaluated, on all of it.
    counted_at = stack.prometheus.value("vector(time())")
    tested_at = f'timestamp(output:keras_predictions:tested{{window="5m", {MODEL}}})'
    eventually(
        lambda: stack.prometheus.value(tested_at),
        lambda found: found is not None and found > counted_at + 5,
    )
    fired = stack.prometheus.query("count_over_time(ALERTS[15m])")
    assert fired == []
    assert stack.webhook.deliveries == []
    assert stack.prometheus.value(f"keras_prediction_drift_alarms_total{{{MODEL}}}") == 0


def test_all_routes_give_the_same_series(
    programs: Programs, model: Path, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """The SDK's Prometheus exporter, the collector's (zero-code and in code), the OTLP receiver."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = Ports.free()
    jobs = ("direct", "collector", "in-code", "receiver")
    with Stack(
        programs,
        ports,
        tmp_path / "stack",
        otlp_receiver=True,
        scraped={"direct": f"127.0.0.1:{port}"},
    ) as stack:
        options = ("--model", model, "--undrifted", "0", "--rate", "500")
        in_code = [*zero_code_command()[1:], DRIFT, *options]
        stack.run("direct", [*in_code, "--prometheus-port", str(port)])
        endpoint = f"http://127.0.0.1:{stack.ports.otlp_grpc}"
        settings = {**zero_code_environment(endpoint), "OTEL_SERVICE_NAME": "in-code"}
        stack.run("in-code", [*in_code, "--in-code"], settings)
        _zero_code(stack, model, *options[2:], name="collector")
        receiver = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{stack.prometheus.url}/api/v1/otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        _zero_code(stack, model, *options[2:], name="receiver", environment=receiver)

        for job in jobs:
            assert eventually(lambda job=job: _series(stack, job), CONTRACT.__eq__) == CONTRACT
        # And the same rules see them all.
        assert eventually(
            lambda: stack.prometheus.value(f"count(keras_prediction_drift_active{{{MODEL}}} == 1)"),
            lambda found: found == len(jobs),
        )
        assert eventually(lambda: _firing(stack, "DriftDetected"))
        stack.check()


def _zero_code(
    stack: Stack,
    model: Path,
    *options: str | Path,
    name: str = "digits-example",
    environment: dict[str, str] | None = None,
) -> Process:
    """Start the example as a program that knows nothing of being watched."""
    settings = zero_code_environment(f"http://127.0.0.1:{stack.ports.otlp_grpc}")
    return stack.run(
        name,
        [*zero_code_command(), DRIFT, "--model", model, *options],
        {**settings, "OTEL_SERVICE_NAME": name, **(environment or {})},
    )


def _names_at(url: str) -> set[str]:
    """Names of the series at a Prometheus endpoint."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return set(re.findall(r"^(\w+)\{", text, re.MULTILINE))


def _series(stack: Stack, job: str) -> dict[str, set[str]]:
    """Names of a job's series in Prometheus, with the labels that are ours."""
    found: dict[str, set[str]] = {}
    selector = f'{{job="{job}", __name__=~"keras_.*"}}'
    for one in stack.prometheus.get("series", **{"match[]": selector}):
        labels = {
            label for label in one if not re.match("__name__|job|instance|otel_scope_", label)
        }
        found.setdefault(one["__name__"], set()).update(labels)
    return found


def _firing(stack: Stack, name: str) -> dict[str, Any] | None:
    for alert in stack.prometheus.get("alerts")["alerts"]:
        if alert["labels"]["alertname"] == name and alert["state"] == "firing":
            return alert
    return None


def _assert_counted(
    stack: Stack, truth: dict[str, Any], predictions: int, eventually: Callable[..., Any]
) -> None:
    """Prometheus's counters are exactly what the model returned, class by class."""
    assert truth["phase"] == "ended"
    assert sum(truth["counts"].values()) == predictions
    eventually(
        lambda: stack.prometheus.value(f"sum(keras_predictions_total{{{MODEL}}})"),
        lambda found: found == predictions,
    )
    counted = stack.prometheus.by("keras_prediction_class", f"keras_predictions_total{{{MODEL}}}")
    assert counted == {**truth["counts"], "other": 0, "invalid": 0}
    samples = f'keras_predict_samples_total{{keras_method="predict_on_batch", {MODEL}}}'
    assert stack.prometheus.value(samples) == predictions
