"""A block: chunks that are worked out at once, as the bets read them.

>>> block = block_of_labels(np.array([7] * 30 + [5, 5] + [39] * 32), None, k=40)
>>> block.sizes.tolist(), block.rows.tolist(), block.classes.tolist(), block.number.tolist()
([32.0, 32.0], [0, 0, 1], [5, 7, 39], [2.0, 30.0, 32.0])
>>> half = block_of_labels(np.array([2] * 32), np.full(32, 0.5), k=3)
>>> half.sizes.tolist(), half.worth.tolist(), table_of(half).tolist()
([32.0], [16.0], [[0.0, 0.0, 16.0]])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import CHUNK, chunk_counts

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

NO_PLACES, NO_NUMBERS = np.zeros(0, np.intp), np.zeros(0)
FEW_CLASSES = 32
"""Up to so many classes nearly all are seen in a chunk, and it is quicker to work out all."""


class Block(NamedTuple):
    """Chunks of predictions: what classes each holds, and how it is read."""

    rows: Indices
    classes: Indices
    number: Floats
    """Chunk, class, and how many of it there are in it: chunk after chunk, class after class.
    Empty where there is a table."""
    sizes: Floats
    """Predictions in each chunk, shape (T,)."""
    worth: Floats
    """How many they count as, by what their calls are like: the sum of `number`, shape (T,)."""
    effect: Floats
    """Design effect that each is read with besides, shape (T,): so many count as one."""
    table: Floats | None
    """Counts of all classes, shape (T, K), where there are few."""

    @property
    def even(self) -> bool:
        """Whether all chunks count as much and have one design effect."""
        worth, effect = self.worth, self.effect
        return bool((worth == worth[0]).all() and (effect == effect[0]).all())

    def counts(self, column: Indices, columns: int) -> Floats:
        """Count groups of classes, of which class k is in `column[k]`: shape (T, columns)."""
        if self.table is not None:
            if columns == self.table.shape[1]:
                return self.table
            grouped = np.zeros((len(self.table), columns))
            for k, place in enumerate(column.tolist()):
                grouped[:, place] += self.table[:, k]
            return grouped
        cells = self.rows * columns + column[self.classes]
        least = len(self.sizes) * columns
        found: Any = np.bincount(cells, weights=self.number, minlength=least)
        return found.reshape(-1, columns)

    def part(self, first: int, end: int) -> Block:
        """Give some of the chunks."""
        if end - first == len(self.sizes):
            return self
        of = slice(*np.searchsorted(self.rows, (first, end)).tolist())
        chunks = slice(first, end)
        return Block(
            self.rows[of] - first,
            self.classes[of],
            self.number[of],
            self.sizes[chunks],
            self.worth[chunks],
            self.effect[chunks],
            None if self.table is None else self.table[chunks],
        )


def block_of_counts(counts: Floats, sizes: Floats | None = None) -> Block:
    """Make a block of counts (T, K), none empty; of so many predictions, if not of the sum."""
    worth: Floats = counts.sum(axis=1)
    of, effect = worth if sizes is None else sizes, np.ones(len(counts))
    if counts.shape[1] <= FEW_CLASSES:
        return Block(NO_PLACES, NO_PLACES, NO_NUMBERS, of, worth, effect, counts)
    rows, classes = np.nonzero(counts)
    return Block(rows, classes, counts[rows, classes], of, worth, effect, None)


def block_of_labels(labels: NDArray[np.int64], worth: Floats | None, k: int) -> Block:
    """Make a block of labels of whole chunks, and of what each label counts as, if not 1."""
    chunks = len(labels) // CHUNK
    sizes = np.full(chunks, float(CHUNK))
    if worth is not None and bool((worth != 1).any()):
        return block_of_counts(chunk_counts(labels, k, worth), sizes)
    if k <= FEW_CLASSES:
        counts, ones = chunk_counts(labels, k), np.ones(chunks)
        return Block(NO_PLACES, NO_PLACES, NO_NUMBERS, sizes, sizes, ones, counts)
    # Sorted within each chunk, classes that are seen often stand beside each other.
    ordered = np.sort(labels.reshape(chunks, CHUNK), axis=1)
    new = np.ones(ordered.shape, bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    places = np.flatnonzero(new)
    number = np.diff(places, append=len(labels)).astype(np.float64)
    found = ordered.reshape(-1)[places]
    return Block(places // CHUNK, found, number, sizes, sizes, np.ones(chunks), None)


def table_of(block: Block) -> Floats:
    """Give the counts of all classes, where there are few: shape (T, K)."""
    if block.table is None:
        raise ValueError("a block of many classes has no table")
    return block.table
