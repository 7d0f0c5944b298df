"""How long the dashboards' queries take, with 200 models of 10 classes on a real Prometheus.

    python -m benchmarks.dashboards > benchmarks/results/dashboards.txt

200 models are watched and exported through OTLP for a minute, so that Prometheus's rules make every
record that there is. Then an hour of history is written for what the panels read: for what they
read of all models, of all 200; for what they read of one model, of that one. Each query of each
panel and each variable is run as Grafana runs it for a range of one hour, while the rules go on
being evaluated. Takes three minutes; needs `make tools`.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

import otel_drift
from otel_drift.telemetry.metric_table import DURATION_BOUNDS_SECONDS
from tests.grafana.board import choices, filled_in, load, panels
from tests.grafana.prometheus_server import (
    BIN,
    ROOT,
    Prometheus,
    prometheus_alone,
)

MODELS, CLASSES = 200, 10
LOOKED_AT = "model-100"
DRIFTING = ("model-100", "model-150")
ROUNDS = 14
SECONDS_A_ROUND = 5.0
HISTORY_SECONDS = 3600
HISTORY_STEP_SECONDS = 15
REPETITIONS = 9
LIMIT_MILLISECONDS = 300.0


class Timing(NamedTuple):
    """One query."""

    where: str
    series: int
    milliseconds: list[float]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with prometheus(folder) as server:
            print(f"exporting {MODELS} models of {CLASSES} classes", file=sys.stderr)
            begin = time.time()
            export_all(server)
            end = time.time()
            write_history(server, folder / "history.txt", begin, end)
        print("writing an hour of history", file=sys.stderr)
        write = [BIN / "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
        subprocess.run(
            [*write, folder / "history.txt", folder / "data"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with prometheus(folder) as server:
            (count,) = server.instant('count({__name__=~".+"})', end)
            timings = list(measured(server, end))
    print(f"Prometheus 3.16, {MODELS} models x {CLASSES} classes, {count.value:,.0f} series, 1 h")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {REPETITIONS} times each")
    print(f"{'query':64} {'series':>6} {'median ms':>9} {'worst ms':>9}")
    for timing in timings:
        median, worst = statistics.median(timing.milliseconds), max(timing.milliseconds)
        print(f"{timing.where:64} {timing.series:6} {median:9.1f} {worst:9.1f}")
    slowest = max(timings, key=lambda one: statistics.median(one.milliseconds))
    median = statistics.median(slowest.milliseconds)
    print(f"slowest: {slowest.where}, {median:.0f} ms (limit {LIMIT_MILLISECONDS:.0f} ms)")
    return int(median >= LIMIT_MILLISECONDS)


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with the project's rules that takes OTLP."""
    configuration = {
        "global": {"evaluation_interval": "15s"},
        "rule_files": [str(ROOT / "prometheus/rules/*.yml")],
        "otlp": {"promote_resource_attributes": []},
    }
    with prometheus_alone(folder, configuration, "--web.enable-otlp-receiver") as url:
        yield Prometheus(url)


def export_all(server: Prometheus) -> None:
    """Watch all models for some rounds; half-way two of them lose a class."""
    exporter = OTLPMetricExporter(f"{server.url}/api/v1/otlp/v1/metrics", timeout=30)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
    resource = Resource({"service.name": "benchmark", "service.instance.id": "one"})
    provider = MeterProvider([reader], resource)
    random = np.random.default_rng(1)
    baseline = otel_drift.Baseline.uniform(CLASSES)
    durations = provider.get_meter("otel_drift").create_histogram(
        "keras.predict.duration",
        "s",
        explicit_bucket_boundaries_advisory=DURATION_BOUNDS_SECONDS,
    )
    names = [f"model-{number:03}" for number in range(MODELS)]
    recorders = {name: otel_drift.watch(name, baseline, meter_provider=provider) for name in names}
    pause = threading.Event()
    for number in range(ROUNDS):
        due = time.monotonic() + SECONDS_A_ROUND
        for name, recorder in recorders.items():
            labels = random.integers(0, CLASSES, 500)
            if name in DRIFTING and number >= ROUNDS // 2:
                labels = labels[labels != 0]
            recorder.record(labels)
            attributes = {"keras.model.name": name, "keras.method": "predict"}
            durations.record(float(random.lognormal(-4, 0.5)), attributes)
        provider.force_flush()
        pause.wait(max(0.0, due - time.monotonic()))
    provider.shutdown()


def write_history(server: Prometheus, path: Path, begin: float, end: float) -> None:
    """Write an hour before `begin` of what the panels read, from what there is at `end`."""
    lines: dict[str, list[str]] = {}
    moments = np.arange(begin - HISTORY_SECONDS, begin - 1, HISTORY_STEP_SECONDS)
    random = np.random.default_rng(2)
    for selector in read_by_panels():
        for series in server.instant(selector, end):
            name = series.labels.pop("__name__")
            labels = ",".join(f'{key}="{value}"' for key, value in series.labels.items())
            if re.search("_(total|bucket|count|sum)$", name):
                values = series.value * np.linspace(0, 1, len(moments))
            else:
                values = series.value * random.uniform(0.9, 1, len(moments))
            lines[f"{name}{{{labels}}}"] = [
                f"{value:.6g} {moment:.3f}" for value, moment in zip(values, moments, strict=True)
            ]
    with path.open("w") as file:
        for series, samples in lines.items():
            file.writelines(f"{series} {sample}\n" for sample in samples)
        file.write("# EOF\n")


def read_by_panels() -> set[str]:
    """List the selectors of all panels, with the values they are looked at with."""
    selector = re.compile(
        r"\b((?:output|class|model|replica):\w+:\w+|keras_\w+|ALERTS)(\{[^}]*\})?"
    )
    found = set()
    for panel in panels("models", "one_model"):
        for query in panel.queries:
            for name, matchers in selector.findall(filled_in(query["expr"], values())):
                if ":" in name or matchers:
                    found.add(name + matchers)
    return found


def values() -> dict[str, str]:
    """Choose what is looked at."""
    return {
        "model": LOOKED_AT,
        "output": "output",
        "window": "5m",
        "class": "3",
        "replica": "one",
        "run": "first",
        "metric": "accuracy",
        "__range": f"{HISTORY_SECONDS}s",
        "__interval": "5s",
    }


def measured(server: Prometheus, end: float) -> Iterator[Timing]:
    """Measure every query of every panel and variable."""
    start = end - HISTORY_SECONDS
    for panel in panels("models", "one_model"):
        for query in panel.queries:
            expr = filled_in(query["expr"], values())

            step = HISTORY_SECONDS / panel.json.get("maxDataPoints", 1000)

            def ask(
                expr: str = expr, step: float = step, instant: bool = bool(query.get("instant"))
            ) -> list[object]:
                if instant:
                    return list(server.instant(expr, end))
                return list(server.over(expr, start, end, step))

            yield timed(f"{panel.dashboard}: {panel.title} ({query['refId']})", ask)
    for name in ("models", "one_model"):
        for variable in load(name)["templating"]["list"]:
            if variable["type"] == "query":

                def offer(variable: dict[str, object] = variable) -> list[object]:
                    return list(choices(variable, server, end, values()))

                yield timed(f"{name}: variable {variable['name']}", offer)
        for annotation in load(name)["annotations"]["list"]:
            expr = filled_in(annotation["expr"], values())
            yield timed(
                f"{name}: annotation {annotation['name']}",
                lambda expr=expr: list(server.over(expr, start, end, 15)),
            )


def timed(where: str, ask: Callable[[], list[object]]) -> Timing:
    """Ask several times."""
    milliseconds, answer = [], []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        answer = ask()
        milliseconds.append(1000 * (time.perf_counter() - begin))
    return Timing(where, len(answer), milliseconds)


if __name__ == "__main__":
    sys.exit(main())
