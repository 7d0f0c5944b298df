"""How much the rows of one call depend on each other.

Rows that are predicted together may be alike: one user's, one file's, one video's. Calls of about
the same length are compared with each other, so that it does not matter that most calls of a
program have one row, and some have thousands.

>>> import numpy as np
>>> rng = np.random.default_rng(1)
>>> lengths = np.where(np.arange(20_000) % 100 == 0, 200, 1)  # one call in a hundred has 200 rows
>>> labels = np.repeat(rng.integers(0, 4, 20_000), lengths)  # and these are alike
>>> calls = CallDependence(np.full(4, 0.25))
>>> read_with = calls.update(labels, lengths)
>>> read_with[[0, 1, 19_900]].tolist()  # the first is not known yet
[32.0, 1.0, 200.0]
>>> 120 < calls.measured < 140  # predictions that count as one, of all together
True

A call of m rows with an intra-class correlation r has a design effect of 1 + (m - 1) r (Kish 1965),
m at the most: all its rows are then one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.design_effect import BEYOND, SAFE, UNKNOWN
from otel_drift.drift.dispersion import NEIGHBOURS, RecentBlocks, block_ratios, cells_of, shown_by
from otel_drift.drift.variation import CALL_LENGTHS

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

ROWS_OF_A_BLOCK = 256
"""Of calls so short that a block of them has fewer rows, only every second block is looked at, or
every fourth, ...: looking costs more than counting."""
LONG = 512
"""Rows from which on calls are not taken for alike until they have shown that they are not: whoever
tries a detector out hands it a few long calls. Two of them are enough to show that they are."""
RECENT = 16_384.0
"""Predictions over which the design effect of all calls together is taken."""


class CallDependence:
    """Measure the intra-class correlation of calls as they come.

    Parameters
    ----------
    base
        Shares that are expected, shape (K,): the commonest classes are looked at.
    of_log
        Correlations that a log had, of each of `CALL_LENGTHS`, NaN where it had too few such calls;
        None where there was no log.
    """

    def __init__(self, base: Floats, of_log: Sequence[float] | None = None) -> None:
        self._cells = cells_of(base)
        self._of_log = np.full(len(CALL_LENGTHS), np.nan) if of_log is None else np.array(of_log)
        # Of each group whose calls have been seen: most programs have one or two.
        self._recent: dict[int, RecentBlocks] = {}
        # Of each group the correlation that is clear, and one that is possible.
        self._live = np.array([[0.0, float(rows < LONG)] for rows in CALL_LENGTHS])
        self._seen = np.zeros(len(CALL_LENGTHS), np.int64)
        # Recent predictions; the sums of what their design effects exceed 1 by, and by the log.
        self._sums = np.zeros(3)

    def __copy__(self) -> CallDependence:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def measured(self) -> float:
        """The design effect of all recent predictions together, as far as it comes from calls.

        It is that of the class counts of all of them: where calls differ in length, more
        predictions than count as one.
        """
        predictions, excess, _ = self._sums.tolist()
        return 1.0 + excess / predictions if predictions else 1.0

    @property
    def beyond(self) -> bool:
        """Whether it is far larger than the log's, or than 1 where there was no log."""
        predictions, excess, expected = self._sums.tolist()
        return predictions + excess > BEYOND * (predictions + expected)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        found: dict[str, NDArray[Any]] = {
            "correlations": self._live,
            "calls": self._seen,
            "recent_calls": self._sums,
        }
        for group, recent in self._recent.items():
            found |= {f"calls_{group}_{name}": one for name, one in recent.arrays().items()}
        return found

    @property
    def groups(self) -> list[int]:
        """Places in `CALL_LENGTHS` of the calls that have been seen."""
        return list(self._recent)

    def expect(self, groups: Iterable[int]) -> None:
        """Make room for calls of some groups."""
        for group in groups:
            self._recent[group] = RecentBlocks(1, self._cells[0])

    def update(self, labels: Labels, lengths: NDArray[np.int64]) -> Floats:
        """Take calls, and give the design effect that the rows of each are to be read with.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1, in stream order, shape (n,).
        lengths
            How many of them each call brought, in order, shape (calls,), sum n.

        Returns
        -------
        shape (calls,), at least 1. That of a call follows from the calls before it alone.
        """
        read_with = np.ones(len(lengths))
        excess, expected = np.zeros((2, len(lengths)))
        for number, calls, counts in grouped(labels, lengths, self._cells):
            clear, possible = self._correlations(number, counts)
            others, of_log = lengths[calls] - 1, float(self._of_log[number])
            seen = others * clear
            unclear = np.minimum(1 + others * possible, UNKNOWN)
            safe = np.where(seen > 0, SAFE * (1 + seen), unclear)
            if not math.isnan(of_log):
                more = 1 + seen > BEYOND * (1 + others * of_log)
                seen = np.where(more, seen, others * of_log)
                safe = np.where(more, safe, 1 + seen)
                expected[calls] = others * of_log
            excess[calls], read_with[calls] = seen, np.minimum(safe, 1 + others)
        self._remember(lengths, excess, expected)
        return read_with

    def _correlations(self, number: int, counts: Floats) -> tuple[Floats, Floats]:
        """Give the correlation that is clear before each call of a group, and one that is possible.

        Of long calls these are the same.

        Parameters
        ----------
        number
            Of the group of calls, a place in `CALL_LENGTHS`.
        counts
            Of its calls, shape (calls, cells).

        Returns
        -------
        clear, possible
            Each of shape (calls,).
        """
        if number not in self._recent:
            self.expect([number])
        recent = self._recent[number]
        known = np.repeat(self._live[number][:, None], len(counts) + 1, axis=1)
        block = (self._seen[number] + np.arange(len(counts))) // NEIGHBOURS
        every = max(1, ROWS_OF_A_BLOCK // (NEIGHBOURS * CALL_LENGTHS[number]))
        looked_at = np.flatnonzero(block % every == 0)
        if not recent.blocks:
            self._first_block(recent.waiting, counts[looked_at], looked_at, known)
        self._seen[number] += len(counts)
        found = recent.update(counts[looked_at], looked_at + 1)
        if len(found.ends):
            shown = (found.design_effects, found.possible)
            after = np.array([correlation(effects, found.lengths) for effects in shown])
            after = after.repeat(np.diff(found.ends, append=known.shape[1]), axis=1)
            known[:, found.ends[0] :] = after
        self._live[number] = known[:, -1]
        clear, possible = known[:, :-1]
        return clear, clear if CALL_LENGTHS[number] >= LONG else possible

    @staticmethod
    def _first_block(
        waiting: Floats, counts: Floats, places: NDArray[np.intp], known: Floats
    ) -> None:
        """Set what is known from the third call on, before the first block is complete."""
        calls = np.concatenate([waiting, counts])[:NEIGHBOURS]
        for number in range(max(1, len(waiting)), len(calls)):
            if number > 1:
                rows = block_ratios(calls[None, :number], np.ones(1))
                shown = shown_by(rows[None])
                after = places[number - len(waiting) - 1] + 1 if number > len(waiting) else 0
                known[:, after:] = correlation(shown[:2], shown[2])

    def _remember(self, lengths: NDArray[np.int64], excess: Floats, expected: Floats) -> None:
        """Add to the sums over recent predictions."""
        after = lengths.sum() - np.cumsum(lengths)
        weights = lengths * np.exp(-after / RECENT)
        self._sums *= math.exp(-float(lengths.sum()) / RECENT)
        self._sums += weights.sum(), float(weights @ excess), float(weights @ expected)


def grouped(
    labels: Labels, lengths: NDArray[np.int64], cells: tuple[int, NDArray[np.intp]]
) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Put the calls of several rows into groups of about the same length.

    Parameters
    ----------
    labels, lengths
        As of `CallDependence.update`.
    cells
        As of `cells_of`.

    Yields
    ------
    The place of a group in `CALL_LENGTHS`, the places of its calls, and their class counts, shape
    (calls, cells).
    """
    several = np.flatnonzero(lengths > 1)
    if not len(several):
        return
    number, (size, cell_of) = np.full(len(lengths), -1), cells
    number[several] = np.arange(len(several))
    of_row = np.repeat(number, lengths)
    kept = of_row >= 0
    places = of_row[kept] * size + cell_of[labels[kept]]
    counts = np.bincount(places, minlength=len(several) * size).reshape(-1, size)
    groups = np.searchsorted(CALL_LENGTHS, lengths[several], side="right") - 1
    for group in np.unique(groups).tolist():
        of_group = groups == group
        yield group, several[of_group], counts[of_group].astype(np.float64)


def correlation(design_effect: Floats, rows: Floats) -> Floats:
    """Intra-class correlation of calls of so many rows that have this design effect."""
    return np.clip((design_effect - 1) / np.maximum(rows - 1, 1), 0, 1)


def logged_design_effects(correlations: Sequence[float], lengths: NDArray[np.int64]) -> Floats:
    """Design effects of calls by the correlations of a log: shape (calls,).

    >>> logged_design_effects((0.5, *[math.nan] * 5), np.array([1, 5, 100])).tolist()
    [1.0, 3.0, 32.0]
    """
    groups = np.searchsorted(CALL_LENGTHS, lengths, side="right") - 1
    of_group = np.array([*correlations, 0.0])[groups]  # the last one is that of a single row
    found = np.where(np.isnan(of_group), UNKNOWN, 1 + (lengths - 1) * of_group)
    return np.minimum(found, lengths)
