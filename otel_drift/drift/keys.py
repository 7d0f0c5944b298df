"""Predictions of one unit, such as a visit: which is the first, and how many there are.

What one visitor is predicted says little new after the first time. Where a key tells which unit
each prediction is of, the first of each is tested and the others are counted only: first ones of
units that are independent of each other are independent.

>>> import numpy as np
>>> keys = Keys()
>>> keys.first(np.array([11, 12, 11])).tolist()
[True, True, False]
>>> keys.first(np.array([12, 13])).tolist()
[False, True]
>>> keys.design_effect  # units of 2, 2 and 1 predictions
1.8
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

REMEMBERED = 10_000
"""Units whose predictions were the newest; one that is forgotten counts as new when it returns."""


class Keys:
    """The units that were seen, by the hashes of their keys."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._predictions = 0
        self._squares = 0

    def __copy__(self) -> Keys:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def design_effect(self) -> float:
        """Sum of squares of the sizes of units over their sum; 1 where there are no keys.

        It is the design effect of units within which all predictions are alike, and a limit of it
        for others (Kish, Survey Sampling, 1965).
        """
        return self._squares / self._predictions if self._predictions else 1.0

    def first(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Take the keys of some predictions, shape (n,); tell which are the first of their unit."""
        sizes = self._sizes
        found = np.zeros(len(keys), np.bool_)
        for row, key in enumerate(keys.tolist()):
            size = sizes.get(key, 0)
            found[row] = size == 0
            sizes[key] = size + 1
            sizes.move_to_end(key)
            self._squares += 2 * size + 1
        self._predictions += len(keys)
        while len(sizes) > REMEMBERED:
            sizes.popitem(last=False)
        return found


def hashed(key: Any, rows: int) -> NDArray[np.int64]:
    """Give the hash of each row's key, so that nothing of the user's is kept.

    Parameters
    ----------
    key
        One key for all rows (a text, a number), or one a row.
    rows
        How many there are.

    Raises
    ------
    ValueError
        If there are more keys or fewer than rows.
    TypeError
        If a key cannot be hashed.
    """
    if isinstance(key, str | bytes) or not isinstance(key, Iterable):
        return np.full(rows, hash(key), np.int64)
    several = cast(Iterable[Any], key)
    values = list(several.tolist() if isinstance(several, np.ndarray) else several)
    if len(values) != rows:
        raise ValueError(f"{len(values)} keys for {rows} predictions: must be one each, or one")
    return np.array([hash(value) for value in values], np.int64)
