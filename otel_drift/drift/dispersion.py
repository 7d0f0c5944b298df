"""How much class counts vary from stretch to stretch, over what independent predictions would.

Stretches are compared with their neighbours, eight in a block, so that a slow change of the shares
does not look like dependence. Each block gives a ratio; the median of the newest blocks counts, so
that a sudden one does not either.

>>> import numpy as np
>>> rng = np.random.default_rng(1)
>>> recent = RecentBlocks(parts=1, cells=4)
>>> alike = 16 * rng.multinomial(8, np.full(4, 0.25), size=160)  # 16 rows count as one
>>> found = recent.update(alike.astype(float), np.arange(160))
>>> len(found.design_effects), round(found.design_effects[-1])
(20, 14)
"""

from __future__ import annotations

import copy
import functools
import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEIGHBOURS = 8
"""Stretches in a block: each is compared with the block's mean."""
REMEMBERED = 15
"""Newest blocks, of whose measurements the median counts."""
CELLS = 20
"""Classes that are looked at, the rarest as one."""

MEDIAN_SPREAD = math.pi / 2
"""Variance of the median of many over that of their mean."""
BY_CHANCE, ONE_CLASS_BY_CHANCE = 1e-6, 1e-8
"""Probability that independent predictions look dependent in a median: of all classes, of one."""
BLOCKS_OF_ONE_CLASS = 5
"""Blocks before a single class is looked at."""
OF_BLOCK = 3
"""Columns of `block_ratios` before those of single directions."""
TURNED_BY, POWER_STEPS = 8, 20
"""Blocks that turn the direction that is looked along; how often those of a log turn it."""
NO_DIRECTION = 1e-9
"""Length up to which a direction is nothing but rounding: all stretches have the same counts."""
LITTLE_FREEDOM = 0.5
"""Degrees of freedom below which a block says nothing of a direction."""


class Found(NamedTuple):
    """What whole blocks of stretches have shown."""

    blocks: Floats
    """Class counts of their stretches, shape (blocks, 8, cells)."""
    ends: NDArray[np.int64]
    """The place of the last part of each, shape (blocks,)."""
    design_effects: Floats
    """What is clearly above 1 after each block; else 1."""
    possible: Floats
    """What it might be without being clear, while blocks are few; else the same."""
    lengths: Floats
    """Predictions that a stretch had, in the median of the same blocks."""


class RecentBlocks:
    """Blocks of stretches of one kind, as a stream brings them.

    Parameters
    ----------
    parts
        Parts that a stretch is made of.
    cells
        Classes that are looked at.
    """

    def __init__(self, parts: int, cells: int) -> None:
        self._parts = parts
        # Parts of a block that is not complete, and what the newest blocks showed.
        self._waiting = np.zeros((NEIGHBOURS * parts - 1, cells), np.float32)
        self._ratios = np.zeros((REMEMBERED - 1, OF_BLOCK + cells + 1), np.float32)
        # Parts that wait, blocks that are remembered, blocks since the direction was turned.
        self._numbers = np.zeros(3, np.int64)
        self._direction = first_direction(cells).astype(np.float32)
        self._turning = np.zeros(cells, np.float32)

    def __copy__(self) -> RecentBlocks:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def blocks(self) -> int:
        """Number of blocks that are remembered."""
        return int(self._numbers[1])

    @property
    def waiting(self) -> Floats:
        """Parts of the block that is not complete, shape (n, cells)."""
        return self._waiting[: self._numbers[0]].astype(np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        return {
            "waiting": self._waiting,
            "ratios": self._ratios,
            "numbers": self._numbers,
            "direction": self._direction,
            "turning": self._turning,
        }

    def wait(self, parts: Floats) -> bool:
        """Take parts, shape (n, cells), if no block becomes complete by them."""
        waiting = int(self._numbers[0])
        if waiting + len(parts) >= NEIGHBOURS * self._parts:
            return False
        self._waiting[waiting : waiting + len(parts)] = parts
        self._numbers[0] += len(parts)
        return True

    def update(self, parts: Floats, places: NDArray[np.int64]) -> Found:
        """Take parts, and give what the blocks show that they complete.

        Parameters
        ----------
        parts
            Class counts, shape (n, cells), none empty.
        places
            Where in the stream each ends, shape (n,); 0 stands for all before.
        """
        waiting = int(self._numbers[0])
        parts = np.concatenate([self._waiting[:waiting].astype(np.float64), parts])
        places = np.concatenate([np.zeros(waiting, np.int64), places])
        size = NEIGHBOURS * self._parts
        whole = len(parts) - len(parts) % size
        self._numbers[0] = left = len(parts) - whole
        self._waiting[:left] = parts[whole:]
        self._waiting[left:] = 0
        blocks = parts[:whole].reshape(-1, NEIGHBOURS, self._parts, parts.shape[1]).sum(axis=2)
        measured = self._measure(blocks) if len(blocks) else np.zeros((3, 0))
        return Found(blocks, places[size - 1 : whole : size], *measured)

    def _measure(self, blocks: Floats) -> Floats:
        """Give the last three fields of `Found`, shape (3, blocks)."""
        before = self.blocks
        # Rounded as what is remembered is, so that it does not matter how a stream is cut.
        new = block_ratios(blocks, self._along(blocks)).astype(np.float32)
        rows = np.concatenate([self._ratios[:before], new]).astype(np.float64)
        self._numbers[1] = after = min(REMEMBERED - 1, len(rows))
        self._ratios[:after] = rows[-after:]
        few = [rows[None, : n + 1] for n in range(before, min(REMEMBERED - 1, len(rows)))]
        if len(rows) >= REMEMBERED:
            windows = np.lib.stride_tricks.sliding_window_view(rows, REMEMBERED, axis=0)
            few.append(windows.swapaxes(1, 2))
        return np.concatenate([shown_by(one) for one in few], axis=1)

    def _along(self, blocks: Floats) -> Floats:
        """Design effect of blocks along a direction that was learnt from the blocks before.

        Rows of a call may all be of some group of classes, and of any class of that. Along each
        class alone that is little; along the group it is everything. Power iteration, by each
        eight blocks a step, finds the direction with the largest variance.
        """
        ratios: list[Floats] = []
        standardised, start = standardise(blocks), 0
        while start < len(blocks):
            end = start + TURNED_BY - int(self._numbers[2])
            some = Standardised(*(one[start:end] for one in standardised))
            ratio, turned = along(some, self._direction.astype(np.float64))
            ratios.append(ratio)
            # Rounded one by one, so that it does not matter how a stream is cut.
            steps = [self._turning, *turned.astype(np.float32)]
            self._turning[:] = np.add.accumulate(steps, axis=0)[-1]
            self._numbers[2] = (self._numbers[2] + len(turned)) % TURNED_BY
            if not self._numbers[2]:
                length = float(np.linalg.norm(self._turning.astype(np.float64)))
                if length > NO_DIRECTION:
                    self._direction[:] = self._turning / length
                self._turning[:] = 0
            start += len(turned)
        return np.concatenate(ratios)


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


class Standardised(NamedTuple):
    """Blocks, as they are compared along a direction."""

    deviation: Floats
    """Counts less what is expected of them, over the root of that, shape (blocks, stretches, K)."""
    roots: Floats
    """Roots of the shares of the classes, shape (blocks, K)."""
    left: Floats
    """Degrees of freedom in one direction, shape (blocks,)."""


def standardise(blocks: Floats) -> Standardised:
    """Standardise class counts of blocks, shape (blocks, stretches, K)."""
    sizes = blocks.sum(axis=2, keepdims=True)
    n = sizes.sum(axis=1, keepdims=True)
    totals = blocks.sum(axis=1, keepdims=True)
    expected = sizes * (totals / n)
    deviation = (blocks - expected) / np.sqrt(np.maximum(expected, 1e-9))
    left = ((n - sizes) / np.maximum(n - 1, 1)).sum(axis=(1, 2))
    return Standardised(deviation, np.sqrt(totals[:, 0] / n[:, :, 0]), left)


def along(blocks: Standardised, direction: Floats) -> tuple[Floats, Floats]:
    """Compare the stretches of each block along one direction.

    Parameters
    ----------
    direction
        Of length 1, in classes standardised by the root of what is expected of each; shape (K,).

    Returns
    -------
    ratios, turned
        Variance along the direction over that of independent predictions, shape (blocks,), 1 where
        the block says nothing of it; and the direction multiplied by the covariance, (blocks, K).
    """
    projected = blocks.deviation @ direction
    free = (1 - (blocks.roots @ direction) ** 2) * blocks.left
    ratios = np.ones(len(free))
    np.divide((projected**2).sum(axis=1), free, out=ratios, where=free > LITTLE_FREEDOM)
    return ratios, np.einsum("bs,bsk->bk", projected, blocks.deviation)


def first_direction(k: int) -> Floats:
    """Give a direction that no group of classes is likely to be at right angles to."""
    direction = np.random.default_rng(0).normal(size=k)
    return direction / np.linalg.norm(direction)


def largest_directions(blocks: Floats) -> Floats:
    """Design effect of each block along the direction of the largest variance of the others.

    Those with even numbers show where to look in the odd ones, and the other way: the largest
    eigenvalue of what it was found in would be large by chance.

    Returns
    -------
    shape (blocks,)
    """
    ratios = np.ones(len(blocks))
    if len(blocks) < 2 * BLOCKS_OF_ONE_CLASS:
        return ratios
    for shown, looked_at in ((0, 1), (1, 0)):
        showing = standardise(blocks[shown::2])
        direction = first_direction(blocks.shape[2])
        for _ in range(POWER_STEPS):
            turned = along(showing, direction)[1].sum(axis=0)
            direction = turned / max(float(np.linalg.norm(turned)), 1e-300)
        ratios[looked_at::2] = along(standardise(blocks[looked_at::2]), direction)[0]
    return ratios


def block_ratios(blocks: Floats, directed: Floats | None = None) -> Floats:
    """Give the design effect that each block shows by itself.

    Parameters
    ----------
    blocks
        Class counts, shape (blocks, stretches, K).
    directed
        What it is along a direction that others have shown, shape (blocks,); by default as of
        `largest_directions`.

    Returns
    -------
    Shape (blocks, 4 + K): of all classes together, the degrees of freedom of that, the length of
    a stretch (the mean, by its part in the design effect), the design effect of each class (1
    where the block does not hold it), and that along the direction.
    """
    seen, expected = dispersion(blocks)
    total = expected.sum(axis=1)
    rows = np.ones((len(blocks), OF_BLOCK + seen.shape[1] + 1))
    np.divide(seen.sum(axis=1), total, out=rows[:, 0], where=total > 0)
    rows[:, 1] = np.maximum(total, 1.0)
    sizes = blocks.sum(axis=2)
    others = sizes.sum(axis=1, keepdims=True) - sizes
    rows[:, 2] = (others * sizes).sum(axis=1) / others.sum(axis=1)
    # A class that is seen less than once a stretch is too rare for a ratio of its own.
    common = blocks.sum(axis=1) >= blocks.shape[1]
    np.divide(seen, expected, out=rows[:, OF_BLOCK:-1], where=common & (expected > 0))
    rows[:, -1] = largest_directions(blocks) if directed is None else directed
    return rows


def clear(rows: Floats) -> Floats:
    """Give what is clearly above 1 in the median of blocks: of all classes, or in one direction.

    The median, because a block in which the shares change is no sign of dependence.

    Parameters
    ----------
    rows
        `block_ratios` of blocks that follow each other, shape (..., blocks, 4 + K).
    """
    return _clear_of(rows.shape[-2], _median(rows))


def _median(rows: Floats) -> Floats:
    """Median over the blocks; `np.median` takes longer, as it looks for NaN."""
    blocks = rows.shape[-2]
    if blocks % 2:
        return np.partition(rows, blocks // 2, axis=-2)[..., blocks // 2, :]
    return np.median(rows, axis=-2)


def _clear_of(blocks: int, middle: Floats) -> Floats:
    together, freedom = middle[..., 0], middle[..., 1]
    of_all = together > by_chance(blocks, freedom, BY_CHANCE)
    found = np.where(of_all, together / chi_square_median(freedom), 1.0)
    if blocks < BLOCKS_OF_ONE_CLASS:
        return found
    single, freedom = middle[..., OF_BLOCK:].max(axis=-1), float(NEIGHBOURS - 1)
    beyond = found * by_chance(blocks, freedom, ONE_CLASS_BY_CHANCE)
    return np.where(single > beyond, single / chi_square_median(freedom), found)


def shown_by(rows: Floats) -> Floats:
    """Give what blocks show: the last three fields of `Found`, shape (3, ...).

    Parameters
    ----------
    rows
        As of `clear`.
    """
    blocks, middle = rows.shape[-2], _median(rows)
    possible = found = _clear_of(blocks, middle)
    if blocks < REMEMBERED:
        possible = np.where(found > 1, found, by_chance(blocks, middle[..., 1], BY_CHANCE))
    return np.array([found, possible, middle[..., 2]])


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


def cells_of(base: Floats) -> tuple[int, NDArray[np.intp]]:
    """Give the number of cells, and the cell of each class: the rarest share one.

    >>> cells_of(np.array([0.5, 0.3, 0.2]))[1].tolist()
    [0, 1, 2]
    """
    k = len(base)
    cells = min(CELLS, k)
    if k <= CELLS:
        return cells, np.arange(k)
    cell_of = np.full(k, CELLS - 1)
    cell_of[np.argsort(-base, kind="stable")[: CELLS - 1]] = np.arange(CELLS - 1)
    return cells, cell_of


def in_cells(counts: Floats, order: NDArray[np.intp] | None) -> Floats:
    """Put the rarest classes together where there are more than `CELLS`: shape (T, cells)."""
    if order is None:
        return counts
    common, rare = order[: CELLS - 1], order[CELLS - 1 :]
    return np.column_stack([counts[:, common], counts[:, rare].sum(axis=1)])
