"""How much predictions depend on each other: the design effect.

It is the variance of class counts over what independent predictions would have. Rows of one call,
frames of one video or the clicks of one visitor are alike, so that n of them say as much about the
shares as n / (design effect) independent ones.

>>> import numpy as np
>>> from otel_drift.drift.chunks import chunk_counts
>>> rng = np.random.default_rng(1)
>>> alike = np.repeat(rng.integers(0, 4, 400), 32)  # calls of 32 rows, each call of one class
>>> live = LiveDesignEffect(np.full(4, 0.25))
>>> read_with = live.update(chunk_counts(alike, 4))
>>> round(live.measured)
31

It is measured in stretches of several lengths, each compared with seven neighbours, so that a slow
change of the shares does not look like dependence. What is not clearly above 1 counts as 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import CHUNK

Floats = NDArray[np.float64]

NEIGHBOURS = 8
"""Stretches in a block: each is compared with the block's mean."""
PARTS = 4
"""Parts of a stretch: chunks of the shortest, else stretches of the next shorter length."""
LENGTHS = 4
"""Lengths of stretches: 4, 16, 64 and 256 chunks."""
REMEMBERED = 15
"""Newest blocks, of whose measurements the median counts."""
CELLS = 24
"""Classes that are looked at, the rarest as one."""

MEDIAN_SPREAD = math.pi / 2
"""Variance of the median of many over that of their mean."""
BY_CHANCE, ONE_CLASS_BY_CHANCE = 1e-6, 1e-8
"""Probability that independent predictions look dependent in a median: of all classes, of one."""
BLOCKS_OF_ITS_OWN = 5
"""Blocks before a length is believed that shorter ones do not bear out."""
BLOCKS_OF_ONE_CLASS = 5
"""Blocks before a single class is looked at."""

UNKNOWN = float(CHUNK)
"""Assumed before the first block where no log has told: all rows of a chunk are alike."""
SAFE = 1.25
"""Times the measured design effect is what chunks are read with: units may differ in size."""
BEYOND = 1.5
"""Times the log's design effect from which on the live one is believed instead."""


class LiveDesignEffect:
    """Measure the design effect of a stream as it goes.

    Parameters
    ----------
    base
        Shares that are expected, shape (K,): the commonest classes are looked at.
    of_log
        Design effects that a log had, of each length of stretches that it was long enough for;
        None where there was no log.
    least
        Design effect that chunks are read with at the least.
    """

    def __init__(
        self, base: Floats, of_log: Sequence[float] | None = None, least: float = 1.0
    ) -> None:
        cells = min(CELLS, len(base))
        self._order = None if cells == len(base) else np.argsort(-base, kind="stable")
        self._least = least
        self._before = 1.0 if of_log is not None else UNKNOWN
        self._expected = np.ones(LENGTHS)
        if of_log is not None:
            self._expected[:] = math.inf
            self._expected[: len(of_log)] = BEYOND * np.array(of_log)
        self._values = np.ones(LENGTHS)
        # Of each length: parts of a block that is not complete, and how many there are.
        self._waiting = np.zeros((LENGTHS, NEIGHBOURS * PARTS - 1, cells), np.float32)
        self._waiting_parts = np.zeros(LENGTHS, np.int64)
        # What the newest blocks of each length showed, and how many there are.
        self._ratios = np.zeros((LENGTHS, REMEMBERED - 1, 2 + cells), np.float32)
        self._blocks = np.zeros(LENGTHS, np.int64)

    @property
    def measured(self) -> float:
        """The design effect as it is now: what the log had, or more if that is clear.

        Without a log it is 1 where there is no clear dependence.
        """
        found = np.where(self._values > self._expected, self._values, 1.0)
        return max(self._least, float(found.max()))

    @property
    def beyond(self) -> bool:
        """Whether it is far larger than the log's, or than 1 where there was no log."""
        return self.measured > BEYOND * self._least

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        return {
            "waiting": self._waiting,
            "waiting_parts": self._waiting_parts,
            "ratios": self._ratios,
            "blocks": self._blocks,
            "values": self._values,
        }

    def update(self, counts: Floats) -> Floats:
        """Take chunks, and give the design effect that each is to be read with.

        Parameters
        ----------
        counts
            Class counts of chunks, shape (T, K), none empty.

        Returns
        -------
        shape (T,), at least 1. That of a chunk follows from the chunks before it alone.
        """
        chunks, waiting = len(counts), int(self._waiting_parts[0])
        if waiting + chunks < NEIGHBOURS * PARTS:  # no block is complete: nothing new
            self._waiting[0, waiting : waiting + chunks] = in_cells(counts, self._order)
            self._waiting_parts[0] += chunks
            return np.full(chunks, self._now())
        values = np.tile(self._values, (chunks + 1, 1))
        started = 0 if self._blocks[0] else chunks + 1
        parts, ends = in_cells(counts, self._order), np.arange(1, chunks + 1)
        for length in range(LENGTHS):
            blocks, ends = self._whole_blocks(length, parts, ends)
            if not len(blocks):
                break
            before = int(self._blocks[length])
            found = self._measure(length, blocks)
            if length == 0:
                started = min(started, int(ends[0]))
            elif few := max(0, BLOCKS_OF_ITS_OWN - 1 - before):
                # In one block of few a drift that begins looks the same; not in shorter stretches.
                found[:few][values[ends[:few], length - 1] == 1] = 1.0
            values[ends[0] :, length] = np.repeat(found, np.diff(ends, append=chunks + 1))
            parts = blocks.reshape(-1, blocks.shape[2])
            ends = np.repeat(ends, NEIGHBOURS)
        self._values[:] = values[-1]
        largest = np.where(values > self._expected, SAFE * values, 1.0).max(axis=1)
        largest[:started] = self._before
        return np.maximum(largest, self._least)[:-1]

    def _now(self) -> float:
        """Give the design effect that the next chunk is read with."""
        if not self._blocks[0]:
            return max(self._before, self._least)
        larger = self._values > self._expected
        return max(self._least, SAFE * float(self._values[larger].max(initial=1.0 / SAFE)))

    def _whole_blocks(
        self, length: int, parts: Floats, ends: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Add parts to those that wait; give whole blocks, and the chunk after each."""
        waiting = int(self._waiting_parts[length])
        parts = np.concatenate([self._waiting[length, :waiting].astype(np.float64), parts])
        ends = np.concatenate([np.zeros(waiting, np.int64), ends])
        size = NEIGHBOURS * PARTS
        whole = len(parts) - len(parts) % size
        self._waiting_parts[length] = left = len(parts) - whole
        self._waiting[length, :left] = parts[whole:]
        self._waiting[length, left:] = 0
        blocks = parts[:whole].reshape(-1, NEIGHBOURS, PARTS, parts.shape[1]).sum(axis=2)
        return blocks, ends[size - 1 : whole : size]

    def _measure(self, length: int, blocks: Floats) -> Floats:
        """Take whole blocks of stretches of one length; give the design effect after each."""
        before = int(self._blocks[length])
        # Rounded as what is remembered is, so that it does not matter how a stream is cut.
        new = block_ratios(blocks).astype(np.float32)
        rows = np.concatenate([self._ratios[length, :before], new]).astype(np.float64)
        self._blocks[length] = after = min(REMEMBERED - 1, len(rows))
        self._ratios[length, :after] = rows[-after:]
        few = [clear(rows[None, : n + 1]) for n in range(before, min(REMEMBERED - 1, len(rows)))]
        if len(rows) < REMEMBERED:
            return np.concatenate(few)
        windows = np.lib.stride_tricks.sliding_window_view(rows, REMEMBERED, axis=0)
        return np.concatenate([*few, clear(windows.swapaxes(1, 2))])


def dispersion(blocks: Floats) -> tuple[Floats, Floats]:
    """Compare the stretches of each block with the block's mean.

    Parameters
    ----------
    blocks
        Class counts, shape (blocks, stretches, K).

    Returns
    -------
    seen, expected
        Each of shape (blocks, K): the terms of Pearson's statistic, and their means if the
        predictions of a block stood in random order (multivariate hypergeometric).
    """
    sizes = blocks.sum(axis=2)
    totals = blocks.sum(axis=1)
    n = totals.sum(axis=1, keepdims=True)
    shares = totals / n
    squares = np.einsum("bsk,bsk,bs->bk", blocks, blocks, 1 / sizes)
    seen = np.where(totals > 0, squares / np.where(totals > 0, shares, 1.0) - totals, 0.0)
    left = ((n - sizes) / np.maximum(n - 1, 1)).sum(axis=1, keepdims=True)
    return seen, np.where(totals > 0, (1 - shares) * left, 0.0)


def block_ratios(blocks: Floats) -> Floats:
    """Give the design effect that each block shows by itself.

    Returns
    -------
    Shape (blocks, 2 + K): of all classes together, the degrees of freedom of that, and of each
    class (1 where the block does not hold it).
    """
    seen, expected = dispersion(blocks)
    total = expected.sum(axis=1)
    rows = np.ones((len(blocks), 2 + seen.shape[1]))
    np.divide(seen.sum(axis=1), total, out=rows[:, 0], where=total > 0)
    rows[:, 1] = np.maximum(total, 1.0)
    # A class that is seen less than once a stretch is too rare for a ratio of its own.
    common = blocks.sum(axis=1) >= blocks.shape[1]
    np.divide(seen, expected, out=rows[:, 2:], where=common & (expected > 0))
    return rows


def clear(rows: Floats) -> Floats:
    """Give what is clearly above 1 in the median of blocks: of all classes, or of a single one.

    The median, because a block in which the shares change is no sign of dependence.

    Parameters
    ----------
    rows
        `block_ratios` of blocks that follow each other, shape (..., blocks, 2 + K).
    """
    blocks = rows.shape[-2]
    if blocks % 2:
        middle = np.partition(rows, blocks // 2, axis=-2)[..., blocks // 2, :]
    else:
        middle = np.median(rows, axis=-2)
    together, freedom = middle[..., 0], middle[..., 1]
    of_all = together > by_chance(blocks, freedom, BY_CHANCE)
    found = np.where(of_all, together / chi_square_median(freedom), 1.0)
    if blocks < BLOCKS_OF_ONE_CLASS:
        return found
    single, freedom = middle[..., 2:].max(axis=-1), float(NEIGHBOURS - 1)
    beyond = found * by_chance(blocks, freedom, ONE_CLASS_BY_CHANCE)
    return np.where(single > beyond, single / chi_square_median(freedom), found)


def by_chance(blocks: int, freedom: Any, probability: float) -> Any:
    """Give what the median of independent blocks exceeds with a small probability.

    The median of n chi-square variables, over their mean, is beyond x if half of them are. Of an
    even n, whose median lies between two of them, this is an upper limit. The quantile is that of
    Wilson and Hilferty.
    """
    spread = 2 / (9 * freedom)
    return (1 - spread + beyond_median(blocks, probability) * np.sqrt(spread)) ** 3


@functools.cache
def beyond_median(blocks: int, probability: float) -> float:
    """Give the standard normal quantile that half of the blocks exceed with a probability."""
    half = (blocks + 1) // 2
    beyond = np.arange(half, blocks + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, blocks + 1)))])
    ways = log_factorials[-1] - log_factorials[beyond] - log_factorials[blocks - beyond]
    low, high = 0.0, 0.5
    for _ in range(60):
        tail = (low + high) / 2
        terms = ways + beyond * math.log(tail) + (blocks - beyond) * math.log1p(-tail)
        low, high = (tail, high) if np.exp(terms).sum() < probability else (low, tail)
    return -NormalDist().inv_cdf(low)


def relative_spread(rows: Floats) -> float:
    """Give the standard deviation of the median over all classes, relative to it."""
    return math.sqrt(MEDIAN_SPREAD * 2 / len(rows) / float(np.median(rows[:, 1])))


def chi_square_median(freedom: Any) -> Any:
    """Median of a chi-square variable over its mean, as Wilson and Hilferty approximate it."""
    return (1 - 2 / (9 * freedom)) ** 3


def in_cells(counts: Floats, order: NDArray[np.intp] | None) -> Floats:
    """Put the rarest classes together where there are more than `CELLS`: shape (T, cells)."""
    if order is None:
        return counts
    common, rare = order[: CELLS - 1], order[CELLS - 1 :]
    return np.column_stack([counts[:, common], counts[:, rare].sum(axis=1)])
