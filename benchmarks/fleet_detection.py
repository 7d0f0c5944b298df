"""Predictions until the alarm: the fleet's detector at each size of a fleet, and one merged stream.

    python benchmarks/fleet_detection.py                # five minutes
    python benchmarks/fleet_detection.py --runs 20      # a look

Each replica predicts once a second on average, ticks are 15 seconds, drift begins somewhere within
a tick, in all replicas at once. The merged stream has the same predictions one after another, and
is read as a process reads its own. Beside them what the sum of the replicas' own evidence needs,
the rule where there is no fleet's detector. Writes benchmarks/results/fleet_detection.md.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np

from otel_drift import Baseline, FleetDetector
from otel_drift.drift.sequential import SequentialDetector

RESULTS = Path(__file__).parent / "results" / "fleet_detection.md"
CLASSES, TICK, WARM_TICKS, WARM = 10, 15.0, 200, 20_000
REPLICAS = (1, 16, 100, 1_000)
SUMMED = (1, 16, 100)
"""Sizes of fleets at which the replicas' own detectors are simulated."""
EVEN = np.full(CLASSES, 1 / CLASSES)


def moved(ratio: float) -> np.ndarray:
    share = ratio / CLASSES
    return np.append(np.full(CLASSES - 1, (1 - share) / (CLASSES - 1)), share)


DRIFTS = {"lost": moved(0), "halved": moved(0.5), "doubled": moved(2)}


def in_one_stream(rng: np.random.Generator, drift: np.ndarray) -> int:
    detector = SequentialDetector(Baseline.from_proportions(EVEN))
    before = WARM + int(rng.integers(0, 32))
    detector.update(rng.choice(CLASSES, before))
    while True:
        if alarms := detector.update(rng.choice(CLASSES, 320, p=drift)):
            return alarms[0].prediction - before


def warm_fleet(replicas: int) -> FleetDetector:
    rng, fleet = np.random.default_rng(replicas), FleetDetector(Baseline.from_proportions(EVEN))
    for at in range(WARM_TICKS):
        tell(fleet, rng.multinomial(rng.poisson(replicas * TICK), EVEN), at)
    return fleet


def tell(fleet: FleetDetector, counts: np.ndarray, at: int) -> bool:
    named = {str(k): int(count) for k, count in enumerate(counts)}
    return bool(fleet.update(named, TICK * at))


def in_a_fleet(
    rng: np.random.Generator, drift: np.ndarray, replicas: int, warm: dict[str, object]
) -> int:
    fleet = FleetDetector.from_state(Baseline.from_proportions(EVEN), warm)
    at, part = WARM_TICKS, rng.random()
    calm, drifted = (rng.poisson(replicas * TICK * one) for one in (part, 1 - part))
    counts = rng.multinomial(calm, EVEN) + rng.multinomial(drifted, drift)
    passed = drifted
    while not tell(fleet, counts, at):
        n, at = rng.poisson(replicas * TICK), at + 1
        counts, passed = rng.multinomial(n, drift), passed + n
    return passed


def summed_evidence(rng: np.random.Generator, drift: np.ndarray, replicas: int) -> int:
    """The replicas' own detectors, read together after every chunk of each."""
    baseline = Baseline.from_proportions(EVEN)
    detectors = [SequentialDetector(baseline) for _ in range(replicas)]
    for detector in detectors:
        detector.update(rng.choice(CLASSES, 3_200))
    passed = 0
    while True:
        passed += 32 * replicas
        chunks = rng.multinomial(32, drift, replicas)
        alarms = [one.update_counts(chunk) for one, chunk in zip(detectors, chunks, strict=True)]
        if any(alarms) or sum(10**one.evidence for one in detectors) >= 1e7:
            return passed


def mean_and_error(measure: Callable[[np.random.Generator], int], runs: int) -> tuple[float, float]:
    found = np.array([measure(np.random.default_rng(run)) for run in range(runs)], float)
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(runs))


def measured(runs: int) -> list[str]:
    lines = [
        "| class | replicas | predictions a tick | mean | s.e. | one stream | limit | summed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    warm = {replicas: warm_fleet(replicas).state() for replicas in REPLICAS}
    for name, drift in DRIFTS.items():
        alone, _ = mean_and_error(lambda rng, drift=drift: in_one_stream(rng, drift), runs)
        for replicas in REPLICAS:
            mean, error = mean_and_error(
                lambda rng, drift=drift, replicas=replicas: in_a_fleet(
                    rng, drift, replicas, warm[replicas]
                ),
                runs,
            )
            summed = "-"
            if replicas in SUMMED:
                few = max(3, runs // 20)
                found, _ = mean_and_error(
                    lambda rng, drift=drift, replicas=replicas: summed_evidence(
                        rng, drift, replicas
                    ),
                    few,
                )
                summed = f"{found:,.0f}"
            limit = 1.25 * alone + replicas * TICK
            lines.append(
                f"| {name} | {replicas:,} | {replicas * TICK:,.0f} | {mean:,.0f} | {error:,.0f} "
                f"| {alone:,.0f} | {limit:,.0f} | {summed} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    lines = measured(options.runs)
    text = "\n".join(
        (
            "# Predictions until the alarm in a fleet",
            "",
            f"Command: `python benchmarks/fleet_detection.py --runs {options.runs}`. Python "
            f"{platform.python_version()}, NumPy {np.__version__}.",
            "",
            "Ten classes, A = 10 million, ticks of 15 s, one prediction a second and replica, all "
            "replicas together; drift begins",
            "within a tick. Limit: 1.25 times one merged stream, plus one tick. Summed: the "
            "replicas' own evidence, added up",
            f"({max(3, options.runs // 20)} runs). What is predicted between a tick's end and its "
            "reading (export, scrape, delay) is not counted.",
            "",
            *lines,
            "",
        )
    )
    RESULTS.write_text(text)
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
