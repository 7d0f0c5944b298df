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

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chi_square import ChiSquareResult, pearson
from otel_drift.drift.projection import into_band
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
    counts: NDArray[Any], proportions: NDArray[np.float64], result: ChiSquareResult
) -> EffectSizes:
    """Measure how far counts lie from the proportions that were expected.

    Parameters
    ----------
    counts
        Shape (K,), at least one prediction in all.
    proportions
        Shape (K,), summing to 1.
    result
        The test of the same window, from which Cramér's V is taken.
    """
    total = float(counts.sum())
    expected = proportions * total
    difference = counts - expected
    tvd = 0.5 * float(np.abs(difference).sum()) / total
    psi = float((difference * np.log((counts + 0.5) / (expected + 0.5))).sum()) / total
    cramers_v = 0.0
    if result.degrees_of_freedom > 0:
        cramers_v = math.sqrt(result.statistic / result.degrees_of_freedom / total)
    return EffectSizes(tvd, psi, cramers_v)


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

    def test(self, counts: NDArray[np.int64], design_effect: float = 1.0) -> ChiSquareResult:
        """Test one window's class counts, shape (K,), after pooling.

        Parameters
        ----------
        counts
            Predictions of each class.
        design_effect
            Predictions that count as one: those of the window, and those of the baseline.

        Notes
        -----
        Where a log has told how the shares vary, the counts are compared with the distribution in
        its hull that is nearest to them: the largest p-value of all, or about that.
        """
        observed = _pooled(counts, self._index, len(self._proportions)) / design_effect
        expected = self._proportions
        if self._hull is not None:
            # Half a prediction more of each, because what is projected must be above 0.
            expected = into_band((observed + 0.5) / (observed + 0.5).sum(), *self._hull)
        size = None if self._size is None else self._size / design_effect
        return pearson(observed, expected, size)


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
        closed: list[WindowResult] = []
        if not self._cells.testable:
            return closed
        ends = np.cumsum(lengths)
        minimum = math.ceil(self._cells.minimum * design_effect)
        start = 0
        while True:
            call = int(np.searchsorted(ends, start + minimum - self.pending))
            end = int(ends[call]) if call < len(ends) else len(labels)
            self._counts += np.bincount(labels[start:end], minlength=len(self._counts))
            self.pending += end - start
            start = end
            if call >= len(ends):
                return closed
            self.newest = self._close(design_effect)
            closed.append(self.newest)

    def _close(self, design_effect: float) -> WindowResult:
        counts, self._counts = self._counts, np.zeros_like(self._counts)
        counts.flags.writeable = False  # handed out, and kept as the newest
        self.pending = 0
        test = self._cells.test(counts, design_effect)
        return WindowResult(test, effect_sizes(counts, self._baseline.proportions, test), counts)
