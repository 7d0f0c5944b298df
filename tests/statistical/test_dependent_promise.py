"""The promise where predictions come in units, by simulation.

Within a unit of at most m predictions anything may depend on anything; units are independent of
each other, and a chunk ends where units end. Read with a design effect of m that is known before,
there are at most t/A false alarms in t predictions on average: by Hoelder (docs/detector.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift.sequential import SequentialDetector
from otel_drift.drift.variation import Variation
from tests.statistical.test_sequential_promise import LENGTH, TRUTHS, assert_promise, stream, vertex

pytestmark = pytest.mark.slow


def known_to_be(design_effect: float, p: np.ndarray) -> Baseline:
    variation = Variation(design_effect, (design_effect,) * 4, p, p, 512, 40)
    return replace(Baseline.from_proportions(p), variation=variation)


def simulate(seed, runs, average_run_length, p, baseline, unit, correlation):
    """As for independent predictions, in units of one size with this intra-class correlation."""
    length = int(LENGTH * average_run_length)
    alarms, first = np.zeros(runs), np.zeros(runs)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        alike = rng.random(length) < np.sqrt(correlation)
        of_unit = np.repeat(stream(rng, p, length // unit + 1), unit)[:length]
        labels = np.where(alike, of_unit, stream(rng, p, length))
        found = SequentialDetector(baseline, average_run_length).update(labels)
        alarms[run], first[run] = len(found), found[0].prediction if found else length
    return alarms, first


@pytest.mark.parametrize("correlation", [0.3, 1.0])
@pytest.mark.parametrize("unit", [4, 32])
@pytest.mark.parametrize("truth", ["2 even", "0.99/0.01", "10 even"])
def test_at_the_baseline_and_at_the_edge_of_the_band(truth, unit, correlation):
    p = TRUTHS[truth]
    baseline = known_to_be(unit, p)
    for seed, q in enumerate((p, vertex(p, np.arange(len(p)), 0.2))):
        found = simulate(20 + seed, 100, 5_000, q, baseline, unit, correlation)
        assert_promise(*found, 5_000)


@pytest.mark.parametrize("truth", ["2 even", "10 even"])
def test_calls_whose_rows_are_all_alike_keep_it_without_a_log(truth):
    """Calls of different lengths: each is read as one row, from the first.

    Not so where a class is in few calls (0.99/0.01): most calls do not tell that they are alike.
    """
    p, average_run_length, runs = TRUTHS[truth], 5_000, 100
    length = int(LENGTH * average_run_length)
    for seed, q in enumerate((p, vertex(p, np.arange(len(p)), 0.2))):
        alarms, first = np.zeros(runs), np.zeros(runs)
        for run in range(runs):
            rng = np.random.default_rng([30 + seed, run])
            lengths = rng.choice([1, 4, 32], length // 8)
            lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), length))]
            labels = np.repeat(stream(rng, q, len(lengths)), lengths)
            detector = SequentialDetector(
                Baseline.from_proportions(p), average_run_length, calls=True
            )
            found = detector.update(labels, lengths)
            alarms[run], first[run] = len(found), found[0].prediction if found else len(labels)
        assert_promise(alarms, first, average_run_length)


def test_a_smaller_design_effect_does_not_keep_it():
    """Half the size of the units is too little: the simulation can tell."""
    p = TRUTHS["10 even"]
    alarms, _ = simulate(22, 20, 5_000, p, known_to_be(4, p), 32, 1.0)
    assert alarms.mean() > LENGTH


def test_a_change_is_still_found():
    p = TRUTHS["10 even"]
    lost = np.append(np.full(9, 1 / 9), 0.0)
    _, first = simulate(23, 10, 10_000, lost, known_to_be(4, p), 4, 1.0)
    assert first.max() < 3_000
