"""False alarms and delays on traffic with dependence, a rhythm, or shares that wander.

    python benchmarks/dependence.py              # a quarter of an hour on two cores
    python benchmarks/dependence.py --quick      # two runs a stream, two minutes

Writes benchmarks/results/dependence.md. Streams are those of benchmarks/streams.py, of ten classes.
A log has 500,000 predictions (weekends: two weeks, 980,000); each is calibrated on alone and then
followed by several new runs of the same stream. Three detectors see the same predictions:

- as if independent: the detector with a design effect of 1, always;
- without a log: the baseline counted from the same predictions, dependence measured live;
- calibrated: `otel-drift calibrate` on them.

The last two are told which rows are of one call, as an instrumented program does; "worth one" is
how many predictions say as much as one independent one, by the calibrations.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from streams import STREAMS, Floats, Labels, Stream, rhythm, wander, weekends

from otel_drift.drift.calibration import calibrate
from otel_drift.drift.projection import projection_scale
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH, SequentialDetector

RESULTS = Path(__file__).parent / "results" / "dependence.md"
CLASSES = tuple("abcdefghij")
MOVED = 5
"""The class that drifts: its share has no rhythm."""
LOG = 500_000
TWO_WEEKS = 980_000
LOGS: dict[str, int] = {"weekends": TWO_WEEKS}
"""Predictions of a log, where that is not `LOG`."""
RUN = 2_000_000
SLICE = 100_000
WARM = 50_000
"""Predictions before the drift, where a delay is measured."""
LONGEST = 400_000
"""Predictions after which a drift counts as not found."""
DAY = 86_400
OF_WEEKS = {
    "daily rhythm": Stream(shares=rhythm(DAY), rate=1),
    "weekends": Stream(shares=weekends(DAY), rate=1),
    "wander, 1/s": Stream(shares=wander(1, 1), rate=1),
}
LENGTHS = {"an hour": DAY // 24, "a day": DAY, "a week": 7 * DAY, "4 weeks": 28 * DAY}


def moved(ratio: float) -> Callable[[Floats], Floats]:
    """Multiply the share of one class, the others in proportion."""

    def drift(shares: Floats) -> Floats:
        p = shares * (1 - ratio * shares[:, [MOVED]]) / (1 - shares[:, [MOVED]])
        p[:, MOVED] = ratio * shares[:, MOVED]
        return p

    return drift


def collapsed(shares: Floats) -> Floats:
    """One class takes 90 %."""
    p = 0.1 * shares
    p[:, MOVED] += 0.9
    return p


DRIFTS = {"lost": moved(0.0), "halved": moved(0.5), "doubled": moved(2.0), "90 %": collapsed}


class Independent:
    """Stands in for the live design effect: predictions are independent, whatever they show."""

    measured, beyond = 1.0, False

    def update(self, counts: Floats, _: Floats | float = 1.0) -> Floats:
        return np.ones(len(counts))


def counted(log: Labels) -> ReferenceDistribution:
    counts = np.bincount(log, minlength=len(CLASSES))
    return ReferenceDistribution(CLASSES, counts / counts.sum(), counts)


def slices(labels: Labels, lengths: Labels, size: int) -> Iterator[tuple[Labels, Labels]]:
    """Cut labels and the lengths of their calls into parts of about a size, whole calls each."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    calls = np.unique(np.searchsorted(ends, np.arange(0, len(labels) + size, size)))
    for first, last in itertools.pairwise(np.minimum(calls, len(lengths)).tolist()):
        yield labels[ends[first] : ends[last]], lengths[first:last]


def alarms_in(detector: SequentialDetector, labels: Labels, lengths: Labels) -> int:
    for part in slices(labels, lengths, SLICE):
        detector.update(*part)
    return detector.alarms


def limit(reference: ReferenceDistribution, drift: Callable[[Floats], Floats]) -> float:
    """phi log(A) / KL(q || nearest tolerated distribution), in predictions."""
    lower, upper = reference.tolerated_band()
    base = reference.starting_proportions()
    q = np.maximum(drift(base[None])[0], 1e-4 * base)
    q /= q.sum()
    nearest = np.clip(projection_scale(q, lower, upper) * q, lower, upper)
    divergence = float((q * np.log(q / nearest)).sum())
    effect = reference.variation.worth_one if reference.variation else 1.0
    if divergence < 1e-9:
        return math.inf
    return effect * math.log(DEFAULT_AVERAGE_RUN_LENGTH) / divergence


def delay(
    reference: ReferenceDistribution, stream: Stream, drift: Callable[[Floats], Floats], seed: int
) -> float:
    """Predictions from the drift until the first alarm after it."""
    rng = np.random.default_rng([3, seed])
    detector = SequentialDetector(reference, calls=True)
    for part in slices(*stream.draw(rng, WARM + LONGEST, WARM, drift), 10_000):
        found = [one for one in detector.update(*part) if one.prediction > WARM]
        if found:
            return found[0].prediction - WARM
    return math.inf


class Found(NamedTuple):
    """What one log led to."""

    name: str
    effect: float
    accepted: bool
    independent: list[int]
    """Alarms of each run; of the first run only, because they may be very many."""
    without_log: list[int]
    calibrated: list[int]
    limits: list[float]
    delays: list[list[float]]
    """Of each drift, of each run."""


def follow(name: str, log_number: int, runs: int, run: int, delays: int) -> Found:
    """Calibrate on one log of a stream, and follow it."""
    stream = STREAMS[name]
    log, calls = stream.draw(np.random.default_rng([1, log_number]), LOGS.get(name, LOG))
    found, known = calibrate(log, CLASSES, calls=calls), counted(log)
    independent, without_log, calibrated = [], [], []
    for number in range(runs):
        labels = stream.draw(np.random.default_rng([2, log_number, number]), run)
        if not log_number and not number:
            alone = SequentialDetector(known)
            alone._dependence = Independent()  # type: ignore[assignment]
            independent.append(alarms_in(alone, *labels))
        without_log.append(alarms_in(SequentialDetector(known, calls=True), *labels))
        calibrated.append(alarms_in(SequentialDetector(found.reference, calls=True), *labels))
    return Found(
        name,
        found.variation.worth_one,
        found.exceptional is None,
        independent,
        without_log,
        calibrated,
        [limit(found.reference, drift) for drift in DRIFTS.values()],
        [
            [delay(found.reference, stream, drift, 100 * log_number + i) for i in range(delays)]
            for drift in DRIFTS.values()
        ],
    )


def of_length(name: str, length: str, log_number: int) -> tuple[str, str, str]:
    """Calibrate on a log of so long, and follow it for four weeks more."""
    stream, size = OF_WEEKS[name], LENGTHS[length]
    rng = np.random.default_rng([4, log_number])
    labels = stream.labels(rng, size + 28 * DAY)
    try:
        found = calibrate(labels[:size], CLASSES)
    except ValueError:
        return name, length, "too short"
    after = labels[size:]
    alarms = alarms_in(SequentialDetector(found.reference), after, np.ones_like(after))
    return name, length, f"{alarms}{'' if found.exceptional is None else ' (asks)'}"


def number(value: float) -> str:
    return "-" if math.isinf(value) or math.isnan(value) else f"{value:,.0f}"


def alarms_of(values: list[int]) -> str:
    quiet = sum(value == 0 for value in values)
    return f"{sum(values):,}" if quiet == len(values) else f"{sum(values):,} ({quiet} quiet)"


def tables(found: dict[str, list[Found]], runs: int, run: int) -> Iterator[str]:
    yield f"\n## False alarms in {run:,} predictions without drift\n"
    yield (
        f"Of the first column one run, of the others {runs} runs together; in brackets how many of "
        f"them were quiet, where not all were. No alarm in {runs} runs says with 95 % confidence "
        f"that fewer than {3 / runs:.2f} are to be expected in one.\n"
    )
    yield "| stream | worth one | as if independent | without a log | calibrated |"
    yield "|---|---|---|---|---|"
    for name, all_of in found.items():
        effects = np.mean([one.effect for one in all_of])
        first = next(one.independent for one in all_of if one.independent)[0]
        without_log = [value for one in all_of for value in one.without_log]
        calibrated = [value for one in all_of for value in one.calibrated]
        yield (
            f"| {name} | {effects:.1f} | {first:,} | {alarms_of(without_log)} "
            f"| {alarms_of(calibrated)} |"
        )
    yield "\n## Predictions until a change is found, calibrated\n"
    yield (
        "Median, and behind the stroke phi log(A) / KL(q || nearest distribution of the band) of "
        f"the same calibrations; a dash where it was not found within {LONGEST:,}, or lies inside "
        "the band.\n"
    )
    yield f"| stream | {' | '.join(DRIFTS)} |"
    yield f"|---|{'---|' * len(DRIFTS)}"
    for name, all_of in found.items():
        cells = []
        for position in range(len(DRIFTS)):
            delays = [value for one in all_of for value in one.delays[position]]
            limits = float(np.median([one.limits[position] for one in all_of]))
            cells.append(f"{number(float(np.median(delays)))} / {number(limits)}")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    logs, runs, run, delays = (1, 2, 400_000, 1) if quick else (5, 4, RUN, 2)
    found: dict[str, list[Found]] = {name: [] for name in STREAMS}
    lines = [f"# Predictions that depend on each other\n\n{__doc__}"]
    with ProcessPoolExecutor(2) as pool:
        tasks = [
            pool.submit(follow, name, number, runs, run, delays)
            for name in STREAMS
            for number in range(logs)
        ]
        long = [
            pool.submit(of_length, name, length, number)
            for length in LENGTHS
            for name in OF_WEEKS
            for number in range(0 if quick else 2)
        ]
        for task in tasks:
            found[task.result().name].append(task.result())
            print(task.result(), flush=True)
        lines += tables(found, logs * runs, run)
        if long:
            lines.append("\n## How long a log must be\n")
            lines.append(
                "False alarms in four weeks at 1 prediction a second (2,419,200) after the log, of "
                '2 logs each; "asks": a part of the log is not like the rest, so that it is learnt '
                "with --accept only.\n"
            )
            lines.append(f"| stream | {' | '.join(LENGTHS)} |")
            lines.append(f"|---|{'---|' * len(LENGTHS)}")
            cells = [task.result() for task in long]
            for name in OF_WEEKS:
                row = [
                    ", ".join(cell for of, at, cell in cells if (of, at) == (name, length))
                    for length in LENGTHS
                ]
                lines.append(f"| {name} | {' | '.join(row)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
