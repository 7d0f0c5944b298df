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
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.drift.reference import ReferenceDistribution

try:
    from scipy.special import chdtrc as _scipy_tail
except ImportError:  # injected beside an application that has NumPy but no SciPy
    _scipy_tail = None


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


def chi_square_test(counts: ArrayLike, baseline: ReferenceDistribution) -> ChiSquareResult:
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
    return pearson(observed, baseline.proportions, baseline.size)


def pearson(
    observed: NDArray[np.float64], proportions: NDArray[np.float64], size: float | None
) -> ChiSquareResult:
    """Test counts of shape (K,) against proportions that were counted from `size` (None: known)."""
    return pearson_of_each(observed[None], proportions, size)[0]


def pearson_of_each(
    observed: NDArray[np.float64], proportions: NDArray[np.float64], size: float | None
) -> list[ChiSquareResult]:
    """Test tables of counts, shape (tables, K), each by itself.

    Parameters
    ----------
    observed
        Counts, at least one in each table.
    proportions
        What is expected, shape (K,), or of each table by itself, shape (tables, K).
    size
        What the proportions were counted from; None where they are known.
    """
    totals = observed.sum(axis=1, keepdims=True)
    expected = proportions * totals
    difference = observed - expected
    spread = expected if size is None else expected + observed * (totals / size)
    occurs, seen = spread > 0, observed > 0
    terms = np.divide(difference**2, spread, out=np.zeros_like(difference), where=occurs)
    statistics = terms.sum(axis=1)
    # What the known baseline says is impossible was seen.
    statistics[(seen & ~occurs).any(axis=1)] = math.inf
    degrees = np.count_nonzero(occurs | seen, axis=1) - 1
    return [
        ChiSquareResult(statistic, p_value, freedom)
        for statistic, p_value, freedom in zip(
            statistics.tolist(), tails(statistics, degrees), degrees.tolist(), strict=True
        )
    ]


def tails(statistics: NDArray[np.float64], degrees_of_freedom: NDArray[np.intp]) -> list[float]:
    """Probability that chi-square variables exceed values (1 where there is nothing to test)."""
    if _scipy_tail is None:
        pairs = zip(statistics.tolist(), degrees_of_freedom.tolist(), strict=True)
        return [closed_form_tail(*pair) if pair[1] > 0 else 1.0 for pair in pairs]
    found = np.asarray(_scipy_tail(np.maximum(degrees_of_freedom, 1), statistics))
    return np.where(degrees_of_freedom > 0, found, 1.0).tolist()


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
