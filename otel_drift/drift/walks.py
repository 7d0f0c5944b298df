"""Since when: how long ago the log likelihood ratio of a bet began to rise (Page's CUSUM).

A walk adds up the logarithms that chunks bring a bet, and starts again from 0 where it would fall
below. The prediction at which it was last at 0 is where the drift seems to have begun.

>>> walks = Walks(1)
>>> walks.take(steps_of(np.array([[-1.0], [0.5], [2.0]])), np.array([32, 32, 32]))
>>> walks.since.tolist(), (walks.height / STEPS).tolist()
([64], [2.5])

Logarithms are rounded to steps, which sum exactly in any order: it does not matter how a stream is
cut into calls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int32]

STEPS = 2**16
"""Steps in one nat."""
LARGEST = 120.0
"""Nats that one chunk counts for at the most: sums of a stretch stay in 32 bits."""
ROUNDER = 1.5 * 2**52 / STEPS
PLACES = 4
MARKS = 24
"""Bits for a number of chunks, where sums have 64."""
STRETCH = 2**PLACES
"""Chunks that are summed one after another, many stretches side by side."""


def steps_of(logs: NDArray[np.floating]) -> Steps:
    """Round logarithms to steps."""
    limited = np.maximum(logs, -LARGEST)
    np.minimum(limited, LARGEST, out=limited)
    return rounded(limited, out=limited).astype(np.int32)


def rounded(logs: NDArray[np.float64], out: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round logarithms up to `LARGEST` to steps: the lower 32 bits of what is returned.

    Numbers from 2^52 to 2^53 are whole. So what is added to 1.5 times 2^52 is rounded to a whole
    number, half to even, which the last bits of the sum are; divided by `STEPS`, to whole steps.
    """
    return np.add(logs, ROUNDER, out=out).view(np.int64)


class SeenSteps(NamedTuple):
    """Steps of chunks of many classes: what is not seen brings its walks the same each time.

    Of each class there are two walks, first one of each, then the other; others follow.
    """

    chunks: int
    unseen: Steps
    """What a chunk brings the walks of each class that it does not hold, shape (K, 2)."""
    rows: NDArray[np.intp]
    classes: NDArray[np.intp]
    seen: Steps
    """Chunk, class, and what that brings its walks, (n, 2): chunk after chunk."""
    others: Steps
    """Shape (T, other walks)."""

    def part(self, first: int, end: int) -> SeenSteps:
        """Give some of the chunks."""
        of = slice(*np.searchsorted(self.rows, (first, end)).tolist())
        return SeenSteps(
            end - first,
            self.unseen,
            self.rows[of] - first,
            self.classes[of],
            self.seen[of],
            self.others[first:end],
        )

    def of(self, walk: int) -> Steps:
        """Give the steps of one walk, shape (T,)."""
        which, k = divmod(walk, len(self.unseen))
        if which > 1:
            return self.others[:, walk - self.unseen.size]
        steps = np.full(self.chunks, self.unseen[k, which])
        here = self.classes == k
        steps[self.rows[here]] = self.seen[here, which]
        return steps


def chunks_of(steps: Steps | SeenSteps, first: int, end: int) -> Steps | SeenSteps:
    """Give the steps of some of the chunks."""
    return steps.part(first, end) if isinstance(steps, SeenSteps) else steps[first:end]


def steps_of_walk(steps: Steps | SeenSteps, walk: int) -> Steps:
    """Give the steps of one walk, shape (T,)."""
    return steps.of(walk) if isinstance(steps, SeenSteps) else steps[:, walk]


class Walks:
    """CUSUM of several bets.

    Parameters
    ----------
    walks
        Number of them.
    """

    def __init__(self, walks: int) -> None:
        self.height = np.zeros(walks, np.uint32)
        """Steps above 0."""
        self.since = np.zeros(walks, np.uint32)
        """Predictions since it was last at 0."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is remembered, by name."""
        return {"cusum": self.height, "since": self.since}

    def restart(self) -> None:
        """Put all back to 0."""
        self.height[:] = self.since[:] = 0

    def take(self, steps: Steps | SeenSteps, sizes: NDArray[Any]) -> None:
        """Add what chunks brought.

        Parameters
        ----------
        steps
            Shape (T, walks).
        sizes
            Predictions in each chunk, shape (T,).
        """
        if not len(sizes):
            return
        others = slice(0, None)
        if isinstance(steps, SeenSteps):
            of_class, others = slice(0, steps.unseen.size), slice(steps.unseen.size, None)
            self.height[of_class], self.since[of_class] = walked_where_seen(
                steps, sizes, self.height[of_class], self.since[of_class]
            )
            steps = steps.others
        self.height[others], self.since[others] = walked(
            steps, sizes, self.height[others], self.since[others]
        )

    def since_with(self, walk: int, steps: Steps, sizes: NDArray[Any]) -> int:
        """Give `since` of one walk as it would be after more chunks, of shape (T,)."""
        if not len(sizes):
            return int(self.since[walk])
        sums = np.cumsum(steps, dtype=np.int64)
        last_lowest = len(sums) - 1 - int(sums[::-1].argmin())
        if int(sums[last_lowest]) + int(self.height[walk]) > 0:
            return int(min(float(self.since[walk]) + sizes.sum(), 2**32 - 1))
        return int(min(sizes[last_lowest + 1 :].sum(), 2**32 - 1))


def walked(
    steps: Steps,
    sizes: NDArray[Any],
    height: NDArray[np.uint32],
    since: NDArray[np.uint32],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give heights, and predictions since the last 0, after chunks of shape (T, walks).

    A walk is last at 0 where the sum of its steps is last at its lowest, if that is low enough to
    bring it down to 0 at all.
    """
    chunks = len(steps)
    if chunks == 1:
        now = steps[0] + height.astype(np.int64)
        up = now > 0
        return now * up, np.minimum((since + float(sizes[0])) * up, 2**32 - 1)
    lowest_at = _of_few_chunks if chunks <= 2 * STRETCH else _of_many_chunks
    low, row, end = lowest_at(steps)
    low = low + height
    at_zero = low <= 0
    now = end + height - np.where(at_zero, low, 0)
    seen = np.asarray(np.cumsum(sizes), dtype=np.float64)
    # Where it has not been at 0, as long before the first of these chunks as it was then.
    last_at_zero = np.where(at_zero, seen[row], -since.astype(np.float64))
    return now, np.minimum(seen[-1] - last_at_zero, 2**32 - 1)


def _of_few_chunks(steps: Steps) -> tuple[Any, Any, Any]:
    """Give the lowest sum of the steps of each walk, the last chunk at which it is, and the sum."""
    sums = np.cumsum(steps, axis=0, dtype=np.int64)
    row = len(sums) - 1 - sums[::-1].argmin(axis=0)
    return sums[row, np.arange(sums.shape[1])], row, sums[-1]


def _of_many_chunks(steps: Steps) -> tuple[Any, Any, Any]:
    """Give the same, by many stretches of chunks side by side."""
    chunks, walks = steps.shape
    stretches = -(-chunks // STRETCH)
    if chunks % STRETCH:
        steps = np.concatenate([steps, np.zeros((-chunks % STRETCH, walks), np.int32)])
    steps = steps.reshape(stretches, STRETCH, walks)
    sums = np.zeros((stretches, walks), np.int32)
    # The lowest sum of a stretch and, in its last bits, how many chunks are left after it: the
    # least of these numbers is the last of the lowest sums.
    lowest = np.full((stretches, walks), np.iinfo(np.int32).max, np.int32)
    marked = np.empty_like(sums)
    for place in range(min(STRETCH, chunks)):
        np.add(sums, steps[:, place], out=sums)
        np.left_shift(sums, PLACES, out=marked)
        np.add(marked, STRETCH - 1 - place, out=marked)
        np.minimum(lowest, marked, out=lowest)

    ends = np.cumsum(sums, axis=0, dtype=np.int64)
    low = (lowest >> PLACES) + ends - sums
    stretch = stretches - 1 - low[::-1].argmin(axis=0)
    column = np.arange(walks, dtype=np.intp)
    row = stretch * STRETCH + STRETCH - 1 - (lowest[stretch, column] & STRETCH - 1)
    return low[stretch, column], np.minimum(row, chunks - 1), ends[-1]


def walked_where_seen(
    steps: SeenSteps,
    sizes: NDArray[Any],
    height: NDArray[np.uint32],
    since: NDArray[np.uint32],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `walked`, of the walks of single classes, looking only at chunks that hold the class.

    Between these the sum of a walk's steps goes straight up or down. So it is at its lowest at the
    first chunk or the last, at one that holds the class, or at the one before. The lowest sum and
    how many chunks are left after it are kept in one number, as in `walked`.
    """
    last, unseen = steps.chunks - 1, steps.unseen.astype(np.int64)
    ends = unseen * steps.chunks
    lowest = np.minimum(_marked(unseen, last), _marked(ends, 0))
    if len(steps.rows):
        # Few bits are sorted sooner.
        order = steps.classes.astype(np.uint32).argsort(kind="stable")
        classes, rows, seen = steps.classes[order], steps.rows[order], steps.seen[order]
        first = np.flatnonzero(np.diff(classes, prepend=-1))
        of, group = classes[first], np.cumsum(np.diff(classes, prepend=classes[0]) != 0)
        common = unseen[classes]
        more = np.cumsum(seen - common, axis=0)
        before = more[first] - (seen[first] - common[first])
        after = more - before[group] + common * (rows + 1)[:, None]
        left = (last - rows)[:, None]
        found = _marked(after, left)
        # There is no chunk before the first.
        up_to = _marked(after - seen, left + 1)
        np.minimum(found, up_to, out=found, where=rows[:, None] > 0)
        found = np.minimum.reduceat(found, first, axis=0)
        final = np.append(first[1:], len(rows)) - 1
        ends[of] = after[final] + unseen[of] * left[final]
        np.minimum(found, _marked(ends[of], 0), out=found)
        np.minimum(found, _marked(unseen[of], last), out=found, where=rows[first, None] > 0)
        lowest[of] = found
    ends, lowest = ends.T.reshape(-1), lowest.T.reshape(-1)
    low = (lowest >> MARKS) + height
    at_zero = low <= 0
    now = ends + height - np.where(at_zero, low, 0)
    predictions = np.asarray(np.cumsum(sizes), dtype=np.float64)
    row = last - (lowest & 2**MARKS - 1)
    last_at_zero = np.where(at_zero, predictions[row], -since.astype(np.float64))
    return now, np.minimum(predictions[-1] - last_at_zero, 2**32 - 1)


def _marked(sums: NDArray[np.int64], left: Any) -> NDArray[np.int64]:
    """Give sums with how many chunks are left in their last bits."""
    return (sums << MARKS) + left
