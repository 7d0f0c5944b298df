"""The design effect of a stream as it goes: dependence is found, and nothing else taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from otel_drift.drift.chunks import CHUNK, chunk_counts
from otel_drift.drift.design_effect import LENGTHS, UNKNOWN, LiveDesignEffect
from otel_drift.drift.dispersion import RecentBlocks, by_chance

EVEN = np.full(10, 0.1)
FIRST_BLOCK = 32
"""Chunks before anything is known."""


def read_with(labels: np.ndarray, live: LiveDesignEffect | None = None) -> np.ndarray:
    return (live or LiveDesignEffect(EVEN)).update(chunk_counts(labels, 10))


def test_independent_predictions_are_read_as_they_are():
    found = [read_with(np.random.default_rng(seed).integers(0, 10, 320_000)) for seed in range(10)]
    after = np.array(found)[:, FIRST_BLOCK:]
    assert (after == 1).mean() > 0.95
    assert after.mean() < 1.05


def test_chance_alone_does_not_make_two_million_independent_predictions_look_dependent():
    rng = np.random.default_rng(1)
    for _ in range(8):
        live = LiveDesignEffect(EVEN)
        for _ in range(125):
            live.update(rng.multinomial(CHUNK, EVEN, size=500).astype(float))
            assert not live.beyond


@pytest.mark.parametrize("blocks", [1, 5, 6, 15])
@pytest.mark.parametrize("freedom", [7, 63])
def test_the_median_of_independent_blocks_exceeds_its_limit_as_rarely_as_it_says(blocks, freedom):
    rng = np.random.default_rng(10)
    medians = np.median(rng.chisquare(freedom, (200_000, blocks)), axis=1) / freedom
    exceeded = (medians > by_chance(blocks, freedom, 0.001)).mean()
    # Of an even number of blocks it is a limit; the quantile itself is right to a tenth.
    assert exceeded < 0.0013
    assert exceeded > (0.0007 if blocks % 2 else 0)


@pytest.mark.parametrize(("call", "shift"), [(32, 0), (32, 16), (8, 0), (100, 7)])
def test_rows_of_a_call_that_are_alike_are_one(call, shift):
    rng = np.random.default_rng(1)
    live = LiveDesignEffect(EVEN)
    labels = np.repeat(rng.integers(0, 10, 640_000 // call), call)[shift:]
    read_with(labels[: len(labels) // CHUNK * CHUNK], live)
    assert live.measured == pytest.approx(call, rel=0.25)
    assert live.beyond


def test_one_class_that_comes_in_runs_is_found_among_many():
    rng = np.random.default_rng(2)
    runs = rng.integers(0, 10, 60_000)
    labels = np.repeat(runs, np.where(runs == 9, 16, 1))
    live = LiveDesignEffect(EVEN)
    read_with(labels[: len(labels) // CHUNK * CHUNK], live)
    # Of class 9 alone: a run of 16 in 25 predictions, 36 % of the others.
    assert live.measured == pytest.approx(6.4, rel=0.3)


@pytest.mark.parametrize("lost", [50_000, 300, 5_000])
def test_a_change_of_shares_is_no_dependence(lost):
    rng = np.random.default_rng(3)
    labels = np.concatenate([rng.integers(0, 10, lost), rng.integers(0, 9, 102_400)])
    found = read_with(labels[: len(labels) // CHUNK * CHUNK])
    assert (found[FIRST_BLOCK:] == 1).mean() > 0.8
    assert found[-1] == 1


def test_a_stream_of_one_class_shows_nothing():
    assert (read_with(np.full(64_000, 3))[FIRST_BLOCK:] == 1).all()


def test_without_a_log_the_first_block_is_read_as_if_all_rows_were_alike():
    labels = np.random.default_rng(4).integers(0, 10, 3_200)
    assert (read_with(labels)[:FIRST_BLOCK] == UNKNOWN).all()
    assert (read_with(labels, LiveDesignEffect(EVEN, (1.0,) * LENGTHS)) == 1).all()


def test_a_log_tells_what_to_expect_and_more_is_believed_only_where_clear():
    alike = np.repeat(np.random.default_rng(5).integers(0, 10, 20_000), 8)
    as_logged = LiveDesignEffect(EVEN, (8.0,) * LENGTHS, least=8.0)
    assert (read_with(alike, as_logged) == 8).all()
    assert not as_logged.beyond
    more = LiveDesignEffect(EVEN, (1.5,) * LENGTHS, least=1.5)
    assert read_with(alike, more)[-1] > 8
    assert more.beyond
    too_short_a_log = LiveDesignEffect(EVEN, (), least=1.5)
    assert (read_with(alike, too_short_a_log) == 1.5).all()


def test_a_chunk_is_read_with_what_came_before_it_only_however_the_stream_is_cut():
    rng = np.random.default_rng(6)
    counts = chunk_counts(np.repeat(rng.integers(0, 10, 8_000), 12), 10)
    whole = LiveDesignEffect(EVEN).update(counts)
    changed = counts.copy()
    changed[2_000:] = np.roll(changed[2_000:], 1, axis=1)[::-1]
    assert (LiveDesignEffect(EVEN).update(changed)[:2_001] == whole[:2_001]).all()
    live = LiveDesignEffect(EVEN)
    cuts = np.sort(rng.integers(0, len(counts), 40))
    assert (np.concatenate([live.update(one) for one in np.split(counts, cuts)]) == whole).all()


def test_the_rarest_of_many_classes_are_one():
    rng = np.random.default_rng(7)
    live = LiveDesignEffect(np.full(500, 1 / 500))
    labels = np.repeat(rng.integers(0, 500, 40_000), 8)
    live.update(chunk_counts(labels, 500))
    assert live.measured > 3


@pytest.mark.filterwarnings("error")
def test_stretches_that_are_all_the_same_leave_the_direction_a_direction():
    """The same batch again and again, as a health check sends it: what varies is rounding."""
    recent = RecentBlocks(parts=1, cells=8)
    same = np.tile([1.0, 0.0, 3.0, 7.0, 3.0, 7.0, 2.0, 2.0], (800, 1))
    found = recent.update(same, np.arange(800))
    assert (found.design_effects == 1).all()
    direction = recent.arrays()["direction"]
    assert np.linalg.norm(direction) == pytest.approx(1, rel=1e-6)
    # What comes afterwards is seen along it.
    halves = np.where(
        np.arange(800)[:, None] % 2, np.repeat([6.0, 0.0], 4), np.repeat([0.0, 6.0], 4)
    )
    assert recent.update(halves, np.arange(800)).design_effects[-1] > 3
