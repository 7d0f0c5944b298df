"""The sequential detector against a direct computation, and its behaviour at the edges."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift.bets import (
    ARGUMENT_ROUNDING,
    PAIR_RATIOS,
    PAIR_WEIGHT,
    RATIOS,
    SINGLE_WEIGHT,
    fixed_bets,
)
from otel_drift.drift.design_effect import LiveDesignEffect
from otel_drift.drift.learnt import (
    ABSENT_WEIGHTS,
    LINEAR_WEIGHTS,
    MEMORIES,
    SPARSE_WEIGHTS,
    learnt_bets,
)
from otel_drift.drift.projection import into_band, nearest_tolerated, projection_scales
from otel_drift.drift.sequential import (
    CHUNK,
    EXPLAINED_FOR,
    EXPLAINED_FOR_LONGEST,
    Alarm,
    SequentialDetector,
)
from otel_drift.drift.variation import Variation


def zipf(k: int) -> np.ndarray:
    shares = 1 / np.arange(1, k + 1)
    return shares / shares.sum()


def project(q, lower, upper):
    """The tolerated distribution nearest to q, by plain bisection."""
    low, high = 0.0, float((upper[q > 0] / q[q > 0]).max())
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * q, lower, upper).sum() < 1:
            low = middle
        else:
            high = middle
    return np.clip(high * q, lower, upper)


class DirectDetector:
    """The definition in float64: every bet a vector of K shares, one chunk after another."""

    def __init__(self, baseline: Baseline, average_run_length: float, tolerance: float) -> None:
        self.lower, self.upper = baseline.tolerated_band(tolerance)
        start = project(baseline.starting_proportions(), self.lower, self.upper)
        self.base = start / start.sum()
        self.average_run_length = average_run_length
        known = baseline.variation
        self.live = LiveDesignEffect(
            self.base, known and known.design_effects, known.design_effect if known else 1.0
        )
        k = len(self.base)
        singles = [self.moved([i], r) for r in RATIOS for i in range(k)]
        common = sorted(np.argsort(-self.base, kind="stable")[:10])
        pairs = [
            self.moved([i, j], r)
            for r in PAIR_RATIOS
            for i in common
            for j in common
            if i < j and k > 2
        ]
        singles = [q for q in singles if q is not None]
        pairs = [q for q in pairs if q is not None]
        self.fixed = np.log([q / project(q, self.lower, self.upper) for q in singles + pairs])
        weight = SINGLE_WEIGHT + (0 if pairs else PAIR_WEIGHT)
        self.weights = np.array(
            [weight / len(singles)] * len(singles)
            + [PAIR_WEIGHT / max(1, len(pairs))] * len(pairs)
            + [*LINEAR_WEIGHTS, *SPARSE_WEIGHTS]
            + [*ABSENT_WEIGHTS] * (k >= 250)
        )
        self.weights /= self.weights.sum()
        self.statistics = np.zeros(len(self.weights))
        self.seen = {m: np.zeros(k) for m in MEMORIES}
        self.missed = np.zeros(k)
        self.lesson: list[np.ndarray] = []
        self.lesson_chunks = min(8, max(1, k // 125))
        self.alarms: list[int] = []
        self.predictions = 0

    def moved(self, classes, ratio):
        b = self.base
        share = ratio * b[classes].sum()
        tolerated = all(self.lower[k] <= ratio * b[k] <= self.upper[k] for k in classes)
        if share > 0.9 or tolerated:
            return None
        q = b * (1 - share) / (1 - b[classes].sum())
        q[classes] = ratio * b[classes]
        return q

    def learnt(self):
        for m in (200, 1_000, 5_000):
            q = 20 * self.base + self.seen[m]
            yield q / q.sum()
        for m, sigmas in ((300, 1.5), (1_000, 2.0)):
            s = self.seen[m]
            expected = s.sum() * self.base
            far = np.abs(s - expected) > sigmas * np.sqrt(expected + 0.25)
            q = np.where(far, (3 * self.base + s) / (3 + s.sum()), self.base)
            yield q / q.sum()
        for prior in (0.01, 0.1) if len(self.base) >= 250 else ():
            not_lost = (1 - prior) / (1 - prior + prior * np.exp(np.minimum(self.missed, 50)))
            q = self.base * np.maximum(not_lost, 0.02)
            yield q / q.sum()

    def update_counts(self, counts) -> None:
        n = counts.sum()
        self.predictions += int(n)
        (design_effect,) = self.live.update(counts[None].astype(float))
        counts = counts / design_effect
        learnt = np.log([q / project(q, self.lower, self.upper) for q in self.learnt()])
        leak = max(self.average_run_length / 100, 20_000 * design_effect)
        growth = np.vstack([self.fixed, learnt]) @ counts - n / leak
        self.statistics = (n + self.statistics) * np.exp(growth)
        self.lesson.append(counts)
        if len(self.lesson) == self.lesson_chunks:
            lesson = sum(self.lesson)
            for m in MEMORIES:
                self.seen[m] = self.seen[m] * math.exp(-lesson.sum() / m) + lesson
            missed = self.missed + np.floor(lesson.sum() * self.lower * 1_024) / 1_024
            self.missed = np.where(lesson > 0, 0, np.minimum(missed, 65_535 / 1_024))
            self.lesson = []
        if self.weights @ self.statistics >= self.average_run_length:
            self.alarms.append(self.predictions)
            self.statistics[:] = 0

    @property
    def evidence(self) -> float:
        return math.log10(max(1.0, float(self.weights @ self.statistics)))


BASELINES = {
    "2 even": Baseline.uniform(2),
    "3": Baseline.from_proportions([0.5, 0.3, 0.2]),
    "rare": Baseline.from_proportions([0.99, 0.01]),
    "10 even": Baseline.uniform(10),
    "a class never": Baseline.from_proportions([0.6, 0.4, 0.0]),
    "dominant": Baseline.from_proportions([0.85, 0.1, 0.03, 0.02]),
    "Zipf": Baseline.from_proportions(zipf(30)),
    "counted": Baseline.from_counts([400, 250, 200, 100, 45, 5, 0]),
    "many": Baseline.from_proportions(zipf(520)),
    "dependent": replace(
        Baseline.uniform(10),
        variation=Variation(2.5, (2.0,), np.full(10, 0.08), np.full(10, 0.13), 1_024, 20),
    ),
    "more classes than counts": Baseline.from_counts([40, 7, 3] + [0] * 60),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "many" else ()) for n in BASELINES]
)
def test_equals_the_definition(name):
    baseline = BASELINES[name]
    rng = np.random.default_rng(1)
    k = len(baseline.classes)
    drifted = baseline.proportions.copy()
    drifted[[0, -1]] += np.array([-0.7, 0.7]) * drifted[0]
    labels = np.concatenate(
        [
            rng.choice(k, 40 * CHUNK, p=baseline.proportions),
            rng.choice(k, 60 * CHUNK, p=drifted),
        ]
    )
    detector = SequentialDetector(baseline, 2_000, 0.15)
    direct = DirectDetector(baseline, 2_000, 0.15)
    for start in range(0, len(labels), CHUNK):
        chunk = labels[start : start + CHUNK]
        detector.update(chunk)
        direct.update_counts(np.bincount(chunk, minlength=k))
        assert detector.evidence == pytest.approx(direct.evidence, abs=2e-5)
        assert detector.alarms == len(direct.alarms)
    again = SequentialDetector(baseline, 2_000, 0.15)
    assert [alarm.prediction for alarm in again.update(labels)] == direct.alarms
    assert direct.alarms, "the drift must be large enough to test alarms"


def worst_growth(q, nearest, lower, upper) -> float:
    """Largest expectation of q/p* over the band: fill the best classes first (a knapsack)."""
    ratio = q / nearest
    shares = lower.copy()
    room = 1 - shares.sum()
    for k in np.argsort(-ratio):
        step = min(room, upper[k] - lower[k])
        shares[k] += step
        room -= step
    assert room < 1e-9
    return float(shares @ ratio)


def random_bands(rng, rounds):
    for _ in range(rounds):
        k = int(rng.integers(2, 60))
        p = rng.dirichlet(np.full(k, 10.0 ** rng.uniform(-1, 1))) + 1e-12
        p /= p.sum()
        spread = rng.uniform(0.01, 0.9, (2, k if rng.random() < 0.5 else 1))
        yield p, p * (1 - spread[0]), np.minimum(1, p * (1 + spread[1]))


def test_no_tolerated_distribution_makes_a_bet_grow():
    rng = np.random.default_rng(2)
    for p, lower, upper in random_bands(rng, 1_000):
        q = rng.dirichlet(np.full(len(p), 10.0 ** rng.uniform(-1, 1))) + 1e-15
        q /= q.sum()
        scale = projection_scales(q[None], lower, upper, np.ones(1))[0]
        nearest = np.clip(scale * q, lower, upper)
        assert nearest.sum() == pytest.approx(1, abs=1e-9)
        assert worst_growth(q, nearest, lower, upper) <= 1 + 1e-12
        assert nearest == pytest.approx(project(q, lower, upper), rel=1e-9, abs=1e-15)
        shown = nearest_tolerated(q, lower, upper)
        assert shown == pytest.approx(nearest, rel=1e-8, abs=1e-15)


def test_no_tolerated_distribution_makes_a_fixed_bet_grow():
    rng = np.random.default_rng(3)
    for p, lower, upper in random_bands(rng, 30):
        base = into_band(p, lower, upper)
        bets = fixed_bets(base, lower, upper)
        logs = bets.log_ratios(np.arange(len(p)), np.arange(bets.size))
        used = np.flatnonzero(bets.used)
        for bet in rng.choice(used, min(20, len(used)), replace=False):
            q = base * bets.rest[bet]
            q[[bets.first[bet], bets.second[bet]]] = (
                bets.ratio[bet] * base[[bets.first[bet], bets.second[bet]]]
            )
            assert q.sum() == pytest.approx(1)
            ratio = np.exp(logs[:, bet])
            assert worst_growth(q, q / ratio, lower, upper) <= 1 + 1e-9
            # A little less than the exact one: that pays for rounding.
            paid = np.exp(ARGUMENT_ROUNDING * np.abs(logs[:, bet]))
            assert q / ratio / paid == pytest.approx(project(q, lower, upper), rel=1e-7, abs=1e-15)


def test_learnt_bets_are_distributions():
    rng = np.random.default_rng(4)
    learnt = rng.gamma(0.3, 20, (6, len(MEMORIES), 40)).astype(np.float32)
    bets = learnt_bets(learnt, zipf(40))
    assert bets.shape == (6, len(LINEAR_WEIGHTS) + len(SPARSE_WEIGHTS), 40)
    assert (bets > 0).all()
    assert bets.sum(axis=-1) == pytest.approx(1, abs=1e-15)


def test_scales_do_not_depend_on_the_first_guess():
    rng = np.random.default_rng(5)
    for p, lower, upper in random_bands(rng, 200):
        q = rng.dirichlet(np.ones(len(p)), 8) + 1e-15
        q /= q.sum(axis=1, keepdims=True)
        found = [
            projection_scales(q, lower, upper, np.full(8, guess)) for guess in (1.0, 1e-3, 1e3)
        ]
        assert found[1] == pytest.approx(found[0], rel=1e-11, abs=3e-12)
        assert found[2] == pytest.approx(found[0], rel=1e-11, abs=3e-12)


@pytest.mark.parametrize("k", [2, 10, pytest.param(700, marks=pytest.mark.slow)])
def test_the_same_however_cut_and_however_often_read(k):
    rng = np.random.default_rng(6)
    baseline = Baseline.uniform(k)
    drifted = zipf(k) * 0.9 + 0.1 / k
    labels = np.concatenate([rng.integers(0, k, 3_000), rng.choice(k, 3_000, p=drifted)])
    whole = SequentialDetector(baseline, 1e5)
    alarms = whole.update(labels)
    assert alarms
    for cutting in (1, 7, 32, 1_000, "mixed"):
        detector = SequentialDetector(baseline, 1e5)
        found: list[Alarm] = []
        start = 0
        while start < len(labels):
            step = int(rng.integers(0, 200)) if cutting == "mixed" else cutting
            found += detector.update(labels[start : start + step])
            start += step
            _ = (detector.evidence, detector.active)
            if start % 50 == 0:
                _ = (detector.explanation(), detector.state())
        assert len(found) == len(alarms)
        for one, other in zip(found, alarms, strict=True):
            assert one.prediction == other.prediction
            assert one.classes == other.classes
            assert one.evidence == pytest.approx(other.evidence, rel=1e-7)
            assert one.age == other.age
        assert detector.evidence == pytest.approx(whole.evidence, rel=1e-7, abs=1e-7)
        assert detector.predictions == whole.predictions == len(labels)


def test_counts_are_chunks():
    rng = np.random.default_rng(7)
    labels = rng.choice(5, 64 * CHUNK, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    counts = np.array([np.bincount(c, minlength=5) for c in labels.reshape(-1, CHUNK)])
    detectors = [SequentialDetector(Baseline.uniform(5), 1e4) for _ in range(3)]
    detectors[0].update(labels)
    detectors[1].update_counts(counts)
    for row in counts:
        detectors[2].update_counts(row)
    assert detectors[0].alarms > 0
    assert {d.alarms for d in detectors} == {detectors[0].alarms}
    assert {d.evidence for d in detectors} == {detectors[0].evidence}


def test_counts_close_a_chunk_that_waits():
    detector = SequentialDetector(Baseline.uniform(4))
    detector.update([0, 1, 2])
    assert detector.predictions == 3
    assert detector.evidence == 0
    detector.update_counts([1, 1, 1, 1])
    by_hand = SequentialDetector(Baseline.uniform(4))
    by_hand.update_counts([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert detector.predictions == 7
    assert detector.evidence == by_hand.evidence > 0


def test_empty_input_changes_nothing():
    detector = SequentialDetector(Baseline.uniform(4))
    assert detector.update([]) == ()
    assert detector.update_counts(np.zeros((3, 4))) == ()
    assert detector.update_counts(np.zeros((0, 4))) == ()
    assert detector.state() == SequentialDetector(Baseline.uniform(4)).state()


def test_what_moved_and_since_when():
    rng = np.random.default_rng(8)
    detector = SequentialDetector(Baseline.uniform(10))
    detector.update(rng.integers(0, 10, 10_016))
    moved = np.full(10, 0.9 / 9)
    moved[4] = 0.2
    moved[np.arange(10) != 4] = 0.8 / 9
    alarm = detector.update(rng.choice(10, 3_200, p=moved))[0]
    assert alarm.classes == (4,)
    assert alarm.probability > 0.95
    assert alarm.evidence >= detector.threshold == 7
    assert alarm.prediction - alarm.age == pytest.approx(10_016, abs=200)
    largest = alarm.contributions[0]
    assert largest.position == 4
    assert largest.baseline == 0.1
    assert largest.estimate == pytest.approx(0.2, abs=0.05)
    assert largest.ratio == pytest.approx(2, abs=0.5)
    assert alarm.moved[0] == largest
    assert sum(one.contribution for one in alarm.moved[:-1]) < 0.9
    assert largest.contribution > 0.8
    assert sum(shift.contribution for shift in alarm.contributions) == pytest.approx(1)


def test_two_classes_that_moved_are_named():
    rng = np.random.default_rng(9)
    detector = SequentialDetector(Baseline.from_proportions(zipf(30)))
    p = zipf(30)
    detector.update(rng.choice(30, 3_200, p=p))
    p[[2, 5]] = 0
    alarm = detector.update(rng.choice(30, 3_200, p=p / p.sum()))[0]
    assert alarm.classes == (2, 5)
    assert {one.position for one in alarm.moved} == {2, 5}
    assert all(one.ratio < 0.1 for one in alarm.moved)


def test_explanation_is_that_of_the_alarm_before_it_is_raised():
    rng = np.random.default_rng(10)
    labels = np.concatenate([rng.integers(0, 10, 3_200), rng.integers(0, 9, 3_200)])
    first = SequentialDetector(Baseline.uniform(10)).update(labels)[0]
    patient = SequentialDetector(Baseline.uniform(10), 1e12)
    patient.update(labels[: first.prediction])
    found = patient.explanation()
    assert found.classes == first.classes
    assert found.age == pytest.approx(first.age, abs=10)


def test_explanation_without_evidence():
    found = SequentialDetector(Baseline.uniform(3)).explanation()
    assert found == (0, (), 0.0, ())


def test_active_from_an_alarm_until_quiet_and_onset_of_the_first():
    rng = np.random.default_rng(11)
    detector = SequentialDetector(Baseline.uniform(10))
    detector.update(rng.integers(0, 10, 3_200))
    assert not detector.active
    alarms: list[Alarm] = []
    for _ in range(100):
        alarms += detector.update(rng.integers(0, 9, 100))
        assert detector.active == bool(alarms)
    assert len(alarms) > 20
    began = {alarm.prediction - alarm.age for alarm in alarms}
    assert len(began) == 1, "a drift that goes on has one beginning"
    assert began.pop() == pytest.approx(3_200, abs=40)
    assert detector.predictions - detector.explanation().age == pytest.approx(3_200, abs=72)

    last = alarms[-1].prediction
    gaps = np.diff([alarm.prediction for alarm in alarms])[-3:]
    quiet = max(320, 3 * int(gaps.max()))
    while detector.predictions < last + quiet:
        assert detector.active
        assert detector.update(rng.integers(0, 10, 1)) == ()
    assert not detector.active
    # A new drift is a new episode with an onset of its own.
    after = detector.predictions
    again = detector.update(rng.integers(1, 10, 3_200))[0]
    assert again.prediction - again.age == pytest.approx(after, abs=150)


def test_state_goes_on_exactly():
    rng = np.random.default_rng(12)
    for k in (2, 10, 700):
        baseline = Baseline.from_counts(rng.integers(0, 500, k))
        labels = rng.choice(k, 5_000, p=np.roll(baseline.proportions, 1))
        whole = SequentialDetector(baseline, 1e6, 0.1)
        parts = SequentialDetector(baseline, 1e6, 0.1)
        whole.update(labels)
        parts.update(labels[:1_234])
        state = json.loads(json.dumps(parts.state()))
        parts = SequentialDetector.from_state(
            baseline, state, average_run_length=1e6, tolerance=0.1
        )
        parts.update(labels[1_234:])
        assert parts.state() == whole.state()


def test_state_is_refused_with_the_reason():
    detector = SequentialDetector(Baseline.uniform(10), 1e6)
    detector.update(np.arange(10))
    state = detector.state()
    with pytest.raises(ValueError, match="baseline"):
        SequentialDetector.from_state(Baseline.uniform(11), state)
    with pytest.raises(ValueError, match=r"version is 999, but 4 is wanted"):
        SequentialDetector.from_state(Baseline.uniform(10), {**state, "version": 999})
    with pytest.raises(ValueError, match="average_run_length is 1000000"):
        SequentialDetector.from_state(Baseline.uniform(10), state, average_run_length=1e7)
    with pytest.raises(ValueError, match=r"tolerance is 0\.2"):
        SequentialDetector.from_state(Baseline.uniform(10), state, tolerance=0.3)
    with pytest.raises(ValueError, match="'version' is missing"):
        SequentialDetector.from_state(Baseline.uniform(10), {})
    for damage in (
        {"local": ""},
        {"local": state["cusum"]},
        {"start_aged": "not base 85 \x00"},
        {"pending": [99]},
        {"gaps": None},
        {"explained": None},
        {"explained": [0, [99], 0.5, []]},
        {"explained": [0, [1], 0.5, [[1, 0.1, float("nan"), 0.5]]]},
    ):
        with pytest.raises(ValueError, match="damaged"):
            SequentialDetector.from_state(Baseline.uniform(10), {**state, **damage})


@pytest.mark.slow
def test_state_is_small_and_does_not_grow():
    rng = np.random.default_rng(13)
    detector = SequentialDetector(Baseline.uniform(1_000), calls=True)
    detector.update(rng.integers(0, 1_000, 64_000), np.full(2_000, 32))
    arrays = sum(values.nbytes for values in detector._arrays().values())
    assert arrays <= 100_000
    assert len(json.dumps(detector.state())) <= 100_000
    small = SequentialDetector(Baseline.uniform(10))
    small.update(rng.integers(0, 10, 100_000))
    # All that it refers to. What Python's allocator traces says less: NumPy keeps small blocks.
    held = len(pickle.dumps(small))
    for _ in range(10):
        small.update(rng.integers(0, 10, 100_000))
    assert len(pickle.dumps(small)) == held


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("average_run_length", [100, 1e7, 1e12])
def test_total_collapse_stays_finite(name, average_run_length):
    baseline = BASELINES[name]
    rarest = int(baseline.proportions.argmin())
    detector = SequentialDetector(baseline, average_run_length)
    with np.errstate(over="raise", invalid="raise"):
        alarms = [*detector.update(np.full(3_200, rarest))]
        for size in (10**4, 10**6, 10**9, 10**15):
            counts = np.zeros(len(baseline.classes))
            counts[rarest] = size
            alarms += detector.update_counts(counts)
    assert alarms
    for alarm in alarms:
        assert math.isfinite(alarm.evidence)
        assert alarm.evidence >= detector.threshold
        assert alarm.classes
        assert 0 <= alarm.age <= alarm.prediction
        assert all(math.isfinite(x) for shift in alarm.contributions for x in shift)
    assert math.isfinite(detector.evidence)
    assert detector.active
    json.dumps(detector.state(), allow_nan=False)


def test_one_sighting_of_a_class_that_never_occurs_is_no_alarm():
    rng = np.random.default_rng(14)
    for baseline in (
        Baseline.from_proportions([*[0.1] * 10, 0.0]),
        Baseline.from_counts([1_000] * 10 + [0]),
        Baseline.from_counts([10_000_000] * 10 + [0]),
    ):
        detector = SequentialDetector(baseline)
        detector.update(rng.integers(0, 10, 50_000))
        before = detector.evidence
        assert detector.update([10, *rng.integers(0, 10, 63)]) == ()
        assert detector.evidence < max(before, 4) + 2


def test_ten_thousand_classes():
    rng = np.random.default_rng(15)
    detector = SequentialDetector(Baseline.uniform(10_000))
    assert detector.update(rng.integers(0, 10_000, 1_280)) == ()
    alarm = detector.update(np.full(640, 1_234))[0]
    assert alarm.classes == (1_234,)
    assert alarm.prediction <= 1_280 + 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average_run_length": 99}, "average_run_length=99: must be"),
        ({"average_run_length": 2e12}, "average_run_length=2000000000000.0"),
        ({"average_run_length": math.nan}, "average_run_length=nan"),
        ({"tolerance": 0}, "tolerance=0: must be above 0 and below 1"),
        ({"tolerance": 1}, "tolerance=1"),
        ({"tolerance": math.nan}, "tolerance=nan"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SequentialDetector(Baseline.uniform(10), **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 10], r"labels\[1\]=10: must be a whole number from 0 to 9"),
        ([0, 1, -1], r"labels\[2\]=-1"),
        ([0.0, math.nan], r"labels\[1\]=nan: must be a whole number"),
        ([0.5], r"labels\[0\]=0.5"),
        ([math.inf], r"labels\[0\]=inf"),
        ([[0, 1]], r"labels of shape \(1, 2\): must be one-dimensional"),
        (["cat"], r"labels of type <U3"),
        (np.array([2**64 - 1], dtype=np.uint64), r"labels\[0\]=18446744073709551615"),
    ],
)
def test_labels_out_of_range_leave_the_detector_as_it_was(labels, message):
    detector = SequentialDetector(Baseline.uniform(10))
    detector.update(np.arange(10))
    before = detector.state()
    with pytest.raises(ValueError, match=message):
        detector.update(labels)
    assert detector.state() == before


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"counts of shape \(2,\): must be \(10,\), or \(T, 10\)"),
        (np.ones((2, 3)), r"counts of shape \(2, 3\)"),
        (np.ones((1, 2, 10)), r"counts of shape \(1, 2, 10\)"),
        ([-1] + [0] * 9, r"counts\[0\]=-1: must be a whole number from 0"),
        ([math.nan] * 10, r"counts\[0\]=nan"),
        ([[1] * 10, [1.5] * 10], r"counts\[1, 0\]=1.5"),
    ],
)
def test_counts_out_of_range_leave_the_detector_as_it_was(counts, message):
    detector = SequentialDetector(Baseline.uniform(10))
    detector.update(np.arange(10))
    before = detector.state()
    with pytest.raises(ValueError, match=message):
        detector.update_counts(counts)
    assert detector.state() == before


def test_whole_numbers_of_any_type_are_labels():
    states = []
    for dtype in (np.int8, np.uint16, np.int64, np.float32, object):
        detector = SequentialDetector(Baseline.uniform(10))
        labels = np.arange(40) % 10
        detector.update(labels.tolist() if dtype is object else labels.astype(dtype))
        states.append(detector.state())
    assert all(state == states[0] for state in states)


@pytest.mark.parametrize(
    "results", ["detection_promise", "detection_comparison", "sequential_speed"]
)
def test_the_documentation_shows_the_results_of_the_benchmarks(results):
    root = Path(__file__).parents[2]
    measured = (root / "benchmarks" / "results" / f"{results}.md").read_text()
    shown = (root / "docs" / "detector.md").read_text()
    table = [line for line in measured.split("\n## Zipf")[0].splitlines() if line.startswith("|")]
    assert len(table) > 5
    for line in table:
        assert line in shown


def test_alarms_that_follow_closely_share_an_explanation_until_it_is_old():
    rng = np.random.default_rng(8)
    detector = SequentialDetector(Baseline.uniform(10))
    detector.update(rng.integers(0, 10, 6_400))
    alarms = detector.update(np.full(3_200, 4))
    first = alarms[0]
    explained = [
        after.prediction - first.prediction
        for before, after in itertools.pairwise(alarms)
        if after.contributions is not before.contributions
    ]
    assert len(alarms) > 50
    assert len(explained) > 3
    # The longer a drift has lasted the longer: an eighth of that, and not for ever.
    for since, until in itertools.pairwise([0, *explained]):
        shared = max(EXPLAINED_FOR, (since + first.age) // 8)
        assert shared <= until - since < shared + CHUNK
    alarms = detector.update(np.full(96_000, 4))
    shared = [len(list(same)) for _, same in itertools.groupby(alarms, lambda a: a.contributions)]
    assert max(shared) == EXPLAINED_FOR_LONGEST // CHUNK
    # Another drift is explained anew, however soon it comes.
    detector.update(rng.integers(0, 10, 50_000))
    assert not detector.active
    assert detector.update(np.full(320, 7))[0].classes == (7,)


@pytest.mark.parametrize(
    ("name", "baseline"),
    {
        "2 even": Baseline.uniform(2),
        "rare": Baseline.from_proportions([0.99, 0.01]),
        "10 even": Baseline.uniform(10),
        "Zipf": Baseline.from_proportions(zipf(30)),
        "100 even": Baseline.uniform(100),
        "counted": Baseline.from_counts([400, 250, 200, 100, 45, 5, 0]),
    }.items(),
)
def test_the_alarms_are_those_of_one_chunk_after_another(name, baseline):
    """Recorded before chunks were worked out side by side, with a recursion in plain order."""
    recorded = json.loads((Path(__file__).parent / "recorded_alarms.json").read_text())[name]
    k, p = len(baseline.classes), baseline.proportions
    rng = np.random.default_rng(23)
    moved = p.copy()
    moved[0] *= 0.4
    detector = SequentialDetector(baseline, 1e5)
    alarms, after = [], []
    for q, length in (
        (p, 6_000),
        (moved / moved.sum(), 6_000),
        (p, 4_000),
        (np.full(k, 1 / k), 1_500),
        (p, 3_000),
    ):
        labels = np.searchsorted(np.cumsum(q)[:-1], rng.random(length), side="right")
        alarms += detector.update(labels)
        after.append(detector.evidence)
    assert [alarm.prediction for alarm in alarms] == recorded["alarms"]
    assert [alarm.age for alarm in alarms] == recorded["ages"]
    # What pays for rounding has since become a millionth of each chunk, and R sums over hundreds.
    assert [alarm.evidence for alarm in alarms] == pytest.approx(recorded["evidence"], abs=1e-4)
    assert after == pytest.approx(recorded["after"], abs=1e-4)
