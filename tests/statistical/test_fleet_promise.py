"""The promise of the fleet's detector, by simulation: ticks of the clock, many replicas, an order
that is drawn.

As in `test_sequential_promise`, the one-sided 99.9 % confidence limit of what was measured must
keep the promise. The traffic varies from tick to tick, and the shares wander inside the band with
the hours: the world of the proof.
"""

from __future__ import annotations

import numpy as np
import pytest

from otel_drift import Baseline, FleetDetector
from otel_drift.fleet.reference import ExportedReference, exported_reference
from tests.statistical.test_sequential_promise import LENGTH, TRUTHS, assert_promise, vertex

pytestmark = pytest.mark.slow


def known_independent(p: np.ndarray) -> ExportedReference:
    """A baseline whose log has told that predictions are independent: all count from the first."""
    return exported_reference(Baseline.from_proportions(p)).with_design_effect(1.0)


def simulate(seed, runs, average_run_length, reference, corners, per_tick):
    """Alarms of each run, and its first; each tick's shares lie between corners of the band."""
    length = LENGTH * average_run_length
    alarms, first = np.zeros(runs), np.zeros(runs)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        fleet = FleetDetector(reference, average_run_length)
        found, tick = [], 0
        while fleet.predictions < length:
            # Rush hours, and replicas of which one now and then is late by a tick.
            n = rng.poisson(per_tick * (1 + 0.9 * np.sin(tick / 20)) * rng.choice([0.9, 1.1]))
            shares = corners[tick // 7 % len(corners)]
            counts = rng.multinomial(n, shares)
            found += fleet.update(dict(zip(reference.classes, counts.tolist(), strict=False)), tick)
            tick += 1
        alarms[run] = len(found) * length / fleet.predictions
        first[run] = min(found[0].prediction, length) if found else length
    return alarms, first


@pytest.mark.parametrize("per_tick", [40, 1_000])
@pytest.mark.parametrize("truth", ["2 even", "10 even", "0.99/0.01"])
def test_with_shares_that_wander_along_the_edges_of_the_band(truth, per_tick):
    p = TRUTHS[truth]
    k = len(p)
    corners = [vertex(p, np.arange(k), 0.2), vertex(p, np.arange(k)[::-1], 0.2)]
    runs = 30
    assert_promise(*simulate(1, runs, 1_000, known_independent(p), corners, per_tick), 1_000)


@pytest.mark.parametrize("truth", ["2 even", "10 even", "100 Zipf"])
def test_at_one_corner_of_the_band(truth):
    p = TRUTHS[truth]
    corner = [vertex(p, np.arange(len(p)), 0.2)]
    assert_promise(*simulate(2, 20, 10_000, known_independent(p), corner, 500), 10_000)


def test_the_simulation_notices_a_broken_promise():
    p = TRUTHS["10 even"]
    beyond = [vertex(p, np.arange(10), 0.3)]
    found = simulate(3, 12, 10_000, known_independent(p), beyond, 300)
    with pytest.raises(AssertionError):
        assert_promise(*found, 10_000)


@pytest.mark.parametrize("per_tick", [10, 1_000])
def test_calls_whose_rows_are_alike_raise_no_alarm(per_tick):
    """Nobody has told that rows of a call are alike: the ticks show it."""
    rng = np.random.default_rng(4)
    fleet = FleetDetector(Baseline.uniform(10))
    naive = FleetDetector(known_independent(np.full(10, 0.1)))
    quiet = 0
    for tick in range(300):
        counts = 16 * np.bincount(rng.integers(0, 10, rng.poisson(per_tick)), minlength=10)
        named = dict(enumerate(counts.tolist()))
        told = {str(k): count for k, count in named.items()}
        quiet += not fleet.update(told, 15.0 * tick)
        naive.update(told, 15.0 * tick)
    assert quiet == 300
    assert fleet.design_effect == pytest.approx(16, rel=0.3)
    assert naive.alarms
