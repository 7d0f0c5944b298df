"""What an alarm says: how sure it is, which classes moved, and since when.

>>> shifts = (
...     ClassShift(4, 0.1, 0.3, 0.7),
...     ClassShift(2, 0.2, 0.1, 0.25),
...     ClassShift(0, 0.3, 0.28, 0.05),
... )
>>> [one.position for one in most_moved(shifts)]  # what accounts for nine tenths of the change
[4, 2]
>>> round(shifts[0].ratio, 3)
3.0
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.projection import nearest_tolerated

Floats = NDArray[np.float64]

CONTRIBUTING_CLASSES = 10
"""Classes whose contribution to a change is worked out, the largest ones."""
MOST = 0.9
"""Part of a change that is accounted for by naming classes."""
NAMED_CLASSES = 3

QUIET = 320
"""Predictions without an alarm after which drift may have ended, at the least."""
QUIET_GAPS = 3
"""The same in gaps between alarms, of which so many are remembered."""


class ClassShift(NamedTuple):
    """What the evidence says about one class."""

    position: int
    """Place of the class in the baseline."""
    baseline: float
    """Proportion that the bets start from."""
    estimate: float
    """Proportion now: the mean of all bets, each by its share of the evidence."""
    contribution: float
    """Share of this class in the divergence of the estimate from the tolerated band, 0 to 1."""

    @property
    def ratio(self) -> float:
        """Estimated share now over the share in the baseline."""
        return self.estimate / self.baseline


class Explanation(NamedTuple):
    """What moved, and since when."""

    age: int
    """Estimated number of predictions since the drift began."""
    classes: tuple[int, ...]
    """The most probable class, or two classes, to have moved: places in the baseline."""
    probability: float
    """Posterior probability of `classes`, given that one class moved or two alike."""
    contributions: tuple[ClassShift, ...]
    """The classes that contribute most, in descending order."""

    def plain(self) -> list[Any]:
        """Give what JSON can hold, and `read` reads."""
        shifts = [list(one) for one in self.contributions]
        return [self.age, list(self.classes), self.probability, shifts]

    @classmethod
    def read(cls, plain: Any, classes: int) -> Explanation:
        """Read what `plain` gave, where there are so many classes.

        Raises
        ------
        TypeError, ValueError
            If it is none.
        """
        age, named, probability, contributions = plain
        shifts = tuple(ClassShift(int(k), *map(float, numbers)) for k, *numbers in contributions)
        found = cls(int(age), tuple(int(k) for k in named), float(probability), shifts)
        places = (*found.classes, *(one.position for one in shifts))
        numbers = (probability, *(number for one in shifts for number in one[1:]))
        if not all(0 <= k < classes for k in places) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"explanation {plain!r}")
        return found

    @property
    def moved(self) -> tuple[ClassShift, ...]:
        """The few classes that account for most of the change."""
        return most_moved(self.contributions)


class Alarm(NamedTuple):
    """The evidence has passed the threshold."""

    prediction: int
    """Number of predictions seen when it did."""
    evidence: float
    """log10 of the evidence."""
    age: int
    """Estimated number of predictions since the drift began; the same drift for all its alarms."""
    classes: tuple[int, ...]
    """The most probable class, or two classes, to have moved: places in the baseline."""
    probability: float
    """Posterior probability of `classes`, given that one class moved or two alike."""
    contributions: tuple[ClassShift, ...]
    """The classes that contribute most, in descending order."""

    @property
    def moved(self) -> tuple[ClassShift, ...]:
        """The few classes that account for most of the change."""
        return most_moved(self.contributions)


NOTHING_MOVED = Explanation(0, (), 0.0, ())


def most_moved(contributions: Sequence[ClassShift]) -> tuple[ClassShift, ...]:
    """Give the classes that together make up nine tenths of a change, at most 3."""
    named: list[ClassShift] = []
    for shift in contributions[:NAMED_CLASSES]:
        if sum(one.contribution for one in named) >= MOST:
            break
        named.append(shift)
    return tuple(named)


def contributions_of(
    base: Floats, estimate: Floats, lower: Floats, upper: Floats
) -> tuple[ClassShift, ...]:
    """Split the divergence of the estimate from the band over the classes, largest first.

    ``KL(q || p*) = sum_k (q_k log(q_k / p*_k) - q_k + p*_k)``, each term at least 0.
    """
    q = estimate / estimate.sum()
    nearest = nearest_tolerated(q, lower, upper)
    terms = np.maximum(q * np.log(q / nearest) - q + nearest, 0)
    total = float(terms.sum())
    shares = terms / total if total > 0 else terms
    largest = np.argsort(-shares, kind="stable")[:CONTRIBUTING_CLASSES]
    columns = (largest, base[largest], q[largest], shares[largest])
    return tuple(map(ClassShift, *(column.tolist() for column in columns)))


@dataclass
class Episode:
    """Whether a drift goes on: decided in predictions, not in time.

    >>> episode = Episode()
    >>> episode.alarm(1_000, age=200), episode.active(1_500), episode.active(1_600)
    (800, True, False)
    """

    last_alarm: int | None = None
    started: int | None = None
    gaps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._last_until()

    def _last_until(self) -> None:
        # Asked for at each alarm, of which there may be one in every chunk.
        self.until = 0
        """Number of predictions at which the drift is over if there is no alarm before."""
        if self.last_alarm is not None:
            self.until = self.last_alarm + max(QUIET, QUIET_GAPS * max(self.gaps))

    def active(self, prediction: int) -> bool:
        """Whether the drift of the last alarm goes on at this number of predictions."""
        return prediction < self.until

    def alarm(self, prediction: int, age: int) -> int:
        """Take an alarm, and return the number of the prediction at which its drift began."""
        if self.started is not None and self.last_alarm is not None and prediction < self.until:
            self.gaps = (*self.gaps, prediction - self.last_alarm)[-QUIET_GAPS:]
        else:
            self.started = prediction - min(age, prediction)
            self.gaps = (age,)
        self.last_alarm = prediction
        self._last_until()
        return self.started

    def follow(self, predictions: Sequence[int], first: int, until: int) -> int:
        """Take alarms that follow the last one closely, from one of several on; say how many.

        None is taken at `until` predictions or after. One that comes sooner than `QUIET` is of the
        same drift, whatever was before it.
        """
        last, end = predictions[first - 1], first
        while end < len(predictions):
            now = predictions[end]
            if now >= until or now - last >= QUIET:
                break
            last, end = now, end + 1
        if end > first:
            newest = predictions[max(first, end - QUIET_GAPS) - 1 : end]
            gaps = (after - before for before, after in itertools.pairwise(newest))
            self.gaps = (*self.gaps, *gaps)[-QUIET_GAPS:]
            self.last_alarm = last
            self._last_until()
        return end - first
