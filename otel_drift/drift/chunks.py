"""Streams of labels and counts: checked, and cut into chunks.

>>> chunk_counts(np.array([0, 1] * 16 + [1, 1] * 16), 2).tolist()
[[16.0, 16.0], [0.0, 32.0]]
>>> checked_labels([0, 7], 3)
Traceback (most recent call last):
...
ValueError: labels[1]=7: must be a whole number from 0 to 2
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.drift.reference import INVALID

CHUNK = 32
"""Predictions in a chunk: bets change between chunks only."""


def chunk_counts(
    labels: NDArray[np.int64], k: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Count whole chunks of labels, each once or by its weight: shape (T, K)."""
    chunks = len(labels) // CHUNK
    cells = labels.reshape(chunks, CHUNK) + np.arange(0, chunks * k, k)[:, None]
    counts = np.bincount(cells.reshape(-1), weights, minlength=chunks * k)
    return counts.reshape(chunks, k).astype(np.float64, copy=False)


def as_labels(values: NDArray[Any]) -> NDArray[np.int64]:
    """Read whole numbers of any shape and type as labels; what is not finite and whole is invalid.

    Raises
    ------
    ValueError
        If the values are not real numbers.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind in "iub":
        return flat.astype(np.int64)
    if flat.dtype.kind not in "fV":  # V: the types of ml_dtypes, such as bfloat16
        raise ValueError(f"labels of type {flat.dtype}: must be whole numbers")
    number = flat.astype(np.float64)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(number) & (number == np.floor(number)) & (np.abs(number) < 2**62)
    return np.where(whole, number, INVALID).astype(np.int64)


def checked_labels(labels: ArrayLike, k: int) -> NDArray[np.int64]:
    """Check labels of shape (n,).

    Raises
    ------
    ValueError
        If one is not a whole number from 0 to k - 1, or the shape is another.
    """
    values = _whole(labels, "labels")
    if values.ndim != 1:
        raise ValueError(f"labels of shape {values.shape}: must be one-dimensional, like (100,)")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < k:
        place = int(((values < 0) | (values >= k)).argmax())
        raise ValueError(
            f"labels[{place}]={values[place]}: must be a whole number from 0 to {k - 1}"
        )
    return values.astype(np.int64, copy=False)


def checked_counts(counts: ArrayLike, k: int) -> NDArray[Any]:
    """Check counts of shape (K,) or (T, K), and give them as (T, K).

    Raises
    ------
    ValueError
        If one is not a whole number from 0, or the shape is another.
    """
    values = _whole(counts, "counts")
    if values.ndim not in (1, 2) or values.shape[-1] != k:
        raise ValueError(
            f"counts of shape {values.shape}: must be ({k},), or (T, {k}) for T chunks"
        )
    if (values < 0).any():
        place = np.unravel_index(int((values < 0).argmax()), values.shape)
        where = ", ".join(str(int(i)) for i in place)
        raise ValueError(f"counts[{where}]={values[place]}: must be a whole number from 0")
    return np.atleast_2d(values)


def _whole(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array of whole numbers, or raise a ValueError that names the first other value."""
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind in "biu" or array.size == 0:
        return array.astype(np.int64) if array.size == 0 else array
    if array.dtype.kind != "f":
        raise ValueError(f"{name} of type {array.dtype}: must be whole numbers")
    wrong = ~np.isfinite(array) | (array != np.floor(array))
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), array.shape)
        where = ", ".join(str(int(i)) for i in place)
        raise ValueError(f"{name}[{where}]={array[place]}: must be a whole number")
    return array
