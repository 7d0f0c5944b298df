"""The classes that get series of their own: at most 100, the rest is exported as ``other``.

>>> names = (*map(str, range(298)), "other", "invalid")
>>> exported = exported_classes(names, None, 0.2)
>>> len(exported.classes), exported.classes[-3:]
(102, ('99', 'other', 'invalid'))
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.band import Floats
from otel_drift.drift.reference import RESERVED, ReferenceDistribution

MAXIMUM_EXPORTED = 100


class Exported(NamedTuple):
    """The classes that get series of their own, the baseline of each and its tolerated band."""

    classes: tuple[str, ...]
    position: NDArray[np.intp]
    """Position among `classes` of each of the K classes that are watched."""
    baseline: ReferenceDistribution | None
    lower: Floats
    upper: Floats


def exported_classes(
    classes: tuple[str, ...], baseline: ReferenceDistribution | None, tolerance: float
) -> Exported:
    """Choose the classes: the commonest in the baseline, in their order.

    Parameters
    ----------
    classes
        All K that are watched, ``other`` and ``invalid`` among them.
    baseline
        Of the same classes, or None.
    tolerance
        Relative change of a class's share that does not matter.
    """
    names, index = classes, np.arange(len(classes))
    if len(classes) > MAXIMUM_EXPORTED + len(RESERVED):
        names, index = _capped(classes, baseline)
    if baseline is None:
        empty = np.zeros(0)
        return Exported(names, index, None, empty, empty)
    pooled = baseline.pooled(index, names)
    lower, upper = pooled.tolerated_band(tolerance)
    return Exported(names, index, pooled, lower, upper)


def _capped(
    classes: tuple[str, ...], baseline: ReferenceDistribution | None
) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    own = [k for k, name in enumerate(classes) if name not in RESERVED]
    if baseline is not None:
        own.sort(key=lambda k: -float(baseline.proportions[k]))
    kept = sorted(own[:MAXIMUM_EXPORTED])
    names = tuple(classes[k] for k in kept) + RESERVED
    index = np.full(len(classes), len(kept), dtype=np.intp)
    index[kept] = np.arange(len(kept))
    index[classes.index("invalid")] = len(kept) + 1
    return names, index
