"""The learnt bets of the sequential detector: what was seen lately, as distributions to bet on.

Counts of the past fade with several memories. From each a bet on any change is made, or on a change
of the few classes that stand out, as it is at the beginning of a *lesson*: a chunk, or several
where there are many classes.

>>> from otel_drift.drift.block import block_of_labels
>>> base = np.full(3, 1 / 3)
>>> labels, worth = np.zeros(320, np.int64), np.ones(320)
>>> learnt, lesson = memories_of(base * 0.8).take(block_of_labels(labels, worth, 3))
>>> bets = learnt_bets(learnt, base)
>>> bets[[0, 9], 0].round(2).tolist()  # from the baseline towards what is seen
[[0.33, 0.33, 0.33], [0.93, 0.04, 0.04]]

Where there are many classes, it is also learnt how long each has not been seen: a class that is
expected once in a thousand predictions is missed long before its faded count says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.block import FEW_CLASSES, Block, table_of
from otel_drift.drift.projection import projection_scales
from otel_drift.drift.segments import SEGMENT, cut

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Indices = NDArray[np.intp]

MEMORIES = (200.0, 1_000.0, 5_000.0, 300.0)
"""Predictions after which what was learnt has faded to 1/e."""
LINEAR, LINEAR_WEIGHTS, LINEAR_PRIOR = (0, 1, 2), (0.09, 0.09, 0.05), 20.0
"""Learnt, any change: places in MEMORIES, weights, predictions that the baseline counts for."""
SPARSE, SPARSE_WEIGHTS, SPARSE_PRIOR = (3, 1), (0.11, 0.11), 3.0
"""Learnt, a change of the few classes that stand out."""
STANDS_OUT = (1.5, 2.0)
"""Standard deviations from which on a class stands out, of each."""
ABSENT, ABSENT_WEIGHTS, ABSENT_RATIO = (0.01, 0.1), (0.04, 0.04), 0.02
"""Learnt, classes lost, where there are many: probability beforehand that one is, weights, and the
least of its share that is left to it."""

MISSED = np.float32(2.0**-10)
"""Unit of the number of times that a class was missed."""

MANY_CLASSES = 250
CLASSES_PER_CHUNK, MAXIMUM_LESSON = 125, 8
"""Learnt bets change every chunk below 250 classes, every fourth at 500, every eighth from 1,000
on: working them out is what costs most, and many classes are learnt slowly anyway."""

AT_ONCE = 2**17
"""Numbers worked out at once: enough to amortise what NumPy takes to start."""


def learnt_weights(k: int) -> tuple[float, ...]:
    """Weights of the learnt bets on k classes, before all weights are made to sum to 1."""
    few = LINEAR_WEIGHTS + SPARSE_WEIGHTS
    return few + ABSENT_WEIGHTS if k >= MANY_CLASSES else few


def memories_of(lower: Floats) -> ShortLessons | LongLessons:
    """Choose how to learn classes with these lower edges of the band, shape (K,)."""
    return LongLessons(lower) if len(lower) >= MANY_CLASSES else ShortLessons(len(lower))


class LongLessons:
    """Many classes: what was seen, learnt every few chunks, and how long each class was not.

    The latter is the number of times that a class should have been seen since it last was, if its
    share were at the lower edge of its band.

    Parameters
    ----------
    lower
        Lower edges of the band, shape (K,).
    """

    def __init__(self, lower: Floats) -> None:
        self._chunks = min(MAXIMUM_LESSON, len(lower) // CLASSES_PER_CHUNK)
        self._lower = lower
        self._faded = np.zeros((len(MEMORIES), len(lower)), np.float32)
        self._missed = np.zeros(len(lower), np.uint16)
        """In units of `MISSED`, up to 64 times."""
        self._unlearnt = np.zeros(len(lower), np.float32)
        """Counts of the lesson that has begun."""
        self._unlearnt_chunks = np.zeros(1, np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is remembered, by name."""
        return {
            "learnt": self._faded,
            "missed": self._missed,
            "unlearnt": self._unlearnt,
            "unlearnt_chunks": self._unlearnt_chunks,
        }

    def learnt(self) -> Floats32:
        """Faded counts and times missed as they are now, shape (memories + 1, K)."""
        return np.vstack([self._faded, self._missed * MISSED])

    def take(self, block: Block) -> tuple[Floats32, Indices]:
        """Learn chunks, and return what their bets rest on.

        Returns
        -------
        learnt
            Shape (lessons, memories + 1, K): faded counts, and times missed, as at the beginning of
            each lesson.
        lesson
            Shape (T,): the lesson that each chunk is in.
        """
        begun = int(self._unlearnt_chunks[0])
        lesson = (begun + np.arange(len(block.sizes))) // self._chunks
        complete, left = divmod(begun + len(lesson), self._chunks)
        seen = seen_in(block, lesson, len(self._missed))
        seen[0] += self._unlearnt
        self._unlearnt[:] = seen[-1] if left else 0
        self._unlearnt_chunks[:] = left
        learnt = np.empty((complete + 1, len(MEMORIES) + 1, len(self._missed)), np.float32)
        learnt[0] = self.learnt()
        for before, after, new in zip(learnt, learnt[1:], seen[:complete], strict=False):
            size = new.sum()
            np.multiply(before[:-1], kept_of(size), out=after[:-1])
            np.add(after[:-1], new.astype(np.float32), out=after[:-1])
            missed = np.minimum(self._missed + np.floor(size * self._lower / MISSED), 2**16 - 1)
            self._missed[:] = np.where(new > 0, 0, missed)
            np.multiply(self._missed, MISSED, out=after[-1])
        self._faded[:] = learnt[-1, :-1]
        return learnt[: lesson[-1] + 1], lesson


class ShortLessons:
    """Not so many: what was seen, learnt after each chunk.

    What a memory holds is ``local + kept * start``: of what it held at the start of a segment, part
    is kept. Segments end after every 32nd chunk of the stream, however that is cut into calls.

    Parameters
    ----------
    k
        Number of classes.
    """

    def __init__(self, k: int) -> None:
        self._start, self._local = np.zeros((2, len(MEMORIES), k), np.float32)
        self._kept = np.ones((len(MEMORIES), 1), np.float32)
        self._lessons = np.zeros(1, np.int64)
        """Lessons of the segment so far."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is remembered, by name."""
        return {
            "learnt_start": self._start,
            "learnt_local": self._local,
            "learnt_kept": self._kept,
            "segment_lessons": self._lessons,
        }

    def learnt(self) -> Floats32:
        """Faded counts as they are now, shape (memories, K)."""
        return np.add(self._local, self._kept * self._start, dtype=np.float32)

    def take(self, block: Block) -> tuple[Floats32, Indices]:
        """Learn chunks, and return what their bets rest on.

        Returns
        -------
        learnt
            Shape (T, memories, K): faded counts, as at the beginning of each chunk.
        lesson
            Shape (T,): the place of each chunk in it.
        """
        lesson = np.arange(len(block.sizes))
        seen = seen_in(block, lesson, self._local.shape[1])
        keep = kept_of(seen.sum(axis=1)[:, None, None])
        learnt = np.empty((len(lesson) + 1, *self._local.shape), np.float32)
        learnt[0] = self.learnt()
        seen = seen.astype(np.float32)[:, None]
        for first, end, whole in cut(len(lesson), int(self._lessons[0])):
            fade = self._fade_segments if whole else self._fade_lessons
            fade(learnt[first + 1 : end + 1], keep[first:end], seen[first:end])
        return learnt[:-1], lesson

    def _fade_lessons(self, learnt: Floats32, keep: Floats32, seen: Floats32) -> None:
        """Write what the memories hold after each lesson of a segment that is not whole."""
        kept, local, factor = np.empty_like(keep), self._local, self._kept
        for after, kept_after, part, new in zip(learnt, kept, keep, seen, strict=True):
            local = np.multiply(local, part, out=after)
            np.add(local, new, out=local)
            factor = np.multiply(factor, part, out=kept_after)
        self._local[:], self._kept[:] = local, factor
        learnt += kept * self._start
        self._lessons += len(learnt)
        if self._lessons[0] == SEGMENT:
            self._start[:] = learnt[-1]
            self._local[:], self._kept[:], self._lessons[:] = 0, 1, 0

    def _fade_segments(self, learnt: Floats32, keep: Floats32, seen: Floats32) -> None:
        """Write the same of whole segments, side by side."""
        learnt, keep, seen = (
            values.reshape(-1, SEGMENT, *values.shape[1:]) for values in (learnt, keep, seen)
        )
        if (keep == keep[0, 0]).all():  # in rows of all memories and classes NumPy is quicker
            keep = np.broadcast_to(keep[:1], (1, SEGMENT, *learnt.shape[2:])).copy()
        kept = np.empty_like(keep)
        local, factor = np.zeros_like(learnt[:, 0]), np.ones_like(keep[:, 0])
        for j in range(SEGMENT):
            local = np.multiply(local, keep[:, j], out=learnt[:, j])
            np.add(local, seen[:, j], out=local)
            factor = np.multiply(factor, keep[:, j], out=kept[:, j])
        starts = np.empty_like(learnt[:, 0])
        for before, one, factors in zip(
            starts, learnt, np.broadcast_to(kept, (len(learnt), *kept.shape[1:])), strict=True
        ):
            before[:] = self._start
            np.multiply(factors[-1], before, out=self._start)
            np.add(one[-1], self._start, out=self._start)
        older = np.empty_like(starts)
        for j in range(SEGMENT):
            np.multiply(starts, kept[:, j], out=older)
            np.add(learnt[:, j], older, out=learnt[:, j])


def seen_in(block: Block, lesson: Indices, k: int) -> Floats:
    """Count what lessons hold, dependent predictions as fewer: shape (lessons, K)."""
    if block.table is not None:  # each chunk is a lesson
        return block.table / block.effect[:, None]
    cells = lesson[block.rows] * k + block.classes
    number = block.number / block.effect[block.rows]
    least = (int(lesson[-1]) + 1) * k
    seen: Any = np.bincount(cells, weights=number, minlength=least)
    return seen.reshape(-1, k)


def kept_of(sizes: Any) -> Floats32:
    """Give the part of each memory, shape (memories, 1), that is left after so many predictions."""
    return np.exp(-sizes / np.array(MEMORIES)[:, None]).astype(np.float32)


def learnt_bets(learnt: Floats32, base: Floats) -> Floats:
    """Distributions that the learnt bets are on: (..., memories, K) -> (..., bets, K)."""
    # In float32: a bet may be on any distribution, so only the final division has to be exact.
    start, k = base.astype(np.float32), len(base)
    bets = np.empty_like(learnt, shape=(*learnt.shape[:-2], len(learnt_weights(k)), k))
    np.add(learnt[..., : len(LINEAR), :], np.float32(LINEAR_PRIOR) * start, out=bets[..., :3, :])
    for place, (memory, sigmas) in enumerate(zip(SPARSE, STANDS_OUT, strict=True), len(LINEAR)):
        few = learnt[..., memory, :]
        size = few.sum(axis=-1, keepdims=True)
        expected = size * start
        excess = few - expected
        excess *= excess
        expected += np.float32(0.25)
        expected *= np.float32(sigmas**2)
        share = few + np.float32(SPARSE_PRIOR) * start
        share /= np.float32(SPARSE_PRIOR) + size
        bets[..., place, :] = np.where(excess > expected, share, start)
    if k >= MANY_CLASSES:
        for place, prior in enumerate(ABSENT, len(LINEAR) + len(SPARSE)):
            np.multiply(kept_shares(learnt[..., -1, :], prior), start, out=bets[..., place, :])
    exact = bets.astype(np.float64)
    exact /= exact.sum(axis=-1, keepdims=True)
    return exact


def kept_shares(missed: Floats32, prior: float) -> Floats32:
    """Part of its share that each class is expected to keep, after it was missed so many times.

    The posterior probability that it is not lost, if that was ``1 - prior`` beforehand: by chance
    it is missed so many times with probability ``exp(-missed)``, once it is lost, for certain.

    >>> kept_shares(np.array([0.0, 3, 6, 9], np.float32), 0.01).astype(float).round(2).tolist()
    [0.99, 0.83, 0.2, 0.02]
    """
    kept = np.exp(np.minimum(missed, np.float32(50)))
    kept *= np.float32(prior / (1 - prior))
    kept += 1
    np.divide(1, kept, out=kept)
    return np.maximum(kept, np.float32(ABSENT_RATIO), out=kept)


class LearntBets:
    """What the learnt bets bring, held against the tolerated band.

    Parameters
    ----------
    base, lower, upper
        Proportions that bets start from, and the band, shape (K,).
    """

    def __init__(self, base: Floats, lower: Floats, upper: Floats) -> None:
        self._base, self._lower, self._upper = base, lower, upper
        self._bets = len(learnt_weights(len(base)))
        self._guess = np.ones(self._bets)
        """Scales of the newest bets: the next ones are near. Says nothing about the answer."""

    def log_products(self, learnt: Floats32, lesson: Indices, block: Block) -> Floats:
        """``sum_k c_k log(q_k / p*_k)`` for chunks (T, K): shape (T, bets).

        Parameters
        ----------
        learnt, lesson
            What `Memories.take` returned.
        """
        brought = np.empty((len(lesson), self._bets))
        step = max(1, AT_ONCE // (self._bets * len(self._base)))
        for start in range(0, len(learnt), step):
            first, end = np.searchsorted(lesson, (start, start + step)).tolist()
            brought[first:end] = self._of_lessons(
                learnt[start : start + step], lesson[first:end] - start, block.part(first, end)
            )
        return brought / block.effect[:, None]

    def _of_lessons(self, learnt: Floats32, lesson: Indices, block: Block) -> Floats:
        few = len(self._base) <= FEW_CLASSES
        order = "F" if few else "C"  # of few classes sums over rows are slow
        q = learnt_bets(np.asarray(learnt, order=order), self._base)
        guess = np.repeat(self._guess, len(q)) if few else np.tile(self._guess, len(q))
        flat = q.reshape(-1, len(self._base), order=order)
        scales = projection_scales(flat, self._lower, self._upper, guess)
        scales = scales.reshape(len(q), self._bets, order=order)
        self._guess = scales[-1]
        of = self._of_all_classes if few else self._of_classes_seen
        return of(q, scales, lesson, block)

    def _of_all_classes(self, q: Floats, scales: Floats, _: Indices, block: Block) -> Floats:
        """Where a chunk holds nearly all classes, and each chunk is a lesson."""
        nearest = q * scales[..., None]
        np.maximum(nearest, self._lower, out=nearest)
        np.minimum(nearest, self._upper, out=nearest)
        logs = np.divide(q, nearest, out=nearest)
        np.log(logs, out=logs)
        logs *= np.asfortranarray(table_of(block))[:, None]
        return logs.sum(axis=-1)

    def _of_classes_seen(self, q: Floats, scales: Floats, lesson: Indices, block: Block) -> Floats:
        rows, classes = block.rows, block.classes
        of_row = lesson[rows]
        seen = q[of_row, :, classes]
        nearest = np.clip(
            scales[of_row] * seen, self._lower[classes, None], self._upper[classes, None]
        )
        logs = np.log(seen / nearest) * block.number[:, None]
        return np.add.reduceat(logs, np.flatnonzero(np.diff(rows, prepend=-1)), axis=0)
