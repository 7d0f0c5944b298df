"""What chunks of predictions bring bets: ``sum_k c_k log(q_k / p*_k)``.

With few classes that is a matrix product. With many a chunk holds few of them: then most bets on
one class are brought the same by every chunk of a size, and the others are worked out one by one.

>>> from otel_drift.drift.bets import fixed_bets
>>> from otel_drift.drift.block import block_of_counts
>>> from otel_drift.drift.walks import STEPS
>>> base = np.full(40, 1 / 40)
>>> bets = fixed_bets(base, base * 0.8, base * 1.2)
>>> counts = np.zeros((1, 40))
>>> counts[0, :2] = 16
>>> walks = np.arange(5 * 40, bets.size)  # those of two classes
>>> brought, steps = np.empty((1, bets.size), np.float32), np.empty((1, len(walks)), np.int32)
>>> block = block_of_counts(counts)
>>> bringing(bets, walks, ceiling=50).write(block, np.zeros((1, 1)), brought, steps)
>>> np.log(brought[0, :3]).astype(float).round(2).tolist()  # that class 0, 1 or 2 is lost
[-58.71, -58.71, 0.63]
>>> (steps[0, :2] / STEPS).round(2).tolist()  # that 0 and 1 are, or 0 and 2
[-118.04, -58.38]
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.bets import FixedBets
from otel_drift.drift.block import FEW_CLASSES, Block, table_of
from otel_drift.drift.walks import LARGEST, SeenSteps, Steps, rounded, steps_of

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Indices = NDArray[np.intp]

SPARSE_FROM = 16
"""Chunks from which on it is quicker to look at walks only where their class is seen."""
AT_ONCE = 2**14
"""Logarithms worked out at once: few enough for a cache."""


def bringing(fixed: FixedBets, walking: Indices, ceiling: float) -> OfAllClasses | OfClassesSeen:
    """Choose the quicker way.

    Parameters
    ----------
    walking
        Bets whose CUSUM is followed: first those on one class, as many for each class, class after
        class and again.
    ceiling
        Largest logarithm of a growth.
    """
    few = fixed.classes <= FEW_CLASSES
    return (OfAllClasses if few else OfClassesSeen)(fixed, walking, ceiling)


def grown(logs: Floats, ceiling: float, out: Floats32) -> Floats32:
    """Write the growth that logarithms stand for."""
    few = logs.astype(np.float32)  # beside each other in memory, unlike what is written
    np.minimum(few, ceiling, out=few)
    return np.exp(few, out=out)


class OfAllClasses:
    """Few classes, of which a chunk holds nearly all."""

    def __init__(self, fixed: FixedBets, walking: Indices, ceiling: float) -> None:
        self._log_ratios = fixed.log_ratios(np.arange(fixed.classes), np.arange(fixed.size))
        self._ceiling = ceiling
        # Nearly all stand beside each other.
        runs = np.split(walking, np.flatnonzero(np.diff(walking) != 1) + 1)
        ends = itertools.accumulate(len(run) for run in runs)
        self._walking = [
            (slice(run[0], run[-1] + 1), slice(end - len(run), end))
            for run, end in zip(runs, ends, strict=True)
        ]
        self._largest = float(np.abs(self._log_ratios).max(initial=0))

    def write(self, block: Block, taken_off: Floats, growth: Floats32, steps: Steps) -> None:
        """Write what chunks bring the bets.

        Parameters
        ----------
        taken_off
            What is taken off each logarithm before, shape (T, 1).
        growth
            Factor of each bet, shape (T, bets).
        steps
            What is added to each walk, shape (T, walks).
        """
        counts, bets = table_of(block), self._log_ratios.shape[1]
        dependent = block.effect.max() > 1
        small = self._largest * float(block.worth.max()) <= LARGEST
        step = max(1, min(len(counts), AT_ONCE // bets))
        buffer, limited = np.empty((2, step, bets))
        for start in range(0, len(counts), step):
            rows = slice(start, start + step)
            logs = np.matmul(counts[rows], self._log_ratios, out=buffer[: len(counts) - start])
            if dependent:
                logs /= block.effect[rows, None]
            whole = limited[: len(logs)]
            if not small:
                np.clip(logs, -LARGEST, LARGEST, out=whole)
            all_steps = rounded(logs if small else whole, out=whole)
            for bet, walk in self._walking:
                steps[rows, walk] = all_steps[:, bet]
            logs -= taken_off[rows]
            grown(logs, self._ceiling, growth[rows])


class OfClassesSeen:
    """Many classes, of which a chunk holds few."""

    def __init__(self, fixed: FixedBets, walking: Indices, ceiling: float) -> None:
        self._fixed, self._ceiling, self._walking = fixed, ceiling, walking
        # Bets on one class: where they stand, and what a count of it adds.
        self._columns = np.arange(fixed.singles).reshape(-1, fixed.classes).T.copy()
        self._gains = fixed.gain_first[self._columns]
        self._rests = fixed.log_rest[self._columns]
        # Which of these are walked, and where those walks stand.
        on_one = int(np.count_nonzero(walking < fixed.singles))
        self._walks = np.arange(on_one).reshape(-1, fixed.classes).T.copy()
        self._walked = walking[self._walks] // fixed.classes
        # Classes that are in no pair share a row of zeros.
        self._paired = np.full(fixed.classes, len(fixed.paired))
        self._paired[fixed.paired] = np.arange(len(fixed.paired))
        self._pair_gains = np.vstack([fixed.pair_gains, np.zeros((1, fixed.pair_gains.shape[1]))])
        self._pairs, self._pair_walks = slice(fixed.singles, None), slice(on_one, None)
        self._edged_walks = np.flatnonzero(np.isin(walking, fixed.edged))
        self._sparse = not (self._edged_walks < on_one).any()
        self._edged_walking = np.searchsorted(fixed.edged, walking[self._edged_walks])

    def write(
        self, block: Block, taken_off: Floats, growth: Floats32, steps: Steps
    ) -> SeenSteps | None:
        """Write what chunks bring the bets. As of `OfAllClasses`.

        Of many chunks the steps of walks on single classes are not written but returned.
        """
        fixed, rows, classes = self._fixed, block.rows, block.classes
        worth, effect = block.worth[:, None], block.effect[:, None]
        # As if no class that a bet is on were seen.
        alike = slice(1) if block.even else slice(None)
        rest = worth[alike] * fixed.log_rest / effect[alike]
        sparse = self._sparse and block.even and len(block.sizes) >= SPARSE_FROM
        unseen = steps_of(rest[:, self._walking])
        if not sparse:
            steps[:] = unseen
        rest -= taken_off[alike]
        growth[:] = grown(rest, self._ceiling, np.empty(rest.shape, np.float32))
        # Bets on one class that is.
        seen = np.take(self._gains, classes, axis=0)
        seen *= block.number[:, None]
        if block.even:
            seen += np.take(worth[0] * self._rests, classes, axis=0)
        else:
            seen += worth[rows] * self._rests[classes]
        seen /= effect[rows]
        walked = np.take_along_axis(seen, self._walked[classes], axis=1)
        seen_steps = steps_of(walked)
        if not sparse:
            steps[rows[:, None], self._walks[classes]] = seen_steps
        seen -= taken_off[rows]
        some = grown(seen, self._ceiling, np.empty(seen.shape, np.float32))
        growth[rows[:, None], self._columns[classes]] = some
        # Bets on two.
        pairs = block.counts(self._paired, len(self._pair_gains)) @ self._pair_gains
        pairs += worth * fixed.log_rest[self._pairs]
        pairs /= effect
        steps[:, self._pair_walks] = steps_of(pairs)
        pairs -= taken_off
        grown(pairs, self._ceiling, growth[:, self._pairs])
        if len(fixed.edged):
            some, column = np.unique(classes, return_inverse=True)
            counts = np.zeros((len(worth), len(some)))
            counts[rows, column] = block.number
            edged = counts @ fixed.log_ratios(some, fixed.edged)
            edged /= effect
            steps[:, self._edged_walks] = steps_of(edged[:, self._edged_walking])
            edged -= taken_off
            logs = np.empty(edged.shape, np.float32)
            growth[:, fixed.edged] = grown(edged, self._ceiling, logs)
        if not sparse:
            return None
        unseen = unseen[0][self._walks]
        return SeenSteps(len(block.sizes), unseen, rows, classes, seen_steps, steps)
