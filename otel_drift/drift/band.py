"""The tolerated band: which distributions count as not moved.

>>> import numpy as np
>>> lower, upper = tolerated_band(np.array([0.9, 0.1]), None, 0.2)
>>> lower.round(3).tolist(), upper.round(3).tolist()
([0.72, 0.08], [1.0, 0.12])

Shares that were counted are themselves a sample, so that their band also holds what the sample
leaves open:

>>> lower, upper = tolerated_band(np.array([0.9, 0.1]), np.array([90, 10]), 0.2)
>>> lower.round(3).tolist(), upper.round(3).tolist()
([0.72, 0.035], [1.0, 0.212])
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.variation import Variation

try:
    from scipy.special import betaincinv as _beta_quantile
except ImportError:  # injected beside an application that has NumPy but no SciPy
    _beta_quantile = None

Floats = NDArray[np.float64]

DEFAULT_TOLERANCE = 0.2
CONFIDENCE = 0.99
"""Confidence that a counted band holds the true shares of all classes at once."""


def tolerated_band(
    proportions: Floats,
    counts: NDArray[np.int64] | None,
    tolerance: float,
    variation: Variation | None = None,
) -> tuple[Floats, Floats]:
    """Edges of the distributions that count as not moved, each of shape (K,).

    Parameters
    ----------
    proportions
        Expected shares P, shape (K,).
    counts
        The predictions of each class that they were counted from, or None where they are known.
    tolerance
        Relative change d of a class's share that does not matter, above 0 and below 1.
    variation
        How the stream varies by itself, if a log has told.

    Returns
    -------
    lower, upper
        ``P (1 - d)`` and ``P (1 + d)`` where the proportions are known. Where they were counted,
        the hull of that and of Clopper and Pearson's confidence limits, at 99 % for all classes
        together (each limit at 0.01 / 2K). Where a log has told how the shares vary, its hull is
        widened by d in place of P, and the limits are those of the counts over the design effect.

    Raises
    ------
    ValueError
        If the tolerance is not between 0 and 1.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r}: must be above 0 and below 1, like 0.2 for 20 %")
    low, high = (
        (proportions, proportions) if variation is None else (variation.lower, variation.upper)
    )
    lower = np.minimum(low, proportions) * (1 - tolerance)
    upper = np.minimum(1.0, np.maximum(high, proportions) * (1 + tolerance))
    if counts is not None:
        fewer = counts if variation is None else counts / variation.design_effect
        low, high = confidence_limits(fewer, (1 - CONFIDENCE) / (2 * len(counts)))
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
    return lower, upper


def confidence_limits(counts: NDArray[Any], level: float) -> tuple[Floats, Floats]:
    """Limits of a share that was counted, each wrong with probability `level`.

    Clopper and Pearson's (1934), by the beta quantile; without SciPy the Wilson-Hilferty form of
    the Poisson limits, which lies within a few per cent of them.
    """
    x = counts.astype(np.float64)
    size = float(x.sum())
    if _beta_quantile is not None:
        with np.errstate(invalid="ignore"):
            low = np.where(x > 0, _beta_quantile(np.maximum(x, 0.5), size - x + 1, level), 0.0)
            above = _beta_quantile(x + 1, np.maximum(size - x, 0.5), 1 - level)
        return low, np.where(x < size, above, 1.0)
    z = NormalDist().inv_cdf(1 - level)
    positive = np.maximum(x, 1)
    low_root = np.maximum(0, 1 - 1 / (9 * positive) - z / (3 * np.sqrt(positive)))
    high_root = 1 - 1 / (9 * (x + 1)) + z / (3 * np.sqrt(x + 1))
    low = np.where(x > 0, x * low_root**3, 0) / size
    return low, np.minimum(1.0, (x + 1) * high_root**3 / size)
