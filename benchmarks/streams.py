"""Streams of predictions as real traffic has them: dependent, rhythmic, wandering.

Each stream is a function of a random generator, the number of predictions and a drift, which is a
function from shares to shares. All have ten classes whose mean shares are equal; calls have one row where nothing else is said.

>>> import numpy as np
>>> STREAMS["batches, alike"].labels(np.random.default_rng(1), 40).tolist()
[6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 2, 2, 2, 2, 2, 2, 2, 2]
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

CLASSES = 10
CALL = 32
STEP = 32
"""Predictions between two looks at shares that change with time."""


@dataclass(frozen=True)
class Stream:
    """How labels are drawn; `rate` is predictions a second."""

    units: Callable[[np.random.Generator, int], Labels] | None = None
    """Which unit (call, session) each of n predictions is of; None: each its own."""
    correlation: float = 0.0
    """Intra-class correlation of the labels of a unit."""
    shares: Callable[[np.random.Generator, int], Floats] | None = None
    """Shares, shape (n / STEP, K); None: equal."""
    rate: float = 100.0
    calls: int | None = 1
    """Rows of a call; None: each unit is a call."""
    groups: int | None = None
    """A row takes any class of its unit's group, of so many; None: its unit's class."""

    def labels(
        self,
        rng: np.random.Generator,
        n: int,
        drift_at: int | None = None,
        drift: Callable[[Floats], Floats] | None = None,
    ) -> Labels:
        """Draw n labels; from `drift_at` on their shares are drifted."""
        return self.draw(rng, n, drift_at, drift)[0]

    def draw(
        self,
        rng: np.random.Generator,
        n: int,
        drift_at: int | None = None,
        drift: Callable[[Floats], Floats] | None = None,
    ) -> tuple[Labels, Labels]:
        """Draw n labels, and how many of them each call has."""
        steps = math.ceil(n / STEP)
        shares = np.full((1, CLASSES), 1 / CLASSES)
        if self.shares is not None:
            shares = self.shares(rng, steps)
        moved = drift(shares) if drift is not None else shares
        limits, limits_moved = (np.cumsum(p, axis=1)[:, :-1] for p in (shares, moved))
        place = np.arange(n) // STEP if len(shares) > 1 else np.zeros(n, np.int64)
        uniform = rng.random(n)
        lengths = _of_rows(n, self.calls or 1)
        if self.units is not None:
            unit = self.units(rng, n)
            # A row takes the label of its unit with probability sqrt(correlation).
            alike = rng.random(n) < math.sqrt(self.correlation)
            of_unit = rng.random(int(unit.max()) + 1)[unit]
            if self.groups is not None:
                of_unit = (np.floor(of_unit * self.groups) + rng.random(n)) / self.groups
            uniform = np.where(alike, of_unit, uniform)
            if self.calls is None:
                lengths = np.bincount(unit)
        after = np.arange(n) >= (n if drift_at is None else drift_at)
        found = np.empty(n, np.int64)
        for part, edge in ((~after, limits), (after, limits_moved)):
            if part.any():
                found[part] = (uniform[part, None] >= edge[place[part]]).sum(axis=1)
        return found, lengths


def _of_rows(n: int, rows: int) -> Labels:
    """Lengths of calls of so many rows; the last may be shorter."""
    return np.append(np.full(n // rows, rows), n % rows)


def calls(_: np.random.Generator, n: int) -> Labels:
    """Units of 32 predictions."""
    return np.arange(n) // CALL


def sessions(rng: np.random.Generator, n: int) -> Labels:
    """50 visitors at a time, each of geometric length 8, interleaved at random."""
    visitor = rng.integers(0, 50, n)
    ends = rng.random(n) < 1 / 8
    order = np.argsort(visitor, kind="stable")
    number = np.cumsum(ends[order]) + visitor[order]  # a new unit after each end, and each visitor
    unit = np.empty(n, np.int64)
    unit[order] = number
    return unit


def bursts(rng: np.random.Generator, n: int) -> Labels:
    """Units of 1 prediction, but every hundredth has 200."""
    lengths = np.where(rng.random(n) < 0.01, 200, 1)
    return np.repeat(np.arange(n), lengths)[:n]


def autocorrelated(rng: np.random.Generator, n: int) -> Labels:
    """Runs of geometric length 20, whatever the calls."""
    return np.cumsum(rng.random(n) < 1 / 20)


def _normalised(shares: Floats) -> Floats:
    return shares / shares.sum(axis=1, keepdims=True)


def rhythm(period: float, large: float = 0.4, small: float = 0.25) -> Callable[..., Floats]:
    """Two classes swing by +-40 %, two by +-25 %, over so many predictions."""

    def shares(rng: np.random.Generator, steps: int) -> Floats:
        phase = 2 * np.pi * (np.arange(steps) * STEP / period + rng.random())
        p = np.full((steps, CLASSES), 1 / CLASSES)
        for k, swing in ((0, large), (1, -large), (2, small), (3, -small)):
            p[:, k] *= 1 + swing * np.sin(phase)
        return _normalised(p)

    return shares


def weekends(day: float) -> Callable[..., Floats]:
    """Two days in seven one class has half, another one and a half times its share."""

    def shares(rng: np.random.Generator, steps: int) -> Floats:
        day_of_week = (np.arange(steps) * STEP / day + 7 * rng.random()) % 7
        weekend = day_of_week >= 5
        p = np.full((steps, CLASSES), 1 / CLASSES)
        p[weekend, 0] *= 0.5
        p[weekend, 1] *= 1.5
        return _normalised(p)

    return shares


def wander(hours: float, rate: float, deviation: float = 0.15) -> Callable[..., Floats]:
    """Log-shares follow an Ornstein-Uhlenbeck process with this time to forget."""

    def shares(rng: np.random.Generator, steps: int) -> Floats:
        from scipy.signal import lfilter

        keep = math.exp(-STEP / rate / (hours * 3600))
        noise = rng.normal(0, deviation * math.sqrt(1 - keep * keep), (steps, CLASSES))
        noise[0] = rng.normal(0, deviation, CLASSES)
        return _normalised(np.exp(lfilter([1], [1, -keep], noise, axis=0)))

    return shares


STREAMS = {
    "independent": Stream(),
    "batches, independent": Stream(calls=CALL),
    "batches, correlation 0.1": Stream(calls, 0.1, calls=None),
    "batches, correlation 0.5": Stream(calls, 0.5, calls=None),
    "batches, alike": Stream(calls, 1.0, calls=None),
    "batches, of one half": Stream(calls, 1.0, calls=None, groups=2),
    "sessions": Stream(sessions, 1.0),
    "bursts": Stream(bursts, 1.0, calls=None),
    "runs across calls": Stream(autocorrelated, 1.0, calls=CALL),
    "daily rhythm": Stream(shares=rhythm(100_000)),
    "weekends": Stream(shares=weekends(70_000)),
    "wander, 100/s": Stream(shares=wander(1, 100)),
    "wander, 1/s": Stream(shares=wander(1, 1), rate=1.0),
}
