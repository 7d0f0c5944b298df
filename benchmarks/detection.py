"""How soon drift is noticed, at an equal rate of false alarms.

    python benchmarks/detection.py            # everything: half an hour on one core
    python benchmarks/detection.py --quick    # a few runs of each, in two minutes; writes nothing

Three parts, written to benchmarks/results/:

1. *promise*: delays of the sequential detector as it is by default (one false alarm in 10 million
   predictions, tolerance 20 %), beside Lorden's limit.
2. *comparison*: every method tuned by simulation to the same measured average run length, 10,000
   predictions, which is short enough to be measured for all.
3. *pictures*: delay against average run length, and run lengths without drift against the
   exponential distribution.

Methods of the comparison. All but ADWIN are a number per prediction that is compared with a
threshold; so it is worked out once, and any threshold tried on it.

sequential      this package's detector; "tolerance 0.2" as by default, which asks for a change of
                more than 20 % in some class, and "tolerance 0.01", which asks what the others ask
oracle CUSUM    told the baseline and the drift: what no method can know, and near the limit
chi-square      this package's windows, each tested once
QT-EWMA         Frittoli, Carrera and Boracchi, arXiv 2208.14801, weight 0.03, a bin per class;
                its threshold after the start, where it is constant
ADWIN           river's class, on the class index, or one for each class's indicator
KSWIN           statistic of river's class (windows of 100 and 30), on both
Page-Hinkley    statistic of river's class (delta 0.005, alpha 0.9999), on both
mean p-value    mean of the chi-square p-values of the last 20 batches of 50 to 200 (5 minutes
                scraped every 15 s), "below 0.05" as in the rule that is often seen, and tuned
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN, PageHinkley
from scipy.special import chdtrc
from scipy.stats import ks_2samp

from otel_drift import Baseline
from otel_drift.drift.projection import projection_scale
from otel_drift.drift.sequential import SequentialDetector
from otel_drift.drift.window import Cells

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
UNDRIFTED = 3_008
PROMISED = 10_000_000
COMPARED = 10_000

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


# ---------------------------------------------------------------- streams


@dataclass(frozen=True)
class Shift:
    baseline: str
    name: str
    before: Floats
    after: Floats
    at_most: int | None = None
    """Mean delay that the detector must reach at the promised run length."""

    def limit(self, run_length: float, tolerance: float = 0.0) -> float:
        """Lorden's: the logarithm of the run length over the divergence from the nearest null."""
        p, q = self.before, self.after
        lower, upper = p * (1 - tolerance), np.minimum(1, p * (1 + tolerance))
        nearest = p
        if tolerance:
            nearest = np.clip(
                projection_scale(np.maximum(q, 1e-300), lower, upper) * q, lower, upper
            )
        some = q > 0
        return math.log(run_length) / float((q[some] * np.log(q[some] / nearest[some])).sum())


def zipf(k: int) -> Floats:
    shares = 1 / np.arange(1, k + 1)
    return shares / shares.sum()


def moved(p: Floats, classes: list[int], ratio: float) -> Floats:
    """Multiply the classes' shares; the others keep their proportions."""
    q = p.copy()
    q[classes] *= ratio
    others = np.setdiff1d(np.arange(len(p)), classes)
    q[others] *= (1 - q[classes].sum()) / p[others].sum()
    return q


def shifts() -> list[Shift]:
    even, common, rare = np.full(10, 0.1), zipf(100), np.array([0.99, 0.01])
    swap = even.copy()
    swap[[3, 7]] += (-0.05, 0.05)
    takes_all = np.full(10, 0.1 / 9)
    takes_all[3] = 0.9
    balanced = even.copy()
    balanced[[0, 3, 6, 9]] += (-0.05, 0.05, 0.05, -0.05)
    rng = np.random.default_rng(1)
    uniform = [
        ("class lost", moved(even, [3], 0), 240),
        ("class halved", moved(even, [3], 0.5), 2_350),
        ("class doubled", moved(even, [3], 2), 660),
        ("class x1.5", moved(even, [3], 1.5), 4_050),
        ("5 points from one class to another", swap, 1_870),
        ("two classes lost", moved(even, [3, 7], 0), 140),
        ("two classes doubled", moved(even, [3, 7], 2), 345),
        ("one class takes 90 %", takes_all, 48),
        ("four classes move, mean index kept", balanced, None),
        ("all mixed, Dirichlet(8)", rng.dirichlet(np.full(10, 8.0)), None),
    ]
    many = [
        ("commonest class lost", moved(common, [0], 0), 140),
        ("tenth class x3", moved(common, [9], 3), 1_050),
        ("two commonest classes lost", moved(common, [0, 1], 0), 175),
        ("second and third class lost", moved(common, [1, 2], 0), 175),
        ("classes 6, 11, 16, 21, 26 x2", moved(common, [5, 10, 15, 20, 25], 2), 1_600),
    ]
    thousand, long_tail = np.full(1_000, 0.001), zipf(1_000)
    collapsed = thousand * 0.1
    collapsed[3] += 0.9
    even_thousand = [
        ("20 classes lost", moved(thousand, list(range(20)), 0), 6_500),
        ("100 classes lost", moved(thousand, list(range(100)), 0), 3_300),
        ("one class lost", moved(thousand, [3], 0), 24_000),
        ("5 classes doubled", moved(thousand, list(range(5)), 2), 21_500),
        ("one class takes 90 %", collapsed, 64),
    ]
    uneven_thousand = [
        ("tenth class lost", moved(long_tail, [9], 0), 1_850),
        ("20 classes lost, 31st to 50th", moved(long_tail, list(range(30, 50)), 0), 1_400),
    ]
    return (
        [Shift("uniform, K=10", name, even, q, goal) for name, q, goal in uniform]
        + [Shift("Zipf, K=100", name, common, q, goal) for name, q, goal in many]
        + [Shift("0.99/0.01", "1 % becomes 3 %", rare, np.array([0.97, 0.03]), 1_450)]
        + [Shift("uniform, K=1000", name, thousand, q, goal) for name, q, goal in even_thousand]
        + [Shift("Zipf, K=1000", name, long_tail, q, goal) for name, q, goal in uneven_thousand]
    )


def draw(rng: np.random.Generator, p: Floats, shape: int | tuple[int, int]) -> Labels:
    return np.searchsorted(np.cumsum(p)[:-1], rng.random(shape), side="right")


def drifting(shift: Shift, runs: int, length: int, seed: int) -> Labels:
    """Labels of shape (runs, UNDRIFTED + length)."""
    rng = np.random.default_rng(seed)
    return np.hstack(
        [draw(rng, shift.before, (runs, UNDRIFTED)), draw(rng, shift.after, (runs, length))]
    )


# ---------------------------------------------------------------- the sequential detector


def sequential_delays(
    shift: Shift, average_run_length: float, runs: int, seed: int, tolerance: float = 0.2
) -> tuple[Floats, Floats]:
    """Delay of the first alarm after the drift, and by how much its onset is dated late."""
    delays, errors = [], []
    step = 32 * max(50, int(shift.limit(average_run_length, tolerance) / 32))
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        detector = SequentialDetector(
            Baseline.from_proportions(shift.before), average_run_length, tolerance
        )
        detector.update(draw(rng, shift.before, UNDRIFTED))
        alarms = ()
        while not alarms:
            alarms = detector.update(draw(rng, shift.after, step))
        delays.append(alarms[0].prediction - UNDRIFTED)
        errors.append(alarms[0].prediction - alarms[0].age - UNDRIFTED)
    return np.array(delays, float), np.array(errors, float)


def sequential_run_lengths(
    p: Floats, average_run_length: float, runs: int, length: int, seed: int, tolerance: float = 0.2
) -> Floats:
    """Predictions to the first false alarm of each stream; inf if there is none in `length`."""
    found = np.full(runs, np.inf)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        detector = SequentialDetector(Baseline.from_proportions(p), average_run_length, tolerance)
        while detector.predictions < length and not np.isfinite(found[run]):
            alarms = detector.update(draw(rng, p, min(32_000, length - detector.predictions)))
            if alarms:
                found[run] = alarms[0].prediction
    return found


# ---------------------------------------------------------------- statistics of the others
# Each takes labels (runs, T) and returns its statistic (runs, T): an alarm where it is at least
# the threshold, -inf where the method does not look.


def cusum(shift: Shift) -> Callable[[Labels], Floats]:
    with np.errstate(divide="ignore"):
        gain = np.maximum(np.log(shift.after / shift.before), -1e6)

    def statistic(labels: Labels) -> Floats:
        path, now = np.empty(labels.shape), np.zeros(len(labels))
        for t, step in enumerate(gain[labels].T):
            now = np.maximum(0, now + step)
            path[:, t] = now
        return path

    return statistic


def chi_square_windows(shift: Shift) -> Callable[[Labels], Floats]:
    cells = Cells(Baseline.from_proportions(shift.before))
    k = len(shift.before)

    def statistic(labels: Labels) -> Floats:
        path = np.full(labels.shape, -np.inf)
        for run, row in enumerate(labels):
            for end in range(cells.minimum, len(row) + 1, cells.minimum):
                counts = np.bincount(row[end - cells.minimum : end], minlength=k)
                path[run, end - 1] = -cells.test(counts).p_value
        return path

    return statistic


def qt_ewma(shift: Shift, weight: float = 0.03) -> Callable[[Labels], Floats]:
    p = shift.before

    def statistic(labels: Labels) -> Floats:
        runs = np.arange(len(labels))
        z = np.tile(p, (len(labels), 1))
        path = np.empty(labels.shape)
        for t in range(labels.shape[1]):
            z *= 1 - weight
            z[runs, labels[:, t]] += weight
            path[:, t] = (z * z) @ (1 / p) - 1  # = sum (z - p)^2 / p
        return path

    return statistic


def indicators(labels: Labels, k: int) -> Iterator[Labels]:
    for c in range(k):
        yield (labels == c).astype(np.int64)


def page_hinkley(signal: NDArray, delta: float = 0.005, alpha: float = 0.9999) -> Floats:
    """Statistic of river's PageHinkley, both directions, for signals (runs, T)."""
    mean, rise, fall = (np.zeros(len(signal)) for _ in range(3))
    lowest, highest = np.full(len(signal), np.inf), np.full(len(signal), -np.inf)
    path = np.empty(signal.shape)
    for t, x in enumerate(signal.T.astype(float)):
        mean += (x - mean) / (t + 1)
        rise = alpha * rise + (x - mean - delta)
        fall = alpha * fall + (x - mean + delta)
        lowest, highest = np.minimum(lowest, rise), np.maximum(highest, fall)
        path[:, t] = np.maximum(rise - lowest, highest - fall)
    path[:, :29] = -np.inf  # min_instances
    return path


def kswin(signal: NDArray, values: int, rng: np.random.Generator) -> Floats:
    """Statistic of river's KSWIN: the newest 30 of 100 against 30 drawn from the other 70.

    Drawing them without order is drawing their counts by value, from a hypergeometric law.
    """
    window, recent = 100, 30
    runs, length = signal.shape
    farthest = np.zeros((runs, length - window + 1))
    drawn_below = np.zeros_like(farthest)
    left, wanted = np.full(farthest.shape, window - recent), np.full(farthest.shape, recent)
    newest_below = np.zeros_like(farthest)
    for value in range(values - 1):
        seen = np.cumsum(np.pad(signal == value, ((0, 0), (1, 0))), axis=1)
        newest = (seen[:, recent:] - seen[:, :-recent])[:, window - recent :]
        older = seen[:, window - recent :][:, : newest.shape[1]] - seen[:, : newest.shape[1]]
        drawn = rng.hypergeometric(older, left - older, wanted)
        left, wanted = left - older, wanted - drawn
        drawn_below += drawn
        newest_below += newest
        np.maximum(farthest, np.abs(newest_below - drawn_below) / recent, out=farthest)
    return np.hstack([np.full((runs, window - 1), -np.inf), farthest])


def on_index(method: str) -> Callable[[Shift], Callable[[Labels], Floats]]:
    def of(shift: Shift) -> Callable[[Labels], Floats]:
        if method == "Page-Hinkley":
            return page_hinkley
        return lambda labels: kswin(labels, len(shift.before), np.random.default_rng(5))

    return of


def on_indicators(method: str) -> Callable[[Shift], Callable[[Labels], Floats]]:
    def of(shift: Shift) -> Callable[[Labels], Floats]:
        def statistic(labels: Labels) -> Floats:
            rng = np.random.default_rng(6)
            path = np.full(labels.shape, -np.inf)
            for signal in indicators(labels, len(shift.before)):
                one = page_hinkley(signal) if method == "Page-Hinkley" else kswin(signal, 2, rng)
                np.maximum(path, one, out=path)
            return path

        return statistic

    return of


def mean_p_value(shift: Shift, window: int = 20) -> Callable[[Labels], Floats]:
    """Minus the mean p-value of the last 20 batches' Pearson tests against the baseline."""
    p = shift.before

    def statistic(labels: Labels) -> Floats:
        rng = np.random.default_rng(7)
        path = np.full(labels.shape, -np.inf)
        for run, row in enumerate(labels):
            ends = np.cumsum(rng.integers(50, 201, len(row) // 50))
            ends = ends[ends <= len(row)]
            batch = np.searchsorted(ends, np.arange(ends[-1]), side="right")
            counts = np.bincount(batch * len(p) + row[: ends[-1]], minlength=len(ends) * len(p))
            counts = counts.reshape(-1, len(p))
            expected = counts.sum(axis=1, keepdims=True) * p
            values = chdtrc(len(p) - 1, ((counts - expected) ** 2 / expected).sum(axis=1))
            means = np.convolve(values, np.full(window, 1 / window), mode="valid")
            path[run, ends[window - 1 :] - 1] = -means
        return path

    return statistic


# ---------------------------------------------------------------- tuning


def first_alarms(path: Floats, threshold: float, start: int = 0) -> Floats:
    """Predictions from `start` to the first alarm; inf if there is none."""
    alarm = path[:, start:] >= threshold
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1.0, np.inf)


def measured_run_length(first: Floats, length: int) -> float:
    """Predictions over alarms: the maximum likelihood estimate for censored run lengths."""
    alarms = np.isfinite(first).sum()
    return float(np.minimum(first, length).sum() / alarms) if alarms else math.inf


def tuned(path: Floats, run_length: float) -> float:
    """Threshold whose measured average run length is nearest (by ratio) to the one wanted."""
    peaks = np.unique(np.maximum.accumulate(path, axis=1))
    peaks = peaks[np.isfinite(peaks)]

    def measured(place: int) -> float:
        return measured_run_length(first_alarms(path, peaks[place]), path.shape[1])

    low, high = 0, len(peaks) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if measured(middle) >= run_length else (middle + 1, high)
    places = (max(0, low - 1), low)
    return float(peaks[min(places, key=lambda i: abs(math.log(measured(i) / run_length)))])


def tuned_sequential(p: Floats, tolerance: float, runs: int, length: int) -> tuple[float, float]:
    """The average run length to ask for, so that the measured one is COMPARED."""
    low, high = 100.0, float(COMPARED)
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        first = sequential_run_lengths(p, middle, runs, length, 11, tolerance)
        low, high = (
            (low, middle) if measured_run_length(first, length) > COMPARED else (middle, high)
        )
    first = sequential_run_lengths(p, high, runs, length, 12, tolerance)
    return high, measured_run_length(first, length)


def adwin_first(labels: Labels, delta: float, per_class: int | None, start: int = 0) -> Floats:
    """First alarm after `start` of river's ADWIN, on the index or of one a class; it resets."""
    found = np.full(len(labels), np.inf)
    for run, row in enumerate(labels):
        signals = [row] if per_class is None else indicators(row, per_class)
        for signal in signals:
            detector = ADWIN(delta=delta)
            for t, x in enumerate(signal[: int(min(len(row), start + found[run]))].tolist()):
                detector.update(x)
                if detector.drift_detected and t >= start:
                    found[run] = min(found[run], t - start + 1)
                    break
    return found


def check_against_river() -> None:
    """Page-Hinkley's statistic is river's exactly, KSWIN's has the same law."""
    rng = np.random.default_rng(8)
    signal = rng.integers(0, 10, 600)
    ours = page_hinkley(signal[None])[0]
    for threshold in (20.0, 30.0, 40.0):
        reference, first = PageHinkley(threshold=threshold), math.inf
        for t, x in enumerate(signal.tolist()):
            reference.update(x)
            if reference.drift_detected:
                first = t + 1
                break
        # river asks for more than the threshold
        assert first == first_alarms(ours[None], np.nextafter(threshold, 99))[0]
    reference, values = KSWIN(alpha=1e-30, seed=1), []
    for x in signal.tolist():
        reference.update(x)
        values.append(reference.p_value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as river does: exact, or else asymptotic
        p_value = [ks_2samp(np.arange(30), np.arange(30) + d).pvalue for d in range(31)]
    ours = kswin(np.tile(signal, (20, 1)), 10, rng)[:, 100:]
    ours = np.array(p_value)[np.rint(30 * ours).astype(int)]
    assert abs(ours.mean() - np.mean(values[100:])) < 0.01, "mean p-values"


# ---------------------------------------------------------------- the three parts


@dataclass
class Row:
    baseline: str
    shift: str
    method: str
    run_length: str
    limit: float
    mean: float
    standard_error: float
    median: float
    p95: float
    missed: float
    """Share of runs without an alarm in the time given."""
    at_most: int | None = None
    onset_error: float = math.nan

    @classmethod
    def of(cls, shift: Shift, method: str, run_length: str, limit: float, delays: Floats) -> Row:
        found = delays[np.isfinite(delays)]
        missed = 1 - len(found) / max(1, len(delays))
        if not len(found) or missed > 0.5:
            return cls(
                shift.baseline,
                shift.name,
                method,
                run_length,
                limit,
                math.inf,
                math.nan,
                math.inf,
                math.inf,
                missed,
            )
        low, high = np.quantile(found, [0.5, 0.95])
        return cls(
            shift.baseline,
            shift.name,
            method,
            run_length,
            limit,
            found.mean(),
            found.std() / math.sqrt(len(found)),
            low,
            high,
            missed,
        )


def promise(runs: int, out: list[Row]) -> None:
    for number, shift in enumerate(shifts()):
        start = time.process_time()
        delays, errors = sequential_delays(shift, PROMISED, runs, 100 + number)
        row = Row.of(
            shift, "sequential", f"{PROMISED:,} promised", shift.limit(PROMISED, 0.2), delays
        )
        row.at_most, row.onset_error = shift.at_most, float(np.median(errors))
        out.append(row)
        late = shift.at_most is not None and row.mean > shift.at_most
        print(
            f"{shift.baseline:14} {shift.name:36} limit {row.limit:6.0f} mean {row.mean:6.0f} "
            f"± {row.standard_error:3.0f} at most {shift.at_most} {'MISSED' if late else ''} "
            f"({time.process_time() - start:.0f} s)",
            flush=True,
        )


STATISTICS: dict[str, Callable[[Shift], Callable[[Labels], Floats]]] = {
    "oracle CUSUM": cusum,
    "QT-EWMA": qt_ewma,
    "chi-square windows": chi_square_windows,
    "Page-Hinkley, indicators": on_indicators("Page-Hinkley"),
    "KSWIN, indicators": on_indicators("KSWIN"),
    "Page-Hinkley, index": on_index("Page-Hinkley"),
    "KSWIN, index": on_index("KSWIN"),
    "mean p-value, tuned": mean_p_value,
}
AT_MOST_TEN_CLASSES = {"Page-Hinkley, indicators", "KSWIN, indicators", "KSWIN, index"}


def comparison(runs: int, length: int, adwin_runs: int, out: list[Row]) -> None:
    by_baseline: dict[str, list[Shift]] = {}
    for shift in shifts():
        by_baseline.setdefault(shift.baseline, []).append(shift)
    for group in by_baseline.values():
        p = group[0].before
        undrifted = draw(np.random.default_rng(20), p, (runs, length))
        streams = [drifting(shift, runs, length, 30 + i) for i, shift in enumerate(group)]
        for tolerance in (0.2, 0.01):
            wanted, run_length = tuned_sequential(p, tolerance, runs, length)
            for i, shift in enumerate(group):
                delays, _ = sequential_delays(shift, wanted, runs, 40 + i, tolerance)
                add(out, shift, f"sequential, tolerance {tolerance}", run_length, delays)
        for method, statistic in STATISTICS.items():
            if method in AT_MOST_TEN_CLASSES and len(p) > 10:
                continue
            common = method != "oracle CUSUM"
            null = statistic(group[0])(undrifted) if common else None
            for shift, labels in zip(group, streams, strict=True):
                of_null = null if null is not None else statistic(shift)(undrifted)
                path = statistic(shift)(labels)
                for label, threshold in thresholds(method, of_null):
                    quiet = ~np.isfinite(first_alarms(path[:, :UNDRIFTED], threshold))
                    run_length = measured_run_length(first_alarms(of_null, threshold), length)
                    delays = first_alarms(path[quiet], threshold, UNDRIFTED)
                    add(out, shift, label, run_length, delays)
        if len(p) <= 10:
            for per_class, label in ((len(p), "ADWIN, indicators"), (None, "ADWIN, index")):
                delta, run_length = tuned_adwin(undrifted[:adwin_runs], per_class)
                for shift, labels in zip(group, streams, strict=True):
                    delays = adwin_first(labels[:adwin_runs], delta, per_class, UNDRIFTED)
                    add(out, shift, label, run_length, delays)


def thresholds(method: str, null: Floats) -> list[tuple[str, float]]:
    found = [(method, tuned(null, COMPARED))]
    return [*found, ("mean p-value below 0.05", -0.05)] if method.startswith("mean") else found


def tuned_adwin(undrifted: Labels, per_class: int | None) -> tuple[float, float]:
    """Largest delta whose measured average run length is at least COMPARED, within 30 %."""
    low, high = 1e-6, 1.0
    while high / low > 1.3:
        middle = math.sqrt(low * high)
        first = adwin_first(undrifted, middle, per_class)
        if measured_run_length(first, undrifted.shape[1]) >= COMPARED:
            low = middle
        else:
            high = middle
    return low, measured_run_length(adwin_first(undrifted, low, per_class), undrifted.shape[1])


def add(out: list[Row], shift: Shift, method: str, run_length: float, delays: Floats) -> None:
    shown = f"{float(f'{run_length:.2g}'):,.0f}" if math.isfinite(run_length) else "none seen"
    out.append(Row.of(shift, method, shown, shift.limit(COMPARED), delays))
    print(
        f"{shift.baseline:14} {shift.name:36} {method:28} run {shown:>9} "
        f"mean {out[-1].mean:7.0f}, missed {out[-1].missed:.0%}",
        flush=True,
    )


def picture_delay(runs: int, path: Path) -> None:
    """Delay against average run length, with the limit as a line."""
    chosen = [s for s in shifts() if s.name in ("class lost", "class doubled", "class halved")]
    figure, axes = plt.subplots(1, len(chosen), figsize=(12, 4), constrained_layout=True)
    promised = 10.0 ** np.arange(3, 9)
    for ax, shift in zip(axes, chosen, strict=True):
        lengths = np.geomspace(1e3, 1e8, 30)
        ax.plot(
            lengths,
            [shift.limit(a, 0.2) for a in lengths],
            "k-",
            lw=1,
            label="Lorden's limit, tolerance 20 %",
        )
        ax.plot(
            lengths,
            [shift.limit(a) for a in lengths],
            "k:",
            lw=1,
            label="Lorden's limit, no tolerance",
        )
        means = [sequential_delays(shift, a, runs, 60)[0].mean() for a in promised]
        ax.plot(promised, means, "o-", color="tab:blue", label="sequential (promised run length)")
        null = draw(np.random.default_rng(61), shift.before, (runs, 100_000))
        labels = drifting(shift, runs, 30_000, 62)
        for name, colour in (
            ("QT-EWMA", "tab:orange"),
            ("chi-square windows", "tab:green"),
            ("oracle CUSUM", "tab:gray"),
        ):
            statistic = STATISTICS[name](shift)
            undrifted, drifted = statistic(null), statistic(labels)
            measured, delays = [], []
            for wanted in (1e3, 3e3, 1e4, 3e4):
                threshold = tuned(undrifted, wanted)
                first = first_alarms(drifted, threshold, UNDRIFTED)
                measured.append(measured_run_length(first_alarms(undrifted, threshold), 100_000))
                delays.append(first.mean() if np.isfinite(first).all() else math.nan)
            ax.plot(
                measured,
                delays,
                "s--",
                color=colour,
                ms=4,
                lw=1,
                label=f"{name} (measured run length)",
            )
        ax.set(
            xscale="log", yscale="log", title=shift.name, xlabel="average run length, predictions"
        )
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("mean delay, predictions")
    axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def picture_run_lengths(path: Path) -> None:
    """Run lengths without drift over A, against an exponential distribution of mean A."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    for ax, a, runs, longest in zip(axes, (1_000, 200_000), (400, 24), (40, 10), strict=True):
        quantiles = -np.log1p(-(np.arange(runs) + 0.5) / runs)
        for name, p in (
            ("uniform, K=10", np.full(10, 0.1)),
            ("2 even", np.full(2, 0.5)),
            ("0.99/0.01", np.array([0.99, 0.01])),
            ("Zipf, K=100", zipf(100)),
        ):
            found = np.sort(sequential_run_lengths(p, a, runs, longest * a, 70)) / a
            ended = np.isfinite(found)
            (points,) = ax.plot(quantiles[ended], found[ended], ".", ms=4, label=name)
            still = np.full((~ended).sum(), longest)
            ax.plot(quantiles[~ended], still, "^", color=points.get_color(), mfc="none", ms=5)
            mean = measured_run_length(found, longest)
            print(f"A = {a:,} {name}: {ended.sum()} of {runs} in {longest} A, mean {mean:.1f} A")
        ax.plot([0, 2.5], [0, 2.5], "k-", lw=1, label="exponential, mean A")
        ax.set(
            xlim=(0, 2.5),
            ylim=(0, 12),
            xlabel="exponential quantile (mean 1)",
            ylabel="run length without drift / A",
            title=f"A = {a:,}" + (": triangles, no alarm in 10 A" if longest == 10 else ""),
        )
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# ---------------------------------------------------------------- writing


FIELDS = (
    "baseline",
    "shift",
    "method",
    "run_length",
    "limit",
    "mean",
    "standard_error",
    "median",
    "p95",
    "missed",
    "at_most",
    "onset_error",
)


def number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if math.isfinite(value) else "never"


def write(rows: list[Row], name: str, table: list[str]) -> None:
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for row in rows:
            values = (getattr(row, field) for field in FIELDS)
            writer.writerow(
                [
                    "" if v is None or v != v else f"{v:.4g}" if isinstance(v, float) else v
                    for v in values
                ]
            )
    (RESULTS / f"{name}.md").write_text("\n".join(table) + "\n")


def write_promise(rows: list[Row], runs: int) -> None:
    write(
        rows,
        "detection_promise",
        [
            "# Delays at a promised average run length of 10 million predictions",
            "",
            f"Command: `python benchmarks/detection.py`. {runs} runs, {UNDRIFTED:,} undrifted "
            "predictions first, tolerance 20 %, chunks of 32. Predictions; s.e.: standard error of "
            "the mean. Limit: Lorden's, log A / KL(q || nearest tolerated distribution), for the "
            "worst past and asymptotic: means below it are no contradiction. Onset: by how much "
            "the beginning of the drift is dated too late, median.",
            "",
            "| baseline | shift | limit | mean | s.e. | median | 95 % | goal | onset |",
            "|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {r.baseline} | {r.shift} | {number(r.limit)} | **{number(r.mean)}** "
                f"| {number(r.standard_error)} | {number(r.median)} | {number(r.p95)} "
                f"| {'' if r.at_most is None else number(r.at_most)} | {number(r.onset_error)} |"
                for r in rows
            ),
        ],
    )


def write_comparison(rows: list[Row], runs: int, length: int) -> None:
    lines = [
        "# Mean delays at an equal, measured average run length of 10,000 predictions",
        "",
        f"Command: `python benchmarks/detection.py`. {runs} runs (ADWIN fewer); each method "
        "tuned on undrifted streams to the run length in its row, as near as its steps allow. "
        f"A run counts as missed if there is no alarm within {length:,} predictions of the "
        "drift; *never*: more than half were missed. "
        "Limit: Lorden's without any tolerance.",
    ]
    methods = list(dict.fromkeys(r.method for r in rows))
    for name in dict.fromkeys(r.baseline for r in rows):
        group = [r for r in rows if r.baseline == name]
        names = list(dict.fromkeys(r.shift for r in group))
        limits = {r.shift: r.limit for r in group}
        lines += [
            "",
            f"## {name}",
            "",
            "| method | run length | " + " | ".join(names) + " |",
            "|---" * (len(names) + 2) + "|",
            "| *limit* | | " + " | ".join(number(limits[s]) for s in names) + " |",
        ]
        for method in methods:
            found = {r.shift: r for r in group if r.method == method}
            if not found:
                continue
            cells = (
                number(found[s].mean)
                + (f" ({found[s].missed:.0%} missed)" if 0.005 < found[s].missed <= 0.5 else "")
                for s in names
            )
            lines.append(
                f"| {method} | {next(iter(found.values())).run_length} | "
                + " | ".join(cells)
                + " |"
            )
    write(rows, "detection_comparison", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few runs, write nothing")
    parser.add_argument(
        "--part", choices=("promise", "comparison", "pictures"), help="only this part"
    )
    options = parser.parse_args()
    check_against_river()
    RESULTS.mkdir(exist_ok=True)
    parts = (options.part,) if options.part else ("promise", "comparison", "pictures")
    if "promise" in parts:
        runs, rows = (5 if options.quick else 400), []
        promise(runs, rows)
        if not options.quick:
            write_promise(rows, runs)
    if "comparison" in parts:
        runs, length, adwin_runs, rows = (
            (20, 6_000, 3, []) if options.quick else (300, 20_000, 40, [])
        )
        comparison(runs, length, adwin_runs, rows)
        if not options.quick:
            write_comparison(rows, runs, length)
    if "pictures" in parts and not options.quick:
        picture_delay(100, RESULTS / "detection_delay.png")
        picture_run_lengths(RESULTS / "detection_run_lengths.png")


if __name__ == "__main__":
    main()
