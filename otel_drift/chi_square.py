r"""The chi-square test of a window of predictions against a baseline.

With a baseline whose proportions are known exactly this is Pearson's goodness-of-fit test
(`scipy.stats.chisquare`). A baseline that was counted from n predictions is itself a sample, and
the two-sample test of homogeneity is the right one (`scipy.stats.chi2_contingency` without
continuity correction). Both are one formula, with :math:`E_k = N P_k` and N/n = 0 where the
proportions are known:

.. math:: X = \sum_k \frac{(O_k - E_k)^2}{E_k + O_k N / n}

>>> from otel_drift import Baseline, chi_square_test
>>> chi_square_test([30, 14, 34, 45, 57, 20], Baseline.uniform(6))
ChiSquareResult(statistic=37.78, p_value=4.177e-07, degrees_of_freedom=5)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from otel_drift.baseline import Baseline

try:
    from scipy.special import chdtrc as _scipy_tail
except ImportError:  # injected beside an application that has NumPy but no SciPy
    _scipy_tail = None

MINIMUM_WINDOW = 50
"""Smallest number of predictions that is ever tested."""
MINIMUM_EXPECTED = 5.0
"""Expected count below which a cell is pooled: the usual condition for the chi-square tail."""


class ChiSquareResult(NamedTuple):
    """What the test says of one table of counts."""

    statistic: float
    p_value: float
    degrees_of_freedom: int

    def __repr__(self) -> str:
        """Show four digits: more are noise."""
        return (
            f"ChiSquareResult(statistic={self.statistic:.4g}, p_value={self.p_value:.4g}, "
            f"degrees_of_freedom={self.degrees_of_freedom})"
        )


class EffectSizes(NamedTuple):
    """How far a window lies from its baseline, whatever its size."""

    tvd: float
    """Total variation distance, 0 to 1: the share of predictions that moved."""
    psi: float
    """Population stability index, with half a count added so that a lost class stays finite."""
    cramers_v: float
    """Cramér's V, 0 to 1 for a table that is not degenerate."""


def chi_square_test(counts: ArrayLike, baseline: Baseline) -> ChiSquareResult:
    """Test counts of predictions against a baseline.

    Parameters
    ----------
    counts
        Predictions of each class of the baseline, shape (K,).
    baseline
        What to compare with. Where it was counted, the two-sample test is used.

    Returns
    -------
    ChiSquareResult
        Statistic, p-value and degrees of freedom (classes that can occur, less one). Classes that
        neither the baseline nor the counts contain play no part.

    Raises
    ------
    ValueError
        If the counts are not K whole numbers of at least 0, or if all are 0.
    """
    observed = np.asarray(counts, dtype=np.float64)
    if observed.shape != baseline.proportions.shape:
        raise ValueError(
            f"counts of shape {observed.shape}: the baseline has {len(baseline.classes)} classes"
        )
    if not np.isfinite(observed).all() or (observed < 0).any():
        raise ValueError(f"counts {counts!r}: must be finite and at least 0")
    if not observed.any():
        raise ValueError("counts are all 0: there is nothing to test")
    return _test(observed, baseline.proportions, baseline.size)


def _test(
    observed: NDArray[np.float64], proportions: NDArray[np.float64], size: int | None
) -> ChiSquareResult:
    total = float(observed.sum())
    expected = proportions * total
    difference = observed - expected
    spread = expected if size is None else expected + observed * (total / size)
    occurs = spread > 0
    degrees_of_freedom = int(np.count_nonzero(occurs | (observed > 0))) - 1
    if (observed[~occurs] > 0).any():  # what the known baseline says is impossible was seen
        return ChiSquareResult(math.inf, 0.0, degrees_of_freedom)
    statistic = float(np.sum(difference[occurs] ** 2 / spread[occurs]))
    return ChiSquareResult(statistic, tail(statistic, degrees_of_freedom), degrees_of_freedom)


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

    def __init__(self, baseline: Baseline) -> None:
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
        smallest = float(self._proportions.min())
        self.minimum = max(MINIMUM_WINDOW, math.ceil(MINIMUM_EXPECTED / smallest - 1e-9))

    @property
    def testable(self) -> bool:
        """Whether there are two cells to compare at all."""
        return len(self._proportions) > 1

    def test(self, counts: NDArray[np.int64]) -> ChiSquareResult:
        """Test one window's class counts, shape (K,), after pooling."""
        observed = _pooled(counts, self._index, len(self._proportions))
        return _test(observed, self._proportions, self._size)


def _pooled(values: NDArray[Any], index: NDArray[np.intp], cells: int) -> NDArray[np.float64]:
    return np.bincount(index, weights=values, minlength=cells).astype(np.float64)


def tail(statistic: float, degrees_of_freedom: int) -> float:
    """Probability that a chi-square variable exceeds a value (1 where there is nothing to test)."""
    if degrees_of_freedom < 1:
        return 1.0
    if _scipy_tail is not None:
        return float(_scipy_tail(degrees_of_freedom, statistic))
    return closed_form_tail(statistic, degrees_of_freedom)


def closed_form_tail(statistic: float, degrees_of_freedom: int) -> float:
    """Give the same tail without SciPy, as the finite sum it is for whole degrees of freedom.

    With h half the statistic: even degrees give the Poisson sum of h^j e^-h / j!, odd ones
    erfc(sqrt h) and the like sum at half-integers (Abramowitz and Stegun, 26.4.4 and 26.4.5).
    Summation starts at the largest term and goes both ways, so nothing overflows; the relative
    error stays below 1e-11 up to 9,999 degrees of freedom (tested against SciPy).
    """
    if statistic <= 0:
        return 1.0
    if math.isinf(statistic):
        return 0.0
    half = statistic / 2
    shift = 0.5 * (degrees_of_freedom % 2)
    terms = degrees_of_freedom // 2
    total = math.erfc(math.sqrt(half)) if shift else 0.0
    if terms == 0:
        return total
    start = max(0, min(terms - 1, math.floor(half - shift)))
    largest = math.exp(_log_poisson(start + shift, half))
    total += largest
    term = largest
    for j in range(start, 0, -1):
        term *= (j + shift) / half
        total += term
        if term < total * 1e-18:
            break
    term = largest
    for j in range(start + 1, terms):
        term *= half / (j + shift)
        total += term
        if term < total * 1e-18:
            break
    return min(1.0, total)


def _log_poisson(x: float, mean: float) -> float:
    """Log of mean^x e^-mean / Gamma(x + 1); Loader's saddle-point form where x is large."""
    if x < 16:
        return x * math.log(mean) - mean - math.lgamma(x + 1)
    stirling = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * x * x)) / (x * x)) / (x * x)) / x
    return -stirling - _deviance(x, mean) - 0.5 * math.log(2 * math.pi * x)


def _deviance(x: float, mean: float) -> float:
    """X ln(x / mean) + mean - x, without cancellation where the two are close."""
    difference = x - mean
    if abs(difference) > 0.1 * (x + mean):
        return x * math.log(x / mean) - difference
    ratio = difference / (x + mean)
    total = difference * ratio
    term = 2 * x * ratio
    for j in range(1, 1000):
        term *= ratio * ratio
        following = total + term / (2 * j + 1)
        if following == total:
            break
        total = following
    return total


class WindowResult(NamedTuple):
    """The test of one complete window."""

    test: ChiSquareResult
    effect: EffectSizes
    counts: NDArray[np.int64]
    """Predictions of each class, shape (K,)."""


class ChiSquareWindow:
    """Windows of predictions that follow each other without overlap, each tested once.

    A window closes at the end of the first call that brings it to `Cells.minimum` predictions.
    Where calls end does not depend on what is predicted, so p-values are uniform without drift,
    whatever the batch sizes.

    >>> from otel_drift import Baseline
    >>> window = ChiSquareWindow(Baseline.uniform(2))
    >>> labels = np.tile([0, 1], 40)
    >>> [result.test.p_value for result in window.update(labels, [20, 20, 20, 20])]
    [1.0]
    >>> window.pending
    20
    """

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._cells = Cells(baseline)
        self._counts = np.zeros(len(baseline.classes), dtype=np.int64)
        self.pending = 0
        self.newest: WindowResult | None = None

    def update(self, labels: NDArray[Any], lengths: list[int]) -> list[WindowResult]:
        """Take the labels of some calls and return the windows that they completed.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1, in stream order.
        lengths
            How many of them each call brought, in order.
        """
        closed: list[WindowResult] = []
        if not self._cells.testable:
            return closed
        ends = np.cumsum(lengths)
        start = 0
        while True:
            call = int(np.searchsorted(ends, start + self._cells.minimum - self.pending))
            end = int(ends[call]) if call < len(ends) else len(labels)
            self._counts += np.bincount(labels[start:end], minlength=len(self._counts))
            self.pending += end - start
            start = end
            if call >= len(ends):
                return closed
            self.newest = self._close()
            closed.append(self.newest)

    def _close(self) -> WindowResult:
        counts, self._counts = self._counts, np.zeros_like(self._counts)
        self.pending = 0
        test = self._cells.test(counts)
        return WindowResult(test, effect_sizes(counts, self._baseline.proportions, test), counts)
