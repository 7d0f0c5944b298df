"""The reference distribution: the class shares that predictions are compared with.

>>> import numpy as np
>>> pets = ReferenceDistribution(("cat", "dog"), np.array([0.6, 0.4]), np.array([120, 80]))
>>> pets.size
200
>>> [edge.round(3).tolist() for edge in pets.tolerated_band(0.1)]
[[0.499, 0.304], [0.696, 0.501]]

`otel_drift.Baseline` is a reference distribution that knows of which output of which model it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.band import DEFAULT_TOLERANCE, Floats, tolerated_band
from otel_drift.drift.variation import Variation

MAXIMUM_CLASSES = 10_000
RESERVED = ("other", "invalid")
"""Classes that every watched output has besides its own."""
INVALID = -1
"""Label of a prediction that holds NaN or infinity, or lies outside the known classes."""
OTHER = -2
"""Label of a prediction whose class the reference does not name."""
UNSEEN_UPPER = 0.001
"""Share up to which a class that is known not to occur may still occur."""


@dataclass(frozen=True, eq=False)
class ReferenceDistribution:
    """Class shares, known exactly or counted from predictions.

    Attributes
    ----------
    classes
        Names of the K classes.
    proportions
        Shape (K,), summing to 1.
    counts
        Shape (K,): the predictions they were counted from. None where they are known exactly.
    variation
        How the stream varies while nothing is wrong; None where no log has told.

    Raises
    ------
    ValueError
        If there are fewer than 2 classes or more than 10,000, two have one name, or there are not
        as many proportions.
    """

    classes: tuple[str, ...]
    proportions: Floats
    counts: NDArray[np.int64] | None = None
    variation: Variation | None = None

    def __post_init__(self) -> None:
        k, most = len(self.classes), MAXIMUM_CLASSES + len(RESERVED)
        if len(self.proportions) != k:
            raise ValueError(
                f"field 'classes' names {k} classes, "
                f"but there are {len(self.proportions)} proportions or counts"
            )
        if not 2 <= k <= most:
            raise ValueError(f"field 'classes' has {k} classes: must be 2 to {MAXIMUM_CLASSES}")
        if len(set(self.classes)) < k:
            twice = next(name for name, times in Counter(self.classes).items() if times > 1)
            raise ValueError(f"field 'classes' names {twice!r} twice")
        if self.variation is not None and len(self.variation.lower) != k:
            raise ValueError(
                f"field 'classes' names {k} classes, "
                f"but the hull of the variation has {len(self.variation.lower)}"
            )
        self.proportions.flags.writeable = False
        if self.counts is not None:
            self.counts.flags.writeable = False

    @property
    def size(self) -> int | None:
        """Predictions it was counted from; None where the proportions are known exactly."""
        return None if self.counts is None else int(self.counts.sum())

    @cached_property
    def fingerprint(self) -> str:
        """Digest of classes and counts (or proportions): equal for equal references only."""
        numbers = self.proportions if self.counts is None else self.counts
        known: list[Any] = [self.counts is None, self.classes, numbers.tolist()]
        if (variation := self.variation) is not None:
            known += [
                variation.design_effect,
                variation.design_effects,
                variation.lower.tolist(),
                variation.upper.tolist(),
            ]
            if variation.calls is not None:
                known.append(variation.calls.to_json())
        content = json.dumps(known)
        return hashlib.sha256(content.encode()).hexdigest()

    def tolerated_band(self, tolerance: float = DEFAULT_TOLERANCE) -> tuple[Floats, Floats]:
        """Edges of the distributions that count as not moved, each of shape (K,).

        Parameters
        ----------
        tolerance
            Relative change d of a class's share that does not matter, above 0 and below 1.

        Returns
        -------
        lower, upper
            As of `otel_drift.drift.band.tolerated_band`; ``other``, ``invalid`` and what is known
            not to occur may have a share of 0.1 % all the same.

        Raises
        ------
        ValueError
            If the tolerance is not between 0 and 1.
        """
        lower, upper = tolerated_band(self.proportions, self.counts, tolerance, self.variation)
        unseen = self.proportions == 0
        if self.counts is not None:
            unseen &= np.array([name in RESERVED for name in self.classes])
        return lower, np.where(unseen, np.maximum(upper, UNSEEN_UPPER), upper)

    def starting_proportions(self) -> Floats:
        """Where bets on a change start from: shape (K,), all above 0, summing to 1.

        Half a count is added to each class that was counted (Krichevsky and Trofimov); a class
        known not to occur gets half of the share that it may have.
        """
        if self.counts is not None:
            return (self.counts + 0.5) / (self.counts.sum() + len(self.classes) / 2)
        start = np.where(self.proportions == 0, UNSEEN_UPPER / 2, self.proportions)
        return start / start.sum()

    def with_reserved_classes(self) -> Self:
        """Give the same with the classes ``other`` and ``invalid`` added, unseen."""
        missing = tuple(name for name in RESERVED if name not in self.classes)
        zeros = np.zeros(len(missing))
        return replace(
            self,
            classes=self.classes + missing,
            proportions=np.concatenate([self.proportions, zeros]),
            counts=None
            if self.counts is None
            else np.concatenate([self.counts, zeros.astype(np.int64)]),
            variation=None
            if self.variation is None
            else replace(
                self.variation,
                lower=np.concatenate([self.variation.lower, zeros]),
                upper=np.concatenate([self.variation.upper, zeros]),
            ),
        )

    def pooled(self, index: NDArray[np.intp], classes: Sequence[str]) -> Self:
        """Give the same of fewer classes: class k goes to ``classes[index[k]]``."""

        def pool(values: NDArray[Any]) -> Floats:
            sums = np.bincount(index, weights=values, minlength=len(classes))
            return sums.astype(np.float64)

        return replace(
            self,
            classes=tuple(classes),
            proportions=pool(self.proportions),
            counts=None if self.counts is None else np.rint(pool(self.counts)).astype(np.int64),
            variation=None
            if self.variation is None
            else replace(
                self.variation,
                lower=pool(self.variation.lower),
                upper=np.minimum(1.0, pool(self.variation.upper)),
            ),
        )


def class_counts(classes: Sequence[str]) -> frozenset[int]:
    """How many classes an output may have that is compared: all, or all but ``invalid`` at the end.

    >>> sorted(class_counts(("cat", "dog", "invalid")))
    [2, 3]
    """
    return frozenset({len(classes), len(classes) - int(classes[-1] in RESERVED)})
