"""The classes that get series of their own: at most 100, the rest is exported as ``other``.

So is a class whose name is no name for a label: longer than 256 characters.

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
LONGEST_NAME = 256
"""Characters: a longer name would be sent with each of its series, and Prometheus may refuse it."""


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
    too_long = any(len(name) > LONGEST_NAME for name in classes)
    if too_long or len(classes) > MAXIMUM_EXPORTED + len(RESERVED):
        names, index = _capped(classes, baseline)
    if baseline is None:
        empty = np.zeros(0)
        return Exported(names, index, None, empty, empty)
    pooled = baseline.pooled(index, names)
    lower, upper = pooled.tolerated_band(tolerance)
    return Exported(names, index, pooled, lower, upper)


def narrowed(exported: Exported, own: frozenset[str], tolerance: float) -> Exported:
    """Give series of their own to fewer classes: the rest is added to ``other``.

    Parameters
    ----------
    exported
        What there is.
    own
        The classes that keep their series; ``other`` and ``invalid`` always do.
    tolerance
        As of `exported_classes`.

    Examples
    --------
    >>> digits = exported_classes((*"0123", "other", "invalid"), None, 0.2)
    >>> few = narrowed(digits, frozenset("13"), 0.2)
    >>> few.classes, few.position.tolist()
    (('1', '3', 'other', 'invalid'), [2, 0, 2, 1, 2, 3])
    """
    names = tuple(name for name in exported.classes if name in own and name not in RESERVED)
    names += RESERVED
    other = len(names) - len(RESERVED)
    place = {name: position for position, name in enumerate(names)}
    index = np.array([place.get(name, other) for name in exported.classes], dtype=np.intp)
    position = index[exported.position]
    if exported.baseline is None:
        return exported._replace(classes=names, position=position)
    pooled = exported.baseline.pooled(index, names)
    lower, upper = pooled.tolerated_band(tolerance)
    return Exported(names, position, pooled, lower, upper)


def by_baseline_share(exported: Exported) -> list[str]:
    """Give the classes that are not reserved, the commonest in the baseline first."""
    own = [k for k, name in enumerate(exported.classes) if name not in RESERVED]
    if exported.baseline is not None:
        shares = exported.baseline.proportions
        own.sort(key=lambda k: -float(shares[k]))
    return [exported.classes[k] for k in own]


def _capped(
    classes: tuple[str, ...], baseline: ReferenceDistribution | None
) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    own = [
        k for k, name in enumerate(classes) if name not in RESERVED and len(name) <= LONGEST_NAME
    ]
    if baseline is not None:
        own.sort(key=lambda k: -float(baseline.proportions[k]))
    kept = sorted(own[:MAXIMUM_EXPORTED])
    names = tuple(classes[k] for k in kept) + RESERVED
    index = np.full(len(classes), len(kept), dtype=np.intp)
    index[kept] = np.arange(len(kept))
    index[classes.index("invalid")] = len(kept) + 1
    return names, index
