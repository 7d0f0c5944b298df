"""What watching costs in memory: over many predictions, for each output, and after many models.

    python benchmarks/memory.py            # half an hour; writes results/memory.md

- *Over predictions*: a real Keras model predicts ten million rows in calls of 1,024, watched, with
  metrics collected after each million. Given are the process's resident memory and what Python has
  allocated (tracemalloc), both after a collection of garbage.
- *For each output*: what Python has allocated for a model of one output after 200,000 predictions,
  with all that is kept for its series in OpenTelemetry's SDK and without.
- *After models*: Keras models that are made, predict once and are forgotten, each under a name of
  its own: how many recorders and series are left, and the memory after each thousand.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_drift
from otel_drift import Baseline, KerasInstrumentor
from otel_drift.telemetry.backlog import BACKLOG
from otel_drift.telemetry.recorder import ModelRecorder

RESULTS = Path(__file__).parent / "results" / "memory.md"
ROWS, FEATURES, CLASSES = 1_024, 8, 10


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def now() -> tuple[float, float]:
    """Megabytes that are resident, and that Python has allocated."""
    keras.backend.clear_session()
    gc.collect()
    return resident_megabytes(), tracemalloc.get_traced_memory()[0] / 1e6


def points_of(reader: InMemoryMetricReader) -> int:
    """Collect; give the number of series."""
    data = reader.get_metrics_data()
    return sum(
        len(metric.data.data_points)
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def model_of(name: str) -> Any:
    """Give a small model that predicts classes."""
    layers = [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES, "softmax")]
    return keras.Sequential(layers, name=name)


def over_predictions(millions: int) -> Iterator[str]:
    """Give the lines of a table: memory after each million of predictions."""
    reader = InMemoryMetricReader()
    instrumentor = KerasInstrumentor()
    instrumentor.instrument(
        baseline=Baseline.uniform(CLASSES), meter_provider=MeterProvider([reader]), traces=False
    )
    rng = np.random.default_rng(1)
    batches = rng.normal(size=(64, ROWS, FEATURES)).astype("float32")
    model = model_of("watched")
    yield "| million predictions | resident, MB | allocated by Python, MB | series |"
    yield "|---:|---:|---:|---:|"
    predicted = 0
    for million in range(1, millions + 1):
        while predicted < million * 1_000_000:
            model.predict_on_batch(batches[predicted // ROWS % len(batches)])
            predicted += ROWS
        series = points_of(reader)
        resident, allocated = now()
        yield f"| {million} | {resident:.1f} | {allocated:.2f} | {series} |"
    instrumentor.uninstrument()


def each_output() -> Iterator[str]:
    """Give the lines of a table: kilobytes of a model of one output."""
    yield "| classes | with the SDK's series, kB | without, kB |"
    yield "|---:|---:|---:|"
    for classes in (2, 10, 100, 1_000):
        both = [kilobytes_of_output(classes, collected=collected) for collected in (True, False)]
        yield f"| {classes:,} | {both[0]:.0f} | {both[1]:.0f} |"


def kilobytes_of_output(classes: int, *, collected: bool) -> float:
    """What a second model of one output costs, with or without its series in the SDK."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    baseline = Baseline.uniform(classes)
    first = otel_drift.watch("first", baseline, meter_provider=provider)
    feed(first, classes, 200_000)
    BACKLOG.work_off()
    if collected:
        reader.get_metrics_data()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    second = otel_drift.watch("second", baseline, meter_provider=provider)
    feed(second, classes, 200_000)
    BACKLOG.work_off()
    if collected:
        reader.get_metrics_data()
    gc.collect()
    found = (tracemalloc.get_traced_memory()[0] - before) / 1e3
    provider.shutdown()
    return found


def feed(recorder: ModelRecorder, classes: int, predictions: int) -> None:
    """Hand over predictions that are as they should be."""
    rng = np.random.default_rng(1)
    for _ in range(predictions // 500):
        recorder.record(rng.integers(0, classes, 500))


def after_models(thousands: int) -> Iterator[str]:
    """Give the lines of a table: what is left of models that are gone."""
    reader = InMemoryMetricReader()
    instrumentor = KerasInstrumentor()
    instrumentor.instrument(
        baseline=Baseline.uniform(CLASSES), meter_provider=MeterProvider([reader]), traces=False
    )
    x = np.zeros((4, FEATURES), "float32")
    yield "| models | resident, MB | allocated by Python, MB | recorders | series |"
    yield "|---:|---:|---:|---:|---:|"
    for number in range(1, thousands * 1_000 + 1):
        model_of(f"model_{number}").predict_on_batch(x)
        if number % 100 == 0:  # as an exporter would, every few seconds
            gc.collect()
            points_of(reader)
        if number % 1_000 == 0:
            series = points_of(reader)
            resident, allocated = now()
            recorders = sum(isinstance(one, ModelRecorder) for one in gc.get_objects())
            yield f"| {number:,} | {resident:.1f} | {allocated:.2f} | {recorders} | {series} |"
    instrumentor.uninstrument()


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of all, print only")
    quick = parser.parse_args().quick
    tracemalloc.start()
    lines = [
        "# What watching costs in memory",
        "",
        "Command: `python benchmarks/memory.py`. Its docstring says what is measured. Python "
        f"{sys.version.split()[0]}, Keras {keras.__version__} on {keras.backend.backend()}.",
    ]
    for title, table in (
        ("Over predictions", over_predictions(2 if quick else 10)),
        ("For each output", each_output()),
        ("After models", after_models(2 if quick else 10)),
    ):
        lines += ["", f"## {title}", ""]
        for line in table:
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
