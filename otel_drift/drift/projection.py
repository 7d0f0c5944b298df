"""The tolerated distribution that lies nearest to another.

Among all p with ``lower <= p <= upper`` and sum 1, the one with the least Kullback-Leibler
divergence KL(q || p) is ``clip(s q, lower, upper)`` with the s that makes it sum to 1: the reverse
information projection of q. For every tolerated p, ``sum_k p_k q_k / p*_k <= 1``.

>>> lower, upper = np.array([0.4, 0.4]), np.array([0.6, 0.6])
>>> q = np.array([0.9, 0.1])
>>> np.clip(projection_scale(q, lower, upper) * q, lower, upper).round(6).tolist()
[0.6, 0.4]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def projection_scales(q: Floats, lower: Floats, upper: Floats, start: Floats) -> Floats:
    """Project distributions onto the band: p* = clip(s q, lower, upper), summing to 1.

    The tolerated distribution nearest to q in Kullback-Leibler divergence KL(q || p). The sum is
    piecewise linear in s, so that Newton's method inside a bracket is exact after a few steps.

    Parameters
    ----------
    q
        Shape (n, K), all above 0, rows summing to 1.
    start
        First guess of s, shape (n,).

    Returns
    -------
    s, shape (n,), rounded up: a sum above 1 keeps the bet valid, and the answer does not depend
    on the first guess.
    """
    scales = start.copy()
    todo, s = np.arange(len(q)), start
    low, high = np.zeros(len(q)), np.full(len(q), np.inf)
    for _ in range(200):
        scaled = s[:, None] * q
        nearest = np.clip(scaled, lower, upper)
        gap = nearest.sum(axis=1) - 1
        going = np.abs(gap) > 1e-13
        left = np.count_nonzero(going)
        if left < len(todo):
            scales[todo] = s
        if not left:
            break
        if left <= len(todo) / 2:
            todo, q, s, gap = todo[going], q[going], s[going], gap[going]
            scaled, nearest = scaled[going], nearest[going]
            low, high, going = low[going], high[going], going[going]
        low, high = np.where(gap < 0, s, low), np.where(gap < 0, high, s)
        slope = np.where(nearest == scaled, q, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = s - gap / slope
        middle = np.where(high == np.inf, 2 * s, np.where(low == 0, s / 2, np.sqrt(low * high)))
        moved = np.where((slope > 0) & (low < step) & (step < high), step, middle)
        s = np.where(going, moved, s)
    else:
        scales[todo] = high
    return (np.floor(scales * 2**40) + 1) / 2**40


def projection_scale(q: Floats, lower: Floats, upper: Floats) -> float:
    """`projection_scales` of one distribution, shape (K,)."""
    return float(projection_scales(q[None], lower, upper, np.ones(1))[0])


def into_band(p: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return p where it is tolerated, else the nearest tolerated distribution."""
    inside = np.clip(projection_scale(p, lower, upper) * p, lower, upper)
    return inside / inside.sum()
