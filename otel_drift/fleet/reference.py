"""The baseline as the fleet's detector needs it: of the classes that are exported, with their band.

What processes export of their baseline is enough to make it anew: shares, the edges of the
tolerated band, and how many predictions were counted.

>>> from otel_drift import Baseline
>>> pets = exported_reference(Baseline.from_counts([120, 80], ["cat", "dog"]), 0.1)
>>> pets.classes
('cat', 'dog', 'other', 'invalid')
>>> [edge.round(3).tolist() for edge in pets.tolerated_band()]
[[0.491, 0.297, 0.0, 0.0], [0.703, 0.509, 0.033, 0.033]]
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from otel_drift.drift.band import DEFAULT_TOLERANCE, Floats
from otel_drift.drift.design_effect import LENGTHS
from otel_drift.drift.exported_classes import exported_classes
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.variation import Variation

ROUNDING = 1e-9
WHOLE = 1e-3
"""How far from 1 shares may add up to: more means that replicas have other classes."""


@dataclass(frozen=True, eq=False)
class ExportedReference(ReferenceDistribution):
    """Class shares with the edges of their band as they were exported.

    Attributes
    ----------
    lower, upper
        Edges of the tolerated band, shape (K,); no tolerance is needed to know them.

    Raises
    ------
    ValueError
        If shares do not add up to 1, or one lies outside its band.
    """

    lower: Floats = field(kw_only=True)
    upper: Floats = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        total = float(self.proportions.sum())
        if not abs(total - 1) <= WHOLE:
            raise ValueError(f"shares add up to {total:.4g}: replicas have different classes")
        inside = (self.lower >= 0) & (self.lower <= self.proportions + ROUNDING)
        inside &= (self.proportions <= self.upper + ROUNDING) & (self.upper <= 1)
        if not inside.all():
            name = self.classes[int(np.argmin(inside))]
            raise ValueError(f"class {name!r}: its share lies outside its band")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of classes, counts (or proportions) and edges; the design effect may change."""
        numbers = self.proportions if self.counts is None else self.counts
        known = [self.classes, numbers.tolist(), self.lower.tolist(), self.upper.tolist()]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    @property
    def design_effect(self) -> float | None:
        """Predictions that are known to count as one; None where nobody has told."""
        return None if self.variation is None else self.variation.design_effect

    def tolerated_band(self, tolerance: float = DEFAULT_TOLERANCE) -> tuple[Floats, Floats]:  # noqa: ARG002
        """Edges as they were exported, each of shape (K,): the tolerance is in them."""
        return self.lower, self.upper

    def with_design_effect(self, design_effect: float | None) -> Self:
        """Give the same, with predictions that count as fewer."""
        if design_effect is None:
            return replace(self, variation=None)
        known = Variation(
            design_effect, (design_effect,) * LENGTHS, self.lower.copy(), self.upper.copy(), 0, 0
        )
        return replace(self, variation=known)


def exported_reference(
    baseline: ReferenceDistribution, tolerance: float = DEFAULT_TOLERANCE
) -> ExportedReference:
    """Give a baseline as processes export it: ``other`` and ``invalid`` added, rare classes pooled.

    Parameters
    ----------
    baseline
        Of all classes.
    tolerance
        Relative change of a class's share that does not matter.

    Raises
    ------
    ValueError
        If the tolerance is not between 0 and 1.
    """
    if isinstance(baseline, ExportedReference):
        return baseline
    watched = baseline.with_reserved_classes()
    exported = exported_classes(watched.classes, watched, tolerance)
    pooled = exported.baseline
    assert pooled is not None  # there is one where a baseline is given  # noqa: S101
    known = ExportedReference(
        pooled.classes,
        pooled.proportions.copy(),
        None if pooled.counts is None else pooled.counts.copy(),
        lower=exported.lower,
        upper=exported.upper,
    )
    variation = watched.variation
    return known.with_design_effect(None if variation is None else variation.design_effect)
