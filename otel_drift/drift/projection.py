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

SETTLED = 1e-13
"""How near to 1 the sum must come."""


def projection_scales(q: Floats, lower: Floats, upper: Floats, start: Floats) -> Floats:
    """Project distributions onto the band: p* = clip(s q, lower, upper), summing to 1.

    The tolerated distribution nearest to q in Kullback-Leibler divergence KL(q || p). Once it is
    known which classes lie at an edge, s follows from the others; a guess of s tells which do, and
    what follows is the next guess (Newton's method, as the sum is piecewise linear in s). A bracket
    keeps it from going astray.

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
    class_by_class = q.flags.f_contiguous and not q.flags.c_contiguous
    scales = np.empty_like(start)
    todo, s = np.arange(len(q)), start
    low, high = np.zeros_like(s), np.full_like(s, np.inf)
    for _ in range(200):
        scaled = q * s[:, None]
        nearest = np.maximum(scaled, lower)
        np.minimum(nearest, upper, out=nearest)
        free = nearest == scaled
        slope = np.multiply(q, free, out=scaled).sum(axis=1)
        np.logical_not(free, out=free)
        left = 1 - np.multiply(nearest, free, out=nearest).sum(axis=1)
        gap = s * slope - left
        any_free = slope > 0
        guess = left / np.where(any_free, slope, 1)
        # From the classes at the edges alone: once these are right, whatever the guess was.
        scales[todo] = np.where(any_free, guess, s)
        going = np.abs(gap) > SETTLED
        if not going.any():
            break
        above = gap >= 0
        low, high = np.where(above, low, s), np.where(above, s, high)
        astray = going & ~(any_free & (low < guess) & (guess < high))
        if astray.any():
            middle = np.where(high == np.inf, 2 * s, np.where(low == 0, s / 2, np.sqrt(low * high)))
            guess = np.where(astray, middle, guess)
        s = np.where(going, guess, s)
        if 2 * np.count_nonzero(going) <= len(todo):
            rows = np.flatnonzero(going)
            if len(rows) == 1:  # NumPy would sum a single row in another order
                rows = np.repeat(rows, 2)
            q = q.T[:, rows].T if class_by_class else q[rows]
            todo, s, low, high = todo[rows], s[rows], low[rows], high[rows]
    else:
        scales[todo] = high
    return (np.floor(scales * 2**40) + 1) / 2**40


def projection_scale(q: Floats, lower: Floats, upper: Floats) -> float:
    """`projection_scales` of one distribution, shape (K,)."""
    start = np.array([_scale(q, lower, upper)])
    return float(projection_scales(q[None], lower, upper, start)[0])


def nearest_tolerated(q: Floats, lower: Floats, upper: Floats) -> Floats:
    """Project one distribution, shape (K,), not rounded up: to be shown, not to be bet against."""
    scale = _scale(q, lower, upper)
    nearest = np.minimum(np.maximum(scale * q, lower), upper)
    if abs(float(nearest.sum()) - 1) > 1e-9:
        nearest = np.clip(projection_scale(q, lower, upper) * q, lower, upper)
    return nearest


def _scale(q: Floats, lower: Floats, upper: Floats) -> float:
    """Find s of one distribution, but for rounding.

    The sum of ``clip(s q, lower, upper)`` rises with s in straight lines: each class begins to
    rise where it leaves its lower edge and stops at its upper one.
    """
    edges = np.concatenate([lower / q, upper / q])
    order = edges.argsort()
    edges, slopes = edges[order], np.concatenate([q, -q])[order].cumsum()
    sums = np.empty_like(edges)
    sums[0] = lower.sum()
    np.multiply(slopes[:-1], edges[1:] - edges[:-1], out=sums[1:])
    sums = sums.cumsum()
    before = max(int(sums.searchsorted(1.0)) - 1, 0)
    edge, slope = float(edges[before]), float(slopes[before])
    left = 1.0 - float(sums[before])
    return edge + left / slope if slope > 0 and left > 0 else max(edge, 1e-300)


def into_band(p: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return p where it is tolerated, else the nearest tolerated distribution."""
    return all_into_band(p[None], lower, upper)[0]


def all_into_band(p: Floats, lower: Floats, upper: Floats) -> Floats:
    """`into_band` of each row, shape (n, K)."""
    scales = projection_scales(p, lower, upper, np.ones(len(p)))
    inside = np.clip(scales[:, None] * p, lower, upper)
    return inside / inside.sum(axis=1, keepdims=True)
