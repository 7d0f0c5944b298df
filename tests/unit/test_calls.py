"""Rows of one call that are alike count as the fewer that they are worth; no others do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift.calibration import calibrate
from otel_drift.drift.calls import LONG, CallDependence
from otel_drift.drift.monitor import DriftMonitor
from otel_drift.drift.sequential import SequentialDetector

EVEN = np.full(10, 0.1)
CLASSES = tuple("abcdefghij")


def alike(lengths: np.ndarray, correlation: float = 1.0, seed: int = 1) -> np.ndarray:
    """Labels of calls; a row has that of its call with the root of the correlation."""
    rng = np.random.default_rng(seed)
    of_call = np.repeat(rng.integers(0, 10, len(lengths)), lengths)
    own = rng.integers(0, 10, len(of_call))
    return np.where(rng.random(len(of_call)) < np.sqrt(correlation), of_call, own)


@pytest.mark.parametrize("rows", [1, 2, 5, 32, 300, 3_000])
def test_independent_rows_of_calls_count_in_full(rows):
    calls = CallDependence(EVEN)
    lengths = np.full(2_500, rows)
    read_with = calls.update(alike(lengths, 0.0), lengths)
    assert (read_with[2 if rows < LONG else 0 :] < 6).all()
    assert (read_with[2_000 if rows < LONG else 0 :] == 1).all()
    assert calls.measured == 1
    assert not calls.beyond


@pytest.mark.parametrize("rows", [2, 5, 32, 300, 3_000])
def test_rows_that_are_alike_are_one(rows):
    calls = CallDependence(EVEN)
    lengths = np.full(2_000, rows)
    read_with = calls.update(alike(lengths), lengths)
    assert (read_with[1_000:] == rows).all()
    assert calls.measured == pytest.approx(rows, rel=0.1)
    assert calls.beyond


@pytest.mark.parametrize(("rows", "correlation"), [(32, 0.3), (300, 0.1), (2_000, 0.02)])
def test_a_correlation_is_measured(rows, correlation):
    calls = CallDependence(EVEN)
    lengths = np.full(3_000, rows)
    read_with = calls.update(alike(lengths, correlation), lengths)
    expected = 1 + (rows - 1) * correlation
    assert np.median(read_with[1_000:]) == pytest.approx(1.25 * expected, rel=0.3)


def test_rows_of_any_class_of_a_group_are_found_to_be_of_one_group():
    """Along single classes this is a tenth of what it is along the group."""
    rng = np.random.default_rng(1)
    labels = (5 * rng.integers(0, 2, (3_000, 1)) + rng.integers(0, 5, (3_000, 32))).reshape(-1)
    read_with = CallDependence(EVEN).update(labels, np.full(3_000, 32))
    assert (read_with[1_500:] > 25).mean() > 0.9


def test_calls_of_one_length_say_nothing_of_others():
    rng = np.random.default_rng(2)
    lengths = np.where(rng.random(20_000) < 0.02, 200, rng.integers(1, 8, 20_000))
    labels = np.where(np.repeat(lengths == 200, lengths), alike(lengths), alike(lengths, 0.0))
    read_with = CallDependence(EVEN).update(labels, lengths)
    assert (read_with[lengths < 8][2_500:] == 1).all()
    assert (read_with[lengths == 200][20:] == 200).all()


def test_the_first_calls_of_a_length_may_be_alike():
    lengths = np.array([1, 1, 100, 5, 100, *[100] * 200])
    read_with = CallDependence(EVEN).update(alike(lengths, 0.0), lengths)
    assert read_with[:5].tolist() == [1, 1, 32, 5, 32]
    assert 2 < read_with[5] < 10
    assert 1 < read_with[100] < 1.5
    assert read_with[150:].tolist() == [1] * 55


def test_long_calls_are_alike_once_two_have_shown_it():
    lengths = np.full(20, 1_000)
    read_with = CallDependence(EVEN).update(alike(lengths), lengths)
    assert read_with[:2].tolist() == [1, 1]
    assert (read_with[2:] == 1_000).all()


def test_a_change_of_shares_is_no_likeness():
    rng = np.random.default_rng(3)
    labels = np.concatenate([rng.integers(0, 10, 64_000), rng.integers(0, 3, 64_000)])
    read_with = CallDependence(EVEN).update(labels, np.full(4_000, 32))
    assert (read_with[120:] == 1).all()


def test_a_call_is_read_with_what_came_before_it_only_however_the_stream_is_cut():
    rng = np.random.default_rng(4)
    lengths = rng.choice([1, 3, 20, 150], 3_000)
    labels = alike(lengths, 0.5)
    whole = CallDependence(EVEN).update(labels, lengths)
    ends = np.cumsum(lengths)
    changed = labels.copy()
    changed[ends[1_999] :] = changed[ends[1_999] :][::-1]
    assert (CallDependence(EVEN).update(changed, lengths)[:2_000] == whole[:2_000]).all()
    calls, cuts = CallDependence(EVEN), np.sort(rng.integers(0, 3_000, 40))
    parts = zip(np.split(labels, ends[cuts - 1]), np.split(lengths, cuts), strict=True)
    assert (np.concatenate([calls.update(*part) for part in parts]) == whole).all()


def test_a_log_tells_what_to_expect_and_more_is_believed_only_where_clear():
    lengths = np.full(2_000, 32)
    logged = (np.nan, np.nan, 0.5, np.nan, np.nan, np.nan)
    as_logged = CallDependence(EVEN, logged)
    assert (as_logged.update(alike(lengths, 0.5), lengths) == 1 + 31 * 0.5).all()
    assert not as_logged.beyond
    more = CallDependence(EVEN, logged)
    assert more.update(alike(lengths), lengths)[-1] == 32
    assert more.beyond
    nothing = CallDependence(EVEN, (0.0,) * 6)
    assert (nothing.update(alike(lengths, 0.0), lengths) == 1).all()


def test_a_detector_goes_on_from_its_state_with_calls():
    rng = np.random.default_rng(5)
    lengths = rng.choice([1, 20, 150], 1_000)
    labels, half = alike(lengths, 0.5), 500
    at = int(lengths[:half].sum())
    baseline = Baseline.uniform(10)
    whole, first = (SequentialDetector(baseline, calls=True) for _ in range(2))
    whole.update(labels, lengths)
    first.update(labels[:at], lengths[:half])
    again = SequentialDetector.from_state(baseline, json.loads(json.dumps(first.state())))
    again.update(labels[at:], lengths[half:])
    assert again.evidence == whole.evidence
    assert again.design_effect == pytest.approx(whole.design_effect, rel=1e-12)


def test_batches_that_are_alike_are_quiet_and_a_collapse_is_found():
    lengths = np.full(30_000, 32)
    monitor = DriftMonitor(Baseline.uniform(10))
    for call in alike(lengths).reshape(-1, 32):
        monitor.update(call)
    quiet = monitor.snapshot()
    for _ in range(16):
        monitor.update(np.full(32, 3))
    assert (quiet.alarms, quiet.dependent) == (0, True)
    assert quiet.design_effect == pytest.approx(32, rel=0.05)
    assert monitor.snapshot().active


def bursts(calls: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.where(np.random.default_rng(seed).random(calls) < 0.01, 200, 1)
    return alike(lengths, seed=seed), lengths


def test_a_log_with_its_calls_teaches_what_each_is_worth():
    labels, lengths = bursts(60_000, 6)
    found = calibrate(labels, CLASSES, calls=lengths)
    known = found.variation
    assert found.alarms == 0
    assert known.calls.correlations[3] == pytest.approx(1, abs=0.05)
    assert np.isnan(known.calls.correlations[0])
    assert known.calls.design_effect < 1.2
    assert known.worth_one == pytest.approx(3, rel=0.1)  # a burst of 200 and 99 others are 100
    assert known.design_effect > 100  # of counts that do not tell which row is of which call
    watched, of_calls = bursts(300_000, 7)
    detector = SequentialDetector(found.reference, calls=True)
    assert detector.update(watched, of_calls) == ()
    assert not detector.dependent
    collapsed = np.where(np.random.default_rng(8).random(1_000) < 0.9, 0, 1)
    alarms = detector.update(collapsed, np.ones(1_000, int))
    assert alarms[0].prediction - len(watched) < 300


def test_a_baseline_keeps_what_is_known_of_calls(tmp_path):
    labels, lengths = bursts(10_000, 9)
    calls = np.repeat(np.arange(len(lengths)), lengths)
    learnt = Baseline.from_log(labels, calls=calls, classes=CLASSES)
    again = Baseline.load(learnt.save(tmp_path / "a.json"))
    assert again.variation.to_json() == learnt.variation.to_json()
    assert again == learnt
    assert again.variation.calls.correlations[3] > 0.9
    plain = Baseline.from_log(labels, classes=CLASSES)
    assert plain.variation.calls is None
    assert plain != learnt
