"""What is learnt from a log: dependence, the hull of the shares, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from otel_drift.drift.calibration import calibrate, expected_delays, hull, unit_design_effect
from otel_drift.drift.sequential import SequentialDetector

CLASSES = tuple("abcde")


def alike(seed: int, calls: int, rows: int) -> np.ndarray:
    return np.repeat(np.random.default_rng(seed).integers(0, 5, calls), rows)


def swinging(seed: int, n: int, period: int, swing: float = 0.5) -> np.ndarray:
    """Class 0 goes up and down by half, class 1 the other way."""
    rng = np.random.default_rng(seed)
    p = np.full((n, 5), 0.2)
    turn = swing * np.sin(2 * np.pi * np.arange(n) / period)
    p[:, 0] *= 1 + turn
    p[:, 1] *= 1 - turn
    return (rng.random(n)[:, None] >= np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)


def test_an_independent_log_teaches_that_there_is_nothing_to_learn():
    labels = np.random.default_rng(1).integers(0, 5, 60_000)
    found = calibrate(labels, CLASSES)
    assert found.alarms == 0
    assert found.variation.design_effect < 1.15
    assert found.variation.lower == pytest.approx(found.reference.proportions, rel=0.05)
    assert found.margin == 1.25  # of a hull that is the shares themselves
    assert found.exceptional is None
    assert found.reference.size == 60_000


def test_a_log_of_dependent_calls_makes_them_quiet():
    found = calibrate(alike(2, 4_000, 16), CLASSES)
    assert 14 < found.variation.design_effect < 30
    fresh = alike(3, 40_000, 16)
    assert SequentialDetector(found.reference).update(fresh) == ()
    lost = SequentialDetector(found.reference)
    lost.update(fresh[:16_000])
    gone = fresh[fresh != 4][:32_000]
    alarms = lost.update(gone)
    assert alarms[0].classes == (4,)
    assert alarms[0].prediction - 16_000 < 3 * found.delays[4].lost


def test_units_tell_what_their_size_is_worth():
    labels = alike(4, 2_000, 12)
    units = np.repeat(np.arange(2_000), 12)
    shuffled = np.random.default_rng(5).permutation(len(labels))
    assert unit_design_effect(labels, units, np.bincount(labels)) == pytest.approx(12, rel=0.1)
    found = calibrate(labels[shuffled], CLASSES, units=units[shuffled])
    assert found.variation.design_effect == pytest.approx(1.25 * 12, rel=0.1)


def test_a_rhythm_lies_within_the_band_that_its_log_teaches():
    found = calibrate(swinging(6, 160_000, 20_000), CLASSES)
    assert found.alarms == 0
    assert found.variation.lower[0] < 0.13
    assert found.variation.upper[0] > 0.27
    assert found.variation.upper[3] < 0.22, "the others stay as they are"
    assert found.variation.design_effect < 2
    fresh = swinging(7, 400_000, 20_000)
    assert SequentialDetector(found.reference).update(fresh) == ()
    plain = SequentialDetector(type(found.reference)(CLASSES, np.full(5, 0.2)))
    assert plain.update(fresh), "without the log the rhythm is drift"


def test_a_part_that_is_not_like_the_rest_is_named():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 5, 100_000)
    labels[60_000:70_000] = rng.integers(0, 4, 10_000)
    found = calibrate(labels, CLASSES).exceptional
    assert found is not None
    assert (found.start, found.stop, found.position) == (60_000, 70_000, 4)
    assert found.share == 0
    assert found.lowest > 0.18


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(8_191, int), "a log of 8,191 predictions: must have at least 8,192"),
        (np.ones(9_000, int), "a log with one class, 'b': must have at least 2"),
    ],
)
def test_a_log_that_tells_nothing_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        calibrate(labels, CLASSES)


def test_a_hull_holds_what_noise_does_not_explain():
    rng = np.random.default_rng(9)
    p = np.array([0.3, 0.7])
    noise = rng.binomial(1_000, 0.3, 200) / 1_000
    lower, upper = hull(np.column_stack([noise, 1 - noise]), p, 1 / 1_000, 1)
    assert (lower, upper) == (pytest.approx(p), pytest.approx(p))
    wide = np.linspace(0.1, 0.5, 200)
    lower, upper = hull(np.column_stack([wide, 1 - wide]), p, 1 / 1_000, 1)
    assert lower == pytest.approx([0.1, 0.5], abs=0.01)
    assert upper == pytest.approx([0.5, 0.9], abs=0.01)


def test_a_stretched_hull_reaches_far_but_leaves_a_lost_class_to_be_found():
    p = np.array([0.3, 0.7])
    wide = np.linspace(0.1, 0.5, 200)
    lower, upper = hull(np.column_stack([wide, 1 - wide]), p, 1 / 1_000, 2)
    # From 3 : 7 down to 1 : 9 the odds fall to a quarter, and twice as far to a fifteenth.
    odds = (3 / 7) * (7 / 27) ** 2
    assert lower[0] == pytest.approx(odds / (1 + odds), rel=0.05)
    assert lower + upper[::-1] == pytest.approx([1, 1])
    lower, upper = hull(np.column_stack([wide, 1 - wide]), p, 1 / 1_000, 10)
    assert (lower > 0).all()
    assert (upper < 1).all()


def test_a_class_that_stood_still_may_go_as_far_as_most_others():
    p = np.full(4, 0.25)
    swing = np.linspace(-0.1, 0.1, 200)
    blocks = np.column_stack([p[0] + swing, p[1] - swing, p[2] + swing, p[3] - swing])
    still = np.column_stack([blocks[:, :2], np.full((200, 2), 0.25)])
    for shares, reaches in ((blocks, True), (still, False)):
        lower, _ = hull(shares, p, 1e-6, 2)
        assert (lower[3] < 0.14) == reaches
    three = np.column_stack([blocks[:, 0], blocks[:, 1:3] - swing[:, None] / 2, np.full(200, 0.25)])
    lower, _ = hull(three, p, 1e-6, 2)
    assert lower[3] < 0.2


def test_what_the_band_holds_is_never_found():
    found = calibrate(swinging(10, 160_000, 20_000, swing=0.95), CLASSES)
    assert found.delays[0].halved == np.inf
    assert np.isfinite(found.delays[3].lost)
    assert expected_delays(found.reference, 1e12, 0.2)[3].lost > found.delays[3].lost
