"""What chunks of predictions bring bets: ``sum_k c_k log(q_k / p*_k)``.

With few classes that is a matrix product. With many a chunk holds few of them: then most bets on
one class are brought the same by every chunk of a size, and the others are worked out one by one.

>>> from otel_drift.drift.bets import fixed_bets
>>> from otel_drift.drift.block import block_of_counts
>>> base = np.full(40, 1 / 40)
>>> bets = fixed_bets(base, base * 0.8, base * 1.2)
>>> counts = np.zeros((1, 40))
>>> counts[0, :2] = 16
>>> brought = np.empty((1, bets.size))
>>> bringing(bets).write(block_of_counts(counts), lambda logs, _: logs, brought)
>>> brought[0, :3].round(2).tolist()  # that class 0, 1 or 2 is lost
[-58.71, -58.71, 0.63]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.bets import FixedBets
from otel_drift.drift.block import FEW_CLASSES, Block, table_of

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Change = Callable[[Floats, Any], NDArray[Any]]
"""Of logarithms, and of the chunks that they are of."""

AT_ONCE = 2**14
"""Logarithms worked out at once: few enough for a cache."""


def bringing(fixed: FixedBets, bets: Indices | None = None) -> OfAllClasses | OfClassesSeen:
    """Choose the quicker one, for all bets or some.

    Parameters
    ----------
    bets
        Which: first those on one class, as many for each class, class after class and again.
    """
    bets = np.arange(fixed.size) if bets is None else bets
    few = fixed.classes <= FEW_CLASSES
    return OfAllClasses(fixed, bets) if few else OfClassesSeen(fixed, bets)


class OfAllClasses:
    """Few classes, of which a chunk holds nearly all."""

    def __init__(self, fixed: FixedBets, bets: Indices) -> None:
        self._log_ratios = fixed.log_ratios(np.arange(fixed.classes), bets)

    def write(self, block: Block, change: Change, out: NDArray[Any]) -> None:
        """Write what each chunk brings each bet, changed somehow: shape (T, bets)."""
        counts = table_of(block)
        dependent = block.effect.max() > 1
        step = max(1, AT_ONCE // len(self._log_ratios[0]))
        for start in range(0, len(counts), step):
            rows = slice(start, start + step)
            logs = counts[rows] @ self._log_ratios
            if dependent:
                logs /= block.effect[rows, None]
            out[rows] = change(logs, rows)


class OfClassesSeen:
    """Many classes, of which a chunk holds few."""

    def __init__(self, fixed: FixedBets, bets: Indices) -> None:
        single = fixed.first[bets] == fixed.second[bets]
        self._log_rest = fixed.log_rest[bets]
        # Bets on one class: where they stand, and what a count of it adds.
        self._columns = np.flatnonzero(single).reshape(-1, fixed.classes).T.copy()
        self._gains = fixed.gain_first[bets][self._columns]
        self._rests = self._log_rest[self._columns]
        self._pairs = slice(int(single.sum()), None)
        # Classes that are in no pair share a row of zeros.
        self._paired = np.full(fixed.classes, len(fixed.paired))
        self._paired[fixed.paired] = np.arange(len(fixed.paired))
        gains = fixed.pair_gains[:, bets[self._pairs] - fixed.singles]
        self._pair_gains = np.vstack([gains, np.zeros((1, gains.shape[1]))])
        self._edged = np.flatnonzero(np.isin(bets, fixed.edged))
        self._edged_bets, self._fixed = bets[self._edged], fixed

    def write(self, block: Block, change: Change, out: NDArray[Any]) -> None:
        """Write what each chunk brings each bet, changed somehow: shape (T, bets)."""
        rows, classes, worth = block.rows, block.classes, block.worth[:, None]
        effect = block.effect[:, None]
        # As if no class that a bet is on were seen.
        if block.even:
            out[:] = change(worth[:1] * self._log_rest / effect[:1], slice(1))
        else:
            out[:] = change(worth * self._log_rest / effect, slice(None))
        # Bets on a class that is.
        seen = block.number[:, None] * self._gains[classes]
        seen += worth[rows] * self._rests[classes]
        out[rows[:, None], self._columns[classes]] = change(seen / effect[rows], rows)
        pairs = block.counts(self._paired, len(self._pair_gains)) @ self._pair_gains
        pairs += worth * self._log_rest[self._pairs]
        out[:, self._pairs] = change(pairs / effect, slice(None))
        if len(self._edged):
            some, column = np.unique(classes, return_inverse=True)
            counts = np.zeros((len(worth), len(some)))
            counts[rows, column] = block.number
            edged = counts @ self._fixed.log_ratios(some, self._edged_bets)
            out[:, self._edged] = change(edged / effect, slice(None))
