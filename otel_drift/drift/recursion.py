"""The recursion of all bets: R <- (n + R) g, chunk after chunk, and where it raises an alarm.

>>> recursion = recursion_of(np.array([0.75, 0.25]))
>>> growth = np.array([[2, 1], [2, 1], [2, 1]], np.float32)
>>> sizes = np.full(3, 32, np.float32)
>>> [(found.row, found.evidence) for found in recursion.take(growth, sizes, threshold=150)]
[(1, 160.0)]
>>> recursion.evidence()  # from the alarm on: 0.75 of 64, and 0.25 of 32
56.0

With many bets that is quick enough one chunk after another. With few, NumPy would take longer to
start than to compute. So a stream is cut into *segments*, that are worked through side by side:
each step is an affine map of R, and so are several of them. After t chunks of a segment

    R_t = local_t + product_t * start

with what R was when the segment started, what has begun since, and the product of all g since. The
first and the last do not depend on the start. A segment ends after every 32nd chunk of the stream,
however that is cut into calls: each number has one definition, and rounding one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.segments import SEGMENT, cut

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

FEW_BETS = 1_000
"""Up to so many bets are worked through in segments."""
NEARLY = 1 - 1e-3
"""Evidence is summed in float64 only where a sum in float32 comes that near to the threshold."""


class Reached(NamedTuple):
    """The evidence has reached the threshold."""

    row: int
    """Chunk at whose end it has, of those taken."""
    evidence: float
    moment: Callable[[], tuple[Floats, Floats]]
    """Gives R of all bets there, and of each the sum of age times weight over its beginnings;
    to be asked before the next one is."""


def recursion_of(weights: Floats) -> PlainRecursion | SegmentedRecursion:
    """Choose the quicker one for so many bets."""
    return (SegmentedRecursion if len(weights) <= FEW_BETS else PlainRecursion)(weights)


def evidence_of(statistics: Floats32, weights: Floats) -> Any:
    """Weighted mean of R, shape (..., B): in float64, the same however many are summed at once."""
    return (statistics * weights).sum(axis=-1)


class PlainRecursion:
    """R of all bets, one chunk after another, and how old what it sums over is.

    Parameters
    ----------
    weights
        Of the bets, shape (B,), summing to 1.
    """

    def __init__(self, weights: Floats) -> None:
        self._weights, self._weights32 = weights, weights.astype(np.float32)
        self._statistics, self._aged = np.zeros((2, len(weights)), np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        return {"statistics": self._statistics, "aged": self._aged}

    @property
    def begun(self) -> int:
        """Chunks of a segment that has begun."""
        return 0

    def evidence(self) -> float:
        """Weighted mean of R."""
        return float(evidence_of(self._statistics, self._weights))

    def moment(self) -> tuple[Floats, Floats]:
        """R of all bets, and of each the sum of age times weight over its beginnings."""
        return self._statistics.astype(np.float64), self._aged.astype(np.float64)

    def take(self, growth: Floats32, sizes: Floats32, threshold: float) -> Iterator[Reached]:
        """Take chunks, to be run through to the end; R starts anew where it has raised an alarm.

        Parameters
        ----------
        growth
            Factor of each chunk and bet, shape (T, B).
        sizes
            Predictions in each chunk, shape (T,).
        threshold
            Evidence that raises an alarm.
        """
        statistics, aged, started = self._statistics, self._aged, np.empty_like(self._aged)
        for row, (g, size) in enumerate(zip(growth, sizes, strict=True)):
            np.add(statistics, size, out=started)
            np.multiply(started, g, out=statistics)
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(started, size, out=started)
            np.add(aged, started, out=aged)
            if statistics.dot(self._weights32) >= threshold * NEARLY:
                evidence = self.evidence()
                if evidence >= threshold:
                    yield Reached(row, evidence, partial(self._moment_before, g))
                    statistics[:] = aged[:] = 0
                    continue
            np.multiply(aged, g, out=aged)

    def _moment_before(self, g: Floats32) -> tuple[Floats, Floats]:
        # Age times weight may be larger than what float32 holds.
        statistics, aged = self.moment()
        return statistics, aged * g


@dataclass(frozen=True)
class Segments:
    """Whole segments, worked out without what they start from.

    Shapes: S segments, L chunks of each, B bets.
    """

    growth: Floats32
    """(S, L, B)."""
    sizes: Floats32
    """(S, L)."""
    local: Floats32
    """(S, L, B): R after each chunk, of what has begun in the segment."""
    product: Floats32
    """(S, L, B): product of the growth since the segment started."""
    aged: Floats32
    """(S, B): sum of age times weight, at the end, of what has begun in the segment."""
    brought: Floats32
    """(S, L): evidence of `local`, nearly."""
    row: int
    """The first chunk's number among those taken."""


class SegmentedRecursion:
    """The same in segments. Methods are those of `PlainRecursion`."""

    def __init__(self, weights: Floats) -> None:
        self._weights, self._weights32 = weights, weights.astype(np.float32)
        # Of the segment: R and its sums of ages at its start, and what has come since.
        self._start, self._start_aged = np.zeros((2, len(weights)), np.float32)
        self._local, self._local_aged = np.zeros((2, len(weights)), np.float32)
        self._product = np.ones(len(weights), np.float32)
        self._chunks, self._elapsed = np.zeros(1, np.int64), np.zeros(1, np.float32)
        """Chunks and predictions since the start."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        return {
            "start": self._start,
            "start_aged": self._start_aged,
            "local": self._local,
            "local_aged": self._local_aged,
            "product": self._product,
            "segment_chunks": self._chunks,
            "segment_predictions": self._elapsed,
        }

    @property
    def begun(self) -> int:
        """Chunks of a segment that has begun."""
        return int(self._chunks[0])

    def evidence(self) -> float:
        """Weighted mean of R."""
        return float(evidence_of(self._statistics(), self._weights))

    def moment(self) -> tuple[Floats, Floats]:
        """R of all bets, and of each the sum of age times weight over its beginnings."""
        return self._statistics().astype(np.float64), self._aged(self._local_aged)

    def _statistics(self) -> Floats32:
        return np.add(self._local, self._product * self._start, dtype=np.float32)

    def _aged(self, local_aged: Any) -> Any:
        return local_aged + self._product * (self._start_aged + self._elapsed * self._start)

    def take(self, growth: Floats32, sizes: Floats32, threshold: float) -> Iterator[Reached]:
        """Take chunks, to be run through to the end; R starts anew where it has raised an alarm."""
        for first, end, whole in cut(len(growth), self.begun):
            take = self._take_segments if whole else self._take_chunks
            yield from take(growth[first:end], sizes[first:end], threshold, first)

    def _take_chunks(
        self, growth: Floats32, sizes: Floats32, threshold: float, first: int
    ) -> Iterator[Reached]:
        """Take chunks of a segment that is not whole, one after another."""
        of_start = self._weights32 * self._start
        local, product, local_aged = self._local, self._product, self._local_aged
        started, fresh = np.empty_like(local), np.empty_like(local)
        for row, (g, size) in enumerate(zip(growth, sizes, strict=True), first):
            np.add(local, size, out=started)
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(started, size, out=fresh)
            np.add(local_aged, fresh, out=local_aged)
            np.multiply(started, g, out=local)
            np.multiply(product, g, out=product)
            self._elapsed += size
            if local.dot(self._weights32) + product.dot(of_start) >= threshold * NEARLY:
                evidence = self.evidence()
                if evidence >= threshold:
                    yield Reached(row, evidence, partial(self._moment_before, g))
                    of_start[:] = self._start[:] = self._start_aged[:] = 0
                    local[:] = local_aged[:] = product[:] = 0
            np.multiply(local_aged, g, out=local_aged)
        self._chunks += len(sizes)
        if self._chunks[0] == SEGMENT:
            self._start_aged[:] = self._aged(self._local_aged)
            self._start[:] = self._statistics()
            self._local[:] = self._local_aged[:] = self._chunks[:] = self._elapsed[:] = 0
            self._product[:] = 1

    def _moment_before(self, g: Floats32) -> tuple[Floats, Floats]:
        # In float64: age times weight may be larger than what float32 holds.
        return self._statistics().astype(np.float64), self._aged(self._local_aged * g.astype(float))

    def _take_segments(
        self, growth: Floats32, sizes: Floats32, threshold: float, row: int
    ) -> Iterator[Reached]:
        """Take whole segments: find those with alarms, and go through them."""
        segments = composed(growth, sizes, self._weights32, row)
        count = len(segments.sizes)
        first, ahead = 0, count
        while first < count:
            end = min(count, first + ahead)
            with np.errstate(over="ignore", invalid="ignore"):
                starts = self._starts(segments, first, end)
                near = segments.product[first:end] @ (starts * self._weights32)[..., None]
                near = near[..., 0] + segments.brought[first:end]
            # Not a number where it has overflowed, after an alarm.
            reaches = ~(near < threshold * NEARLY)
            quiet = int(np.append(reaches.any(axis=1), True).argmax())
            for one in range(first, first + quiet):
                self._pass(segments, one)
            first += quiet
            ahead *= 2
            if first < end:
                restart = 0
                rows = np.flatnonzero(reaches[quiet]).tolist()
                for found in self._alarms(segments, first, rows, threshold):
                    yield found
                    restart = found.row + 1 - segments.row - first * SEGMENT
                if restart:
                    self._start[:], self._start_aged[:] = followed(
                        segments.growth[first, restart:], segments.sizes[first, restart:]
                    )
                else:
                    self._pass(segments, first)
                first, ahead = first + 1, 1

    def _starts(self, segments: Segments, first: int, end: int) -> Floats32:
        """R at the start of each segment, if there is no alarm before."""
        starts = np.empty((end - first, len(self._start)), np.float32)
        starts[0] = self._start
        for before, after, one in zip(starts[:-1], starts[1:], range(first, end), strict=False):
            np.multiply(segments.product[one, -1], before, out=after)
            np.add(segments.local[one, -1], after, out=after)
        return starts

    def _pass(self, segments: Segments, one: int) -> None:
        """Go to the end of a segment without an alarm."""
        product = segments.product[one, -1]
        elapsed = segments.sizes[one].sum()
        aged = product * (self._start_aged + elapsed * self._start)
        np.add(segments.aged[one], aged, out=self._start_aged)
        np.add(segments.local[one, -1], product * self._start, out=self._start)

    def _alarms(
        self, segments: Segments, one: int, rows: list[int], threshold: float
    ) -> Iterator[Reached]:
        """Find the alarms of a segment, the first among some of its rows."""
        for row in rows:
            statistics = segments.local[one, row] + segments.product[one, row] * self._start
            evidence = float(evidence_of(statistics, self._weights))
            if evidence >= threshold:
                moment = partial(self._moment, segments, one, 0, row)
                yield Reached(segments.row + one * SEGMENT + row, evidence, moment)
                yield from self._alarms_after(segments, one, row + 1, threshold)
                return

    def _alarms_after(
        self, segments: Segments, one: int, restart: int, threshold: float
    ) -> Iterator[Reached]:
        """Find the alarms of a segment in which R is 0 before chunk `restart`.

        In a heavy drift every chunk raises an alarm by itself: that is worked out for all at once.
        """
        growth, sizes = segments.growth[one], segments.sizes[one]
        alone = growth[restart:] * sizes[restart:, None]
        of_alone = evidence_of(alone, self._weights).tolist()
        first, before = restart, segments.row + one * SEGMENT
        now = alone[0] if len(alone) else None
        for row, evidence in enumerate(of_alone, first):
            if row == restart:
                if evidence < threshold:
                    now = alone[row - first]
            else:
                now = (now + sizes[row]) * growth[row]
                evidence = float(now.dot(self._weights32))
                if evidence >= threshold * NEARLY:
                    evidence = float(evidence_of(now, self._weights))
            if evidence >= threshold:
                moment = partial(self._moment, segments, one, restart, row)
                yield Reached(before + row, evidence, moment)
                restart = row + 1

    def _moment(self, segments: Segments, one: int, begun: int, row: int) -> tuple[Floats, Floats]:
        """R and its sums of ages after a chunk that raises an alarm, R being 0 before `begun`."""
        growth, sizes = segments.growth[one], segments.sizes[one]
        before = followed(growth[begun:row], sizes[begun:row])
        # In float64: age times weight may be larger than what float32 holds.
        last = slice(row, row + 1)
        statistics, aged = followed(
            growth[last].astype(np.float64),
            sizes[last],
            *(one.astype(np.float64) for one in before),
        )
        if not begun:
            elapsed = sizes[: row + 1].sum(dtype=np.float64)
            product = segments.product[one, row].astype(np.float64)
            statistics += product * self._start
            aged += product * (self._start_aged + elapsed * self._start)
        return statistics, aged


def composed(growth: Floats32, sizes: Floats32, weights: Floats32, row: int) -> Segments:
    """Work out whole segments side by side."""
    growth, sizes = growth.reshape(-1, SEGMENT, growth.shape[1]), sizes.reshape(-1, SEGMENT)
    local, product = np.empty_like(growth), np.empty_like(growth)
    started, aged, before = (np.zeros_like(growth[:, 0]) for _ in range(3))
    even = bool((sizes == sizes[0, 0]).all())
    # After an alarm the rest of a segment is not looked at, and may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(SEGMENT):
            size = sizes[0, 0] if even else sizes[:, j, None]
            g = growth[:, j]
            np.add(before, size, out=started)
            before = np.multiply(started, g, out=local[:, j])
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(started, size, out=started)
            np.add(aged, started, out=aged)
            np.multiply(aged, g, out=aged)
            if j:
                np.multiply(product[:, j - 1], g, out=product[:, j])
            else:
                product[:, 0] = g
        brought = local @ weights
    return Segments(growth, sizes, local, product, aged, brought, row)


def followed(growth: Any, sizes: Any, statistics: Any = None, aged: Any = None) -> tuple[Any, Any]:
    """Take chunks of shape (T, B) one after another; give R and its sums of ages after them."""
    if statistics is None:
        statistics = aged = np.zeros(growth.shape[1], np.float32)
    for g, size in zip(growth, sizes, strict=True):
        started = statistics + size
        aged = (aged + started * size) * g
        statistics = started * g
    return statistics, aged
