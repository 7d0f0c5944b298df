"""Replay speed and memory of the sequential detector, on one core.

    python benchmarks/sequential_speed.py            # a minute
    python benchmarks/sequential_speed.py --long     # and 100 million predictions

Writes benchmarks/results/sequential_speed.md. Processor time, the best of five, so that what else
the machine does matters little; healthy and drifting streams take turns, so that it matters to all
of them alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray

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


def streams(k: int, predictions: int) -> dict[str, NDArray[np.int64]]:
    """A healthy stream, and drifts of one class of k even ones."""
    rng = np.random.default_rng(k)
    even, one = np.full(k, 1 / k), k // 2
    shares = {name: even.copy() for name in ("healthy", "lost", "halved", "doubled", "at 90 %")}
    shares["lost"][one] = 0
    shares["halved"][one] *= 0.5
    shares["doubled"][one] = min(0.99, 2 / k)
    shares["at 90 %"] *= 0.1
    shares["at 90 %"][one] += 0.9
    return {name: rng.choice(k, predictions, p=p / p.sum()) for name, p in shares.items()}


def speeds(k: int, predictions: int) -> dict[str, float]:
    """Predictions a second of each stream; of drifts that have lasted for a while."""
    found, detectors = streams(k, predictions), {}
    for name, labels in found.items():
        detectors[name] = SequentialDetector(Baseline.uniform(k))
        detectors[name].update(labels)
    seconds = dict.fromkeys(found, math.inf)
    for _ in range(5):
        for name, labels in found.items():
            seconds[name] = min(seconds[name], best(partial(detectors[name].update, labels), 1))
    return {name: predictions / time for name, time in seconds.items()}


def rows(k: int, predictions: int) -> tuple[str, str]:
    """Give a row of each table."""
    found = speeds(k, predictions)
    healthy = found.pop("healthy")
    drifts = (f"{speed:,.0f} ({speed / healthy:.2f})" for speed in found.values())
    baseline = Baseline.uniform(k)
    start = best(lambda: SequentialDetector(baseline), 3)
    detector = SequentialDetector(baseline)
    labels = np.random.default_rng(k).integers(0, k, 50_000)
    detector.update(labels)

    def each(size: int, calls: int) -> float:
        pieces = [labels[i * size : (i + 1) * size] for i in range(calls)]
        return best(lambda: [detector.update(piece) for piece in pieces]) / calls

    one, chunk, piece, large = each(1, 1_600), each(32, 100), each(512, 64), each(50_000, 1)
    memory, text = sizes(detector)
    return (
        f"| {k:,} | {healthy:,.0f} | {' | '.join(drifts)} |",
        f"| {k:,} | {one * 1e6:.0f} | {chunk * 1e3:.2f} | {piece * 1e3:.2f} | {large * 1e3:.1f} "
        f"| {start * 1e3:.0f} | {memory / 1e3:,.1f} | {text / 1e3:,.1f} |",
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
    tables = [
        [
            "| classes | replay, predictions/s | one class lost (of that) | halved | doubled "
            "| at 90 % |",
            "|---|---|---|---|---|---|",
        ],
        [
            "| classes | one prediction a call, µs | 32 a call, ms | 512 a call, ms "
            "| 50,000 a call, ms | constructor, ms | memory, kB | state as JSON, kB |",
            "|---|---|---|---|---|---|---|---|",
        ],
    ]
    for k, predictions in (
        (2, 10**6),
        (10, 10**6),
        (100, 5 * 10**5),
        (1_000, 2 * 10**5),
        (10_000, 20_000),
    ):
        for table, row in zip(tables, rows(k, predictions), strict=True):
            table.append(row)
            print(row, flush=True)
    lines = [
        "# Speed and memory of the sequential detector",
        "",
        "Command: `python benchmarks/sequential_speed.py --long`. One core, processor time, "
        f"Python {platform.python_version()}, NumPy {np.__version__}.",
        "",
        *tables[0],
        "",
        *tables[1],
    ]
    if options.long:
        lines += ["", long_run()]
        print(lines[-1])
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
