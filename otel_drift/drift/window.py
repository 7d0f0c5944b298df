"""Windows of predictions that follow each other, each tested once against the baseline.

>>> import numpy as np
>>> from otel_drift import Baseline
>>> window = ChiSquareWindow(Baseline.uniform(2))
>>> labels = np.tile([0, 1], 40)
>>> [result.test.p_value for result in window.update(labels, [20, 20, 20, 20])]
[1.0]
>>> window.pending
20
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chi_square import ChiSquareResult, pearson_of_each
from otel_drift.drift.projection import all_into_band
from otel_drift.drift.reference import ReferenceDistribution

MINIMUM_WINDOW = 50
"""Smallest number of predictions that is ever tested."""
MINIMUM_EXPECTED = 5.0
"""Expected count below which a cell is pooled: the usual condition for the chi-square tail."""


class EffectSizes(NamedTuple):
    """How far a window lies from its baseline, whatever its size."""

    tvd: float
    """Total variation distance, 0 to 1: the share of predictions that moved."""
    psi: float
    """Population stability index, with half a count added so that a lost class stays finite."""
    cramers_v: float
    """Cramér's V, 0 to 1 for a table that is not degenerate."""


def effect_sizes(
    counts: NDArray[Any], proportions: NDArray[np.float64], results: Sequence[ChiSquareResult]
) -> list[EffectSizes]:
    """Measure how far the counts of each window lie from the proportions that were expected.

    Parameters
    ----------
    counts
        Shape (windows, K), at least one prediction in each window.
    proportions
        Shape (K,), summing to 1.
    results
        The tests of the same windows, from which Cramér's V is taken.
    """
    totals = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = proportions * totals
    difference = counts - expected
    tvd = 0.5 * np.abs(difference).sum(axis=1) / totals[:, 0]
    psi = (difference * np.log((counts + 0.5) / (expected + 0.5))).sum(axis=1) / totals[:, 0]
    found: list[EffectSizes] = []
    rows = zip(tvd.tolist(), psi.tolist(), totals[:, 0].tolist(), results, strict=True)
    for of_tvd, of_psi, total, (statistic, _, freedom) in rows:
        cramers_v = math.sqrt(statistic / freedom / total) if freedom > 0 else 0.0
        found.append(EffectSizes(of_tvd, of_psi, cramers_v))
    return found


class Cells:
    """The cells of a window's table: one a class, those too rare to test alone pooled into one.

    Parameters
    ----------
    baseline
        The classes and what is expected of each.

    Attributes
    ----------
    minimum
        Predictions that a window needs before it is tested: `MINIMUM_WINDOW`, or as many as give
        every cell an expected count of `MINIMUM_EXPECTED`.

    Notes
    -----
    A class is rare where a window of max(1,000, 10 K) would still expect fewer than 5 of it. A
    pool that would itself be too small joins the smallest cell, so that the tail stays honest:
    one NaN in ten thousand rows does not give a p-value of 0.
    """

    def __init__(self, baseline: ReferenceDistribution) -> None:
        share = baseline.proportions
        least = MINIMUM_EXPECTED / max(1_000, 10 * len(share))
        order = np.argsort(-share, kind="stable")
        kept = order[share[order] >= least]
        self._index = np.full(len(share), len(kept), dtype=np.intp)
        self._index[kept] = np.arange(len(kept))
        pooled = float(share.sum() - share[kept].sum())
        cells = len(kept) + 1
        if pooled < least and len(kept) > 0:
            self._index[self._index == len(kept)] = len(kept) - 1
            cells -= 1
        self._proportions = _pooled(share, self._index, cells)
        self._size = baseline.size
        self._hull: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        if (variation := baseline.variation) is not None:
            lower, upper = (
                _pooled(edge, self._index, cells) for edge in (variation.lower, variation.upper)
            )
            # The counted shares themselves are always allowed.
            self._hull = (
                np.minimum(lower, self._proportions),
                np.minimum(1.0, np.maximum(upper, self._proportions)),
            )
        smallest = float(self._proportions.min())
        self.minimum = max(MINIMUM_WINDOW, math.ceil(MINIMUM_EXPECTED / smallest - 1e-9))

    @property
    def testable(self) -> bool:
        """Whether there are two cells to compare at all."""
        return len(self._proportions) > 1

    def test(self, counts: NDArray[np.int64], design_effect: float = 1.0) -> list[ChiSquareResult]:
        """Test the class counts of each of some windows, after pooling.

        Parameters
        ----------
        counts
            Predictions of each class, shape (windows, K).
        design_effect
            Predictions that count as one: those of the windows, and those of the baseline.

        Notes
        -----
        Where a log has told how the shares vary, the counts are compared with the distribution in
        its hull that is nearest to them: the largest p-value of all, or about that.
        """
        observed = self._pooled(counts) / design_effect
        expected = self._proportions
        if self._hull is not None:
            # Half a prediction more of each, because what is projected must be above 0.
            some = observed + 0.5
            shares = some / some.sum(axis=1, keepdims=True)
            expected = all_into_band(shares, *self._hull)
        size = None if self._size is None else self._size / design_effect
        return pearson_of_each(observed, expected, size)

    def _pooled(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Put the rare classes of each window together, shape (windows, cells)."""
        cells = len(self._proportions)
        places = np.arange(len(counts))[:, None] * cells + self._index
        found = np.bincount(places.ravel(), counts.ravel(), len(counts) * cells)
        return found.reshape(-1, cells).astype(np.float64)


def _pooled(values: NDArray[Any], index: NDArray[np.intp], cells: int) -> NDArray[np.float64]:
    return np.bincount(index, weights=values, minlength=cells).astype(np.float64)


class WindowResult(NamedTuple):
    """The test of one complete window."""

    test: ChiSquareResult
    effect: EffectSizes
    counts: NDArray[np.int64]
    """Predictions of each class, shape (K,)."""


class ChiSquareWindow:
    """Windows of predictions that follow each other without overlap, each tested once.

    A window closes at the end of the first call that brings it to `Cells.minimum` predictions, or
    to so many times the design effect. Where calls end does not depend on what is predicted, so
    p-values are uniform without drift, whatever the batch sizes.
    """

    def __init__(self, baseline: ReferenceDistribution) -> None:
        self._baseline = baseline
        self._cells = Cells(baseline)
        self._counts = np.zeros(len(baseline.classes), dtype=np.int64)
        self.pending = 0
        self.newest: WindowResult | None = None

    def __copy__(self) -> ChiSquareWindow:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    def update(
        self, labels: NDArray[Any], lengths: list[int], design_effect: float = 1.0
    ) -> list[WindowResult]:
        """Take the labels of some calls and return the windows that they completed.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1, in stream order.
        lengths
            How many of them each call brought, in order.
        design_effect
            Predictions that count as one.
        """
        if not self._cells.testable:
            return []
        ends = np.cumsum(lengths)
        minimum = math.ceil(self._cells.minimum * design_effect)
        closed: list[int] = []
        start = -self.pending
        while (call := int(np.searchsorted(ends, start + minimum))) < len(ends):
            closed.append(start := int(ends[call]))
        self.pending = len(labels) - start
        if not closed:
            self._counts += np.bincount(labels, minlength=len(self._counts))
            return []
        return self._close(labels, np.array(closed), design_effect)

    def _close(
        self, labels: NDArray[Any], closed: NDArray[np.int64], design_effect: float
    ) -> list[WindowResult]:
        """Test the windows that end after so many of the labels."""
        k = len(self._counts)
        sizes = np.diff(closed, prepend=0, append=len(labels))
        places = np.repeat(np.arange(len(sizes)) * k, sizes) + labels
        counts = np.bincount(places, minlength=(len(closed) + 1) * k).reshape(-1, k)
        counts[0] += self._counts
        self._counts = counts[-1].copy()
        counts = counts[:-1]
        counts.flags.writeable = False  # handed out
        tests = self._cells.test(counts, design_effect)
        effects = effect_sizes(counts, self._baseline.proportions, tests)
        results = [WindowResult(*one) for one in zip(tests, effects, counts, strict=True)]
        # What is kept for long does not keep the counts of the others.
        self.newest = results[-1]._replace(counts=_frozen(counts[-1]))
        return results


def _frozen(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    own = counts.copy()
    own.flags.writeable = False
    return own
