"""Replay speed and memory of the sequential detector, on one core.

    python benchmarks/sequential_speed.py            # a minute
    python benchmarks/sequential_speed.py --long     # and 100 million predictions

Writes benchmarks/results/sequential_speed.md. Processor time, the best of five, so that what else
the machine does matters little.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from otel_drift import Baseline
from otel_drift.drift.sequential import SequentialDetector

RESULTS = Path(__file__).parent / "results" / "sequential_speed.md"


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def sizes(detector: SequentialDetector) -> tuple[int, int]:
    """Bytes of the state in memory, and as JSON."""
    arrays = sum(values.nbytes for values in detector._arrays().values())
    return arrays, len(json.dumps(detector.state()))


def row(k: int, predictions: int) -> str:
    rng = np.random.default_rng(k)
    baseline = Baseline.uniform(k)
    start = best(lambda: SequentialDetector(baseline), 3)
    detector = SequentialDetector(baseline)
    labels = rng.integers(0, k, predictions)
    replay = best(lambda: detector.update(labels))
    collapsed = np.where(rng.random(predictions) < 0.9, k // 2, labels)
    drifting = SequentialDetector(baseline)
    drifting.update(collapsed[: predictions // 10])
    drift = best(lambda: drifting.update(collapsed))
    chunk = best(lambda: [detector.update(labels[i : i + 32]) for i in range(0, 3_200, 32)]) / 100
    single = best(lambda: [detector.update(labels[i : i + 1]) for i in range(1_600)]) / 1_600
    memory, text = sizes(detector)
    return (
        f"| {k:,} | {predictions / replay:,.0f} | {predictions / drift:,.0f} "
        f"| {single * 1e6:.0f} | {chunk * 1e6:,.0f} "
        f"| {start * 1e3:.0f} | {memory / 1e3:,.1f} | {text / 1e3:,.1f} |"
    )


def long_run(predictions: int = 100_000_000, k: int = 10) -> str:
    rng = np.random.default_rng(0)
    detector = SequentialDetector(Baseline.uniform(k))
    detector.update(rng.integers(0, k, 1_000_000))
    before = sizes(detector)[0]
    highest = 0.0
    while detector.predictions < predictions:
        detector.update(rng.integers(0, k, 1_000_000))
        highest = max(highest, detector.evidence)
        assert math.isfinite(detector.evidence)
    assert sizes(detector)[0] == before
    return (
        f"{predictions:,} undrifted predictions of {k} classes: {detector.alarms} alarms, highest "
        f"evidence seen {highest:.2f} decades of {detector.threshold:.0f}, memory unchanged."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="also replay 100 million predictions")
    options = parser.parse_args()
    lines = [
        "# Speed and memory of the sequential detector",
        "",
        "Command: `python benchmarks/sequential_speed.py --long`. One core, processor time, "
        f"Python {platform.python_version()}, NumPy {np.__version__}.",
        "",
        "| classes | replay, predictions/s | the same with one class at 90 % "
        "| one prediction a call, µs | 32 a call, µs "
        "| constructor, ms | memory, kB | state as JSON, kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for k, predictions in (
        (2, 10**6),
        (10, 10**6),
        (100, 5 * 10**5),
        (1_000, 2 * 10**5),
        (10_000, 20_000),
    ):
        lines.append(row(k, predictions))
        print(lines[-1], flush=True)
    if options.long:
        lines += ["", long_run()]
        print(lines[-1])
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
