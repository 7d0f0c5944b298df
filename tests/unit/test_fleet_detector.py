"""The fleet's detector, fed by hand."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from otel_drift import Baseline, FleetDetector, SequentialDetector
from otel_drift.drift.variation import Variation
from otel_drift.fleet.chunks import shuffled_chunks
from otel_drift.fleet.reference import exported_reference

EVEN = np.full(10, 0.1)
LOST = np.append(np.full(9, 1 / 9), 0)


def ticks(fleet, rng, shares, times, per_tick=500):
    """Feed some ticks; give the alarms."""
    found = []
    for time in times:
        counts = rng.multinomial(rng.poisson(per_tick), shares)
        found += fleet.update({str(k): int(n) for k, n in enumerate(counts)}, time)
    return found


def drifting(seed=1):
    fleet, rng = FleetDetector(Baseline.uniform(10)), np.random.default_rng(seed)
    assert ticks(fleet, rng, EVEN, range(0, 600, 15)) == []
    assert ticks(fleet, rng, LOST, range(600, 660, 15))
    return fleet, rng


def test_what_moved_and_since_when():
    fleet, _ = drifting()
    assert fleet.active
    (moved,) = fleet.last_alarm.moved
    assert (moved.name, moved.baseline) == ("9", pytest.approx(0.1, rel=0.1))
    assert moved.share < 0.03
    assert 540 <= fleet.last_alarm.onset <= 615
    assert fleet.evidence >= fleet.threshold == 7
    assert [event.state for event in fleet.take_events()] == ["began"]


def test_it_ends_when_predictions_are_as_before():
    fleet, rng = drifting()
    ticks(fleet, rng, EVEN, range(660, 1_000, 15))
    assert not fleet.active
    assert fleet.evidence < 7
    assert [event.state for event in fleet.take_events()] == ["began", "ended"]


def from_its_state(fleet):
    state = json.loads(json.dumps(fleet.state()))
    return FleetDetector.from_state(Baseline.uniform(10), state)


@pytest.mark.parametrize(
    "copied",
    [from_its_state, copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
    ids=["state", "copy", "deepcopy", "pickle"],
)
def test_a_copy_goes_on_where_it_was(copied):
    fleet, rng = drifting()
    fleet.take_events()
    again, same_rng = copied(fleet), copy.deepcopy(rng)
    for one in (fleet, again):
        assert one.active
        assert one.alarms == fleet.alarms
        assert one.last_alarm == fleet.last_alarm
    assert again.take_events() == []
    for shares, times in ((LOST, range(660, 720, 15)), (EVEN, range(720, 1_500, 15))):
        found, same = ticks(fleet, rng, shares, times), ticks(again, same_rng, shares, times)
        assert found == same
        assert (fleet.evidence, fleet.active) == (again.evidence, again.active)
        assert fleet.design_effect == again.design_effect
    assert [event.state for event in again.take_events()] == ["ended"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "version is another"),
        ({"baseline": "x"}, "baseline is another"),
        ({"average_run_length": 1e6}, "average run length is another"),
        ({"dependence": {}}, "damaged"),
        ({"dependence": "abc"}, "damaged"),
        ({"detector": None}, "damaged"),
        ({"timeline": [[1]]}, "damaged"),
        ({"last_alarm": [1, 2]}, "damaged"),
        ({"last_alarm": [[1, float("nan"), 0, [], 0, []], 1, 2]}, "damaged"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    state = drifting()[0].state()
    with pytest.raises(ValueError, match=message):
        FleetDetector.from_state(Baseline.uniform(10), {**state, **change})


def test_classes_that_nobody_expects_are_other():
    fleet = FleetDetector(Baseline.uniform(3))
    for tick in range(20):
        fleet.update({"0": 30, "1": 30, "2": 30, "zebra": 10}, 15.0 * tick)
    assert fleet.active
    assert fleet.last_alarm.moved[0].name == "other"


def test_counts_that_make_no_sense_change_nothing():
    fleet = FleetDetector(Baseline.uniform(2))
    before = fleet.state()
    with pytest.raises(ValueError, match="class '0': count -1"):
        fleet.update({"0": -1}, 1.0)
    assert fleet.state() == before
    assert fleet.update({"0": 10**10, "1": 10**10}, 1.0) == ()  # many are no nonsense
    assert fleet.predictions == 2 * 10**10


def test_a_tick_without_predictions_is_a_tick():
    fleet = FleetDetector(Baseline.uniform(2))
    for tick in range(100):
        assert fleet.update({}, float(tick)) == ()
    assert (fleet.predictions, fleet.evidence, fleet.active) == (0, 0, False)


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 8_192, 8_193, 1_000_000])
def test_chunks_hold_all_of_a_tick_and_follow_from_its_size(n):
    rng = np.random.default_rng(n)
    sizes = []
    for shares in (EVEN, LOST):
        counts = rng.multinomial(n, shares)
        chunks = shuffled_chunks(counts, rng)
        assert chunks.sum(axis=0).tolist() == counts.tolist()
        sizes.append(chunks.sum(axis=1).tolist())
    assert sizes[0] == sizes[1]
    assert len(sizes[0]) <= 256
    assert n < 32 or max(sizes[0]) - min(sizes[0]) <= 1
    assert n > 8_192 or max(sizes[0], default=0) <= 32


def test_the_design_effect_of_a_log_counts_from_the_first_tick():
    calm = Variation(4.0, (4.0,) * 4, EVEN.copy(), EVEN.copy(), 512, 40)
    baseline = Baseline.from_counts(np.full(10, 1_000))
    logged = FleetDetector(replace(baseline, variation=calm))
    plain = FleetDetector(baseline)
    assert logged.design_effect == 4
    assert plain.design_effect == 1
    rng = np.random.default_rng(3)
    ticks(logged, rng, EVEN, range(0, 300, 15))
    assert logged.design_effect == 4
    (alarm, *_) = ticks(logged, rng, LOST, range(300, 400, 15))
    assert alarm.prediction - 20 * 500 < 2_500


def test_what_keys_tell_raises_the_design_effect_and_keeps_the_evidence():
    fleet, rng = FleetDetector(Baseline.uniform(10)), np.random.default_rng(5)
    ticks(fleet, rng, EVEN, range(0, 600, 15))
    evidence = fleet.evidence
    fleet.know_design_effect(3.0)
    assert (fleet.evidence, fleet.design_effect) == (evidence, 3.0)


def test_one_chunk_a_tick_is_read_as_a_process_reads_it():
    """Known to be independent, ticks of 32 predictions are the chunks of a stream."""
    reference = exported_reference(Baseline.uniform(10)).with_design_effect(1.0)
    fleet, alone = FleetDetector(reference), SequentialDetector(reference)
    rng = np.random.default_rng(6)
    for tick in range(200):
        counts = rng.multinomial(32, EVEN if tick < 150 else LOST)
        named = {str(k): int(n) for k, n in enumerate(counts)}
        row = np.append(counts, [0, 0])
        assert fleet.update(named, tick) == alone.update_counts(row)
    assert fleet.alarms == alone.alarms > 0
