"""The recursion of all bets, and the walks that date them, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from otel_drift.drift import recursion
from otel_drift.drift.recursion import PlainRecursion, SegmentedRecursion
from otel_drift.drift.sequential import ROUNDING
from otel_drift.drift.walks import STEPS, SeenSteps, Walks, chunks_of, steps_of, steps_of_walk

BETS = 40
THRESHOLD = 3e4


def stream(rng, chunks, drift):
    """Growth that is 1 on average, and from the middle on larger."""
    logs = rng.normal(-0.125, 0.5, (chunks, BETS))
    logs[chunks // 2 :, :5] += drift
    sizes = rng.choice([32, 32, 32, 7, 100], chunks)
    return np.exp(logs).astype(np.float32), sizes.astype(np.float32)


def definition(weights, growth, sizes):
    """Alarms, R, and mean ages, in float64."""
    statistics, ages, alarms = np.zeros(BETS), np.zeros(BETS), []
    for row, (g, n) in enumerate(zip(growth.astype(float), sizes.astype(float), strict=True)):
        ages = ages * statistics / (statistics + n) + n
        statistics = (statistics + n) * g
        if weights @ statistics >= THRESHOLD:
            alarms.append((row, weights @ statistics, statistics, ages))
            statistics, ages = np.zeros(BETS), np.zeros(BETS)
    return alarms, statistics, ages


@pytest.mark.parametrize("drift", [0.0, 0.3, 2.0, 9.0])
@pytest.mark.parametrize(
    ("kind", "very_few"),
    [(PlainRecursion, 0), (SegmentedRecursion, 0), (SegmentedRecursion, BETS)],
    ids=["one after another", "in segments", "in segments, looked up"],
)
def test_equals_the_definition_however_cut(kind, very_few, drift, monkeypatch):
    monkeypatch.setattr(recursion, "VERY_FEW_BETS", very_few)
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(BETS))
    growth, sizes = stream(rng, 700, drift)
    alarms, statistics, ages = definition(weights, growth, sizes)
    assert (len(alarms) > 2) == (drift > 0)
    states = []
    for step in (1, 5, 64, 97, 700):
        one_by_one, found = kind(weights), []
        for start in range(0, 700, step):
            some = slice(start, start + step)
            reached = one_by_one.take(growth[some], sizes[some], THRESHOLD)
            found += [
                (start + row, evidence, *reached.moment(alarm))
                for alarm, (row, evidence) in enumerate(
                    zip(reached.rows, reached.evidence, strict=True)
                )
            ]
        assert [one[0] for one in found] == [one[0] for one in alarms]
        for one, other in zip(found, alarms, strict=True):
            assert one[1] == pytest.approx(other[1], rel=1e-5)
            assert one[2] == pytest.approx(other[2], rel=1e-5)
            assert one[3] / one[2] == pytest.approx(other[3], rel=1e-5)
        now, aged = one_by_one.moment()
        assert now == pytest.approx(statistics, rel=1e-5)
        assert aged == pytest.approx(statistics * ages, rel=1e-5)
        states.append({name: values.tobytes() for name, values in one_by_one.arrays().items()})
        states[-1]["evidence"] = [one[1] for one in found]
    assert all(state == states[0] for state in states), "to the last bit"


def test_what_rounding_may_add_is_paid():
    """R in 32 bits, with what pays for it, never lies above R in exact arithmetic without."""
    rng = np.random.default_rng(2)
    weights = np.full(BETS, 1 / BETS)
    logs = rng.normal(0, 0.02, (3_000, BETS))
    paid = np.exp((logs - ROUNDING).astype(np.float32))
    sizes = np.full(len(logs), 32, np.float32)
    for kind in (PlainRecursion, SegmentedRecursion):
        now, exact = kind(weights), np.zeros(BETS, np.longdouble)
        for row in range(len(logs)):
            assert not now.take(paid[row : row + 1], sizes[:1], 1e30).rows
            exact = (32 + exact) * np.exp(logs[row].astype(np.longdouble))
            assert (now.moment()[0] <= exact).all()


def test_the_exponential_in_32_bits_is_within_four_units_in_the_last_place():
    x = np.concatenate([np.linspace(-80, 80, 1_000_001), np.linspace(-0.1, 0.1, 1_000_001)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(np.exp(x).astype(np.float64) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() < 4


def test_walks_equal_the_definition_however_cut():
    rng = np.random.default_rng(3)
    logs = rng.normal(0, 1, (300, 9))
    logs[:, 3] = -1.0
    logs[:, 4] = 0.0
    logs[150:, 5] += 1
    sizes = rng.integers(1, 60, 300)
    height, since = np.zeros(9), np.zeros(9)
    for row, n in zip(np.rint(logs * STEPS), sizes, strict=True):
        height = np.maximum(height + row, 0)
        since = np.where(height > 0, since + n, 0)
    for step in (1, 7, 16, 100, 300):
        walks = Walks(9)
        for start in range(0, 300, step):
            last = (
                int(walks.since[5]),
                walks.since_with(
                    5, steps_of(logs[start : start + step])[:, 5], sizes[start : start + step]
                ),
            )
            walks.take(steps_of(logs[start : start + step]), sizes[start : start + step])
            assert last[1] == walks.since[5]
        assert walks.height.tolist() == height.tolist()
        assert walks.since.tolist() == since.tolist()


def test_walks_of_classes_that_are_seldom_seen_equal_those_of_all_steps():
    rng = np.random.default_rng(4)
    classes, others = 25, 3
    for _ in range(100):
        chunks = int(rng.integers(1, 60))
        unseen = steps_of(rng.integers(-2, 3, (classes, 2)) / 4)  # many are as low as others
        held = rng.random((chunks, classes)) < rng.choice([0.02, 0.1, 0.5])
        rows, of = np.nonzero(held)
        seen = steps_of(rng.integers(-8, 9, (len(rows), 2)) / 4)
        rest = steps_of(rng.normal(0, 1, (chunks, others)))
        full = np.hstack([np.tile(unseen.T.reshape(-1), (chunks, 1)), rest])
        full[rows, of], full[rows, classes + of] = seen.T
        steps, sizes = SeenSteps(chunks, unseen, rows, of, seen, rest), rng.integers(1, 60, chunks)
        one, other, cut = (Walks(2 * classes + others) for _ in range(3))
        middle = chunks // 2
        for _ in range(2):
            one.take(full, sizes)
            other.take(steps, sizes)
            cut.take(chunks_of(steps, 0, middle), sizes[:middle])
            cut.take(chunks_of(steps, middle, chunks), sizes[middle:])
        for walks in (other, cut):
            assert (walks.height == one.height).all()
            assert (walks.since == one.since).all()
        for walk in range(2 * classes + others):
            assert (steps_of_walk(steps, walk) == full[:, walk]).all()
            since = one.since_with(walk, full[:, walk], sizes)
            alone = Walks(1)
            alone.height[:], alone.since[:] = one.height[walk], one.since[walk]
            alone.take(full[:, [walk]], sizes)
            assert since == alone.since[0]
