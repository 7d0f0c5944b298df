"""The promise of the sequential detector, by simulation.

While each prediction's distribution lies in the tolerated band, there are at most t/A false alarms
in t predictions on average, and the mean run to the first is at least A. Each test simulates
streams of 5 A predictions and asks that the one-sided 99.9 % confidence limit of what it measured
keeps the promise: not just that the estimate does.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift import sequential
from otel_drift.drift.sequential import SequentialDetector

pytestmark = pytest.mark.slow

CONFIDENCE = 0.999
LENGTH = 5
"""Predictions in a stream, in average run lengths."""


def zipf(k: int) -> np.ndarray:
    shares = 1 / np.arange(1, k + 1)
    return shares / shares.sum()


TRUTHS = {
    "2 even": np.full(2, 0.5),
    "0.99/0.01": np.array([0.99, 0.01]),
    "10 even": np.full(10, 0.1),
    "100 even": np.full(100, 0.01),
    "100 Zipf": zipf(100),
    "300 Zipf": zipf(300),
}


def vertex(p: np.ndarray, order: np.ndarray, tolerance: float) -> np.ndarray:
    """The corner of the band of p where classes are filled to their upper edge in this order."""
    lower, upper = p * (1 - tolerance), p * (1 + tolerance)
    q = lower.copy()
    room = 1 - q.sum()
    for k in order:
        q[k] += min(room, upper[k] - lower[k])
        room = 1 - q.sum()
    return q / q.sum()


def stream(rng: np.random.Generator, p: np.ndarray, size: int) -> np.ndarray:
    return np.searchsorted(np.cumsum(p)[:-1], rng.random(size), side="right")


def simulate(seed, runs, average_run_length, p, baseline=None, feed="labels", tolerance=0.2):
    """Alarms of each stream, and its first (or its length if there is none)."""
    length = int(LENGTH * average_run_length)
    alarms, first = np.zeros(runs), np.zeros(runs)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        base = baseline(rng) if callable(baseline) else baseline
        detector = SequentialDetector(
            base or Baseline.from_proportions(p), average_run_length, tolerance
        )
        labels = stream(rng, p, length)
        if feed == "labels":
            found = detector.update(labels)
        else:
            found = detector.update_counts(chunks(rng, labels, len(p), feed))
        alarms[run] = len(found)
        first[run] = found[0].prediction if found else length
    return alarms, first


def chunks(rng, labels, k, feed) -> np.ndarray:
    """Cut a stream into chunks of one size, or of sizes drawn beforehand."""
    sizes = rng.choice([1, 4, 32, 100, 1_000], len(labels)) if feed == "mixed" else feed
    ends = np.cumsum(np.broadcast_to(sizes, len(labels)))
    chunk = np.searchsorted(ends, np.arange(len(labels)), side="right")
    return np.bincount(chunk * k + labels, minlength=(chunk[-1] + 1) * k).reshape(-1, k)


def assert_promise(alarms: np.ndarray, first: np.ndarray, average_run_length: float) -> None:
    runs = len(alarms)
    student = stats.t.ppf(CONFIDENCE, runs - 1) / np.sqrt(runs)
    most = alarms.mean() + student * alarms.std(ddof=1)
    # The spread of few alarms is uncertain itself: never below that of a Poisson count.
    most = max(most, stats.gamma.ppf(CONFIDENCE, alarms.sum() + 1) / runs)
    assert most <= LENGTH, f"{alarms.mean()} alarms in {LENGTH} A, limit {most}"
    least = first.mean() - student * first.std(ddof=1)
    assert least >= average_run_length, f"mean run {first.mean()}, limit {least}"


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize(("average_run_length", "runs"), [(1_000, 80), (10_000, 30)])
def test_at_the_baseline(truth, average_run_length, runs):
    assert_promise(*simulate(1, runs, average_run_length, TRUTHS[truth]), average_run_length)


@pytest.mark.parametrize("truth", TRUTHS)
def test_at_the_edges_of_the_band(truth):
    p = TRUTHS[truth]
    k = len(p)
    rng = np.random.default_rng(2)
    orders = [
        np.arange(k),
        np.arange(k)[::-1],
        np.concatenate([np.arange(0, k, 2), np.arange(1, k, 2)]),
        *(rng.permutation(k) for _ in range(3)),
    ]
    corners = [vertex(p, order, 0.2) for order in orders]
    # One class at an edge, the rest in proportion: where the bets on one class stand.
    for side in (0.8, 1.2):
        moved = int(np.argmax(p)) if p.max() < 0.9 else int(np.argmin(p))
        corner = p * (1 - side * p[moved]) / (1 - p[moved])
        corner[moved] = side * p[moved]
        corners.append(corner)
    alarms = [simulate(3, 40, 1_000, q, Baseline.from_proportions(p))[0].sum() for q in corners]
    worst = corners[int(np.argmax(alarms))]
    # The least favourable corner that was found, on new streams.
    for average_run_length, runs in ((1_000, 150), (10_000, 40)):
        found = simulate(4, runs, average_run_length, worst, Baseline.from_proportions(p))
        assert_promise(*found, average_run_length)


@pytest.mark.parametrize("size", [500, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("truth", TRUTHS)
def test_with_a_counted_baseline(truth, size):
    p = TRUTHS[truth]

    def counted(rng):
        return Baseline.from_counts(rng.multinomial(size, p))

    assert_promise(*simulate(5, 60, 1_000, p, counted), 1_000)


@pytest.mark.parametrize("truth", ["0.99/0.01", "10 even"])
def test_with_a_counted_baseline_for_longer(truth):
    p = TRUTHS[truth]

    def counted(rng):
        return Baseline.from_counts(rng.multinomial(1_000, p))

    assert_promise(*simulate(6, 30, 10_000, p, counted), 10_000)


@pytest.mark.parametrize("feed", [1, 32, 1_000, "mixed"])
@pytest.mark.parametrize("truth", ["2 even", "10 even"])
def test_with_chunks_of_any_size(truth, feed):
    p = TRUTHS[truth]
    edge = vertex(p, np.arange(len(p)), 0.2)
    # Single predictions overshoot the threshold least, so that they come nearest to the promise.
    runs = 140 if feed == 1 else 40
    assert_promise(*simulate(7, runs, 1_000, edge, Baseline.from_proportions(p), feed), 1_000)


@pytest.mark.parametrize("truth", ["10 even", "100 Zipf"])
def test_the_simulation_notices_a_broken_promise(truth):
    """Half as far again beyond the edge, the same simulation fails: it can tell."""
    p = TRUTHS[truth]
    beyond = vertex(p, np.arange(len(p)), 0.3)
    alarms, first = simulate(8, 20, 10_000, beyond, Baseline.from_proportions(p))
    with pytest.raises(AssertionError):
        assert_promise(alarms, first, 10_000)


@pytest.mark.parametrize("truth", ["10 even", "2 even"])
def test_no_timetable(truth, monkeypatch):
    """Undrifted streams do not alarm after a few average run lengths, one as the other.

    The leak is what a long average run length would have, smaller in proportion.
    """
    p, average_run_length = TRUTHS[truth], 50_000
    monkeypatch.setattr(sequential, "MINIMUM_LEAK", average_run_length / 10)
    passed = 0
    for run in range(24):
        rng = np.random.default_rng([9, run])
        detector = SequentialDetector(Baseline.from_proportions(p), average_run_length)
        passed += not detector.update(stream(rng, p, 10 * average_run_length))
    assert passed >= 20
