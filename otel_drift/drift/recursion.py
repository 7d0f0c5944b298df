"""The recursion of all bets: R <- (n + R) g, chunk after chunk, and where it raises an alarm.

>>> recursion = recursion_of(np.array([0.75, 0.25]))
>>> growth = np.array([[2, 1], [2, 1], [2, 1]], np.float32)
>>> sizes = np.full(3, 32, np.float32)
>>> reached = recursion.take(growth, sizes, threshold=150)
>>> reached.rows, reached.evidence
([1], [160.0])
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

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.segments import SEGMENT, cut

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Rows = NDArray[np.intp]

FEW_BETS = 1_000
"""Up to so many bets are worked through in segments."""
VERY_FEW_BETS = 64
"""Up to so many it is quicker to work out what would follow each chunk than what follows one."""
UNSETTLED = 8
"""Segments without an alarm after which ages are worked out, be they asked for or not."""
AT_ONCE = 2**12
"""Numbers of a step at once where segments are looked at closely: a drift goes on, so that the next
ones are likely to be asked for too, and NumPy takes as long for few."""
NEARLY = 1 - 1e-3
"""Evidence is summed in float64 only where a sum in float32 comes that near to the threshold."""


Moment = tuple[Floats, Floats]
"""R of all bets, and of each the sum of age times weight over its beginnings."""


class Reached:
    """Where the evidence has reached the threshold.

    What is not asked for is not worked out: there may be an alarm in every chunk.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        """Chunks at whose end it has, of those taken."""
        self.evidence: list[float] = []
        self._first: list[int] = []
        self._moments: list[Callable[[int, int], Moment]] = []

    def add(self, found: Iterable[tuple[int, float]], moment: Callable[[int, int], Moment]) -> None:
        """Add alarms, and what gives R after a chunk, if that was 0 before another of them."""
        self._first.append(len(self.rows))
        self._moments.append(moment)
        for row, evidence in found:
            self.rows.append(row)
            self.evidence.append(evidence)

    def moment(self, alarm: int) -> Moment:
        """Say what R and ages were when an alarm was raised; until more chunks are worked out."""
        of = bisect_right(self._first, alarm) - 1
        begun = self.rows[alarm - 1] + 1 if alarm > self._first[of] else -1
        return self._moments[of](begun, self.rows[alarm])


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

    def moment(self) -> Moment:
        """R of all bets, and of each the sum of age times weight over its beginnings."""
        return self._statistics.astype(np.float64), self._aged.astype(np.float64)

    def take(self, growth: Floats32, sizes: Floats32, threshold: float) -> Reached:
        """Take chunks; R starts anew where it has raised an alarm.

        Parameters
        ----------
        growth
            Factor of each chunk and bet, shape (T, B).
        sizes
            Predictions in each chunk, shape (T,).
        threshold
            Evidence that raises an alarm.
        """
        reached = Reached()
        statistics, aged, started = self._statistics, self._aged, np.empty_like(self._aged)
        for row, (g, size) in enumerate(zip(growth, sizes, strict=True)):
            np.add(statistics, size, out=started)
            np.multiply(started, g, out=statistics)
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(started, size, out=started)
            np.add(aged, started, out=aged)
            if statistics.dot(self._weights32) >= threshold * NEARLY:
                evidence = float(evidence_of(statistics, self._weights))
                if evidence >= threshold:
                    reached.add([(row, evidence)], partial(_kept, statistics, aged, g))
                    statistics, aged = np.zeros((2, len(g)), np.float32)
                    continue
            np.multiply(aged, g, out=aged)
        self._statistics, self._aged = statistics, aged
        return reached


def _given(then: Moment, *_: int) -> Moment:
    return then


def _kept(statistics: Floats32, aged: Floats32, g: Floats32, *_: int) -> Moment:
    # In float64: age times weight may be larger than what float32 holds.
    return statistics.astype(np.float64), aged.astype(np.float64) * g


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
    """(S, B): R at the end, of what has begun in the segment."""
    product: Floats32
    """(S, B): product of all growth."""
    highest: Floats32
    """(S, B): the largest product of the growth since the segment started."""
    aged: Floats32
    """(S, B): sum of age times weight, at the end, of what has begun in the segment."""
    brought: Floats32
    """(S,): the largest evidence of what has begun in the segment, nearly."""


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
        self._ageing: Ageing | None = None

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

    def moment(self) -> Moment:
        """R of all bets, and of each the sum of age times weight over its beginnings."""
        return self._statistics().astype(np.float64), self._aged(self._local_aged)

    def _statistics(self) -> Floats32:
        return np.add(self._local, self._product * self._start, dtype=np.float32)

    def _aged(self, local_aged: Any) -> Any:
        return local_aged + self._product * (self._start_aged + self._elapsed * self._start)

    def take(self, growth: Floats32, sizes: Floats32, threshold: float) -> Reached:
        """Take chunks; R starts anew where it has raised an alarm."""
        reached = Reached()
        for first, end, whole in cut(len(growth), self.begun):
            take = self._take_segments if whole else self._take_chunks
            take(growth[first:end], sizes[first:end], threshold, first, reached)
        return reached

    def _take_chunks(
        self, growth: Floats32, sizes: Floats32, threshold: float, first: int, reached: Reached
    ) -> None:
        """Take chunks of a segment that is not whole, one after another."""
        of_start = self._weights32 * self._start
        local, product, local_aged = self._local, self._product, self._local_aged
        fresh = np.empty_like(local)
        for row, (g, size) in enumerate(zip(growth, sizes, strict=True), first):
            np.add(local, size, out=local)
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(local, size, out=fresh)
            np.add(local_aged, fresh, out=local_aged)
            np.multiply(local, g, out=local)
            np.multiply(product, g, out=product)
            self._elapsed += size
            if local.dot(self._weights32) + product.dot(of_start) >= threshold * NEARLY:
                evidence = self.evidence()
                if evidence >= threshold:
                    # In float64: age times weight may be larger than what float32 holds.
                    then: Moment = (
                        self._statistics().astype(np.float64),
                        self._aged(local_aged * g.astype(float)),
                    )
                    reached.add([(row, evidence)], partial(_given, then))
                    of_start[:] = self._start[:] = self._start_aged[:] = 0
                    local[:] = local_aged[:] = product[:] = 0
            np.multiply(local_aged, g, out=local_aged)
        self._chunks += len(sizes)
        if self._chunks[0] == SEGMENT:
            self._start_aged[:] = self._aged(self._local_aged)
            self._start[:] = self._statistics()
            self._local[:] = self._local_aged[:] = self._chunks[:] = self._elapsed[:] = 0
            self._product[:] = 1

    def _take_segments(
        self, growth: Floats32, sizes: Floats32, threshold: float, row: int, reached: Reached
    ) -> None:
        """Take whole segments: pass those that cannot hold an alarm, and look at the others."""
        segments = composed(growth, sizes, self._weights32)
        several = max(1, AT_ONCE // growth.shape[1])
        count = len(segments.sizes)
        first, ahead, closely = 0, count, None
        while first < count:
            starts = self._starts(segments, first, min(count, first + ahead))
            quiet = self._quiet(segments, first, starts, threshold)
            self._pass(segments, first, starts[: quiet + 1])
            first, ahead = first + quiet, 2 * ahead
            # A drift goes on: the next segments are looked at too, several at once.
            while first < count:
                if closely is None or first >= closely.end:
                    part = slice(first, first + several)
                    closely = Closely(segments, part, self._weights, threshold)
                if not self._alarms(closely, first, row, reached):
                    self._pass(segments, first, self._starts(segments, first, first + 1))
                    first += 1
                    break
                first, ahead = first + 1, 1
        self._settle()

    def _starts(self, segments: Segments, first: int, end: int) -> Floats32:
        """R at the start of each segment and of the next, if there is no alarm."""
        starts = np.empty((end - first + 1, len(self._start)), np.float32)
        starts[0] = self._start
        with np.errstate(over="ignore", invalid="ignore"):
            for before, after, product, local in zip(
                *(starts[:-1], starts[1:], segments.product[first:end], segments.local[first:end]),
                strict=True,
            ):
                np.multiply(product, before, out=after)
                np.add(local, after, out=after)
        return starts

    def _quiet(self, segments: Segments, first: int, starts: Floats32, threshold: float) -> int:
        """Count the segments before the first that may hold an alarm.

        The evidence is never more than if what each bet brings were at its highest at once.
        """
        some = slice(first, first + len(starts) - 1)
        with np.errstate(over="ignore", invalid="ignore"):
            highest = segments.highest[some]
            most = np.einsum("sb,sb->s", highest, starts[:-1] * self._weights32)
            most += segments.brought[some]
        # Not a number where it has overflowed, after an alarm.
        return int(np.append(~(most < threshold * NEARLY), True).argmax())

    def _pass(self, segments: Segments, first: int, starts: Floats32) -> None:
        """Go to the end of segments without an alarm, from the start of each."""
        if len(starts) < 2:
            return
        some = slice(first, first + len(starts) - 1)
        older: Any = segments.sizes[some].sum(axis=1)[:, None] * starts[:-1]
        product: Any = segments.product[some]
        passed: Any = zip(older, product, segments.aged[some], strict=True)
        if self._ageing is not None:
            self._ageing.passed.extend(passed)
            if len(self._ageing.passed) > UNSETTLED:
                self._settle()
        else:
            self._start_aged[:] = aged_by(self._start_aged, passed)
        self._start[:] = starts[-1]

    def _settle(self) -> None:
        """Work out the ages after a segment with an alarm: in a drift they are seldom asked for."""
        if self._ageing is not None:
            self._start_aged[:] = self._ageing.now()
            self._ageing = None

    def _alarms(self, closely: Closely, one: int, row: int, reached: Reached) -> bool:
        """Find the alarms of a segment, and go to its end; if there are none, say so."""
        place, before = one - closely.first, row + one * SEGMENT
        found = closely.alarms(place, self._start)
        if not found:
            return False
        start = self._start.copy(), self._ageing or self._start_aged.copy()
        reached.add(
            ((before + at, evidence) for at, evidence in found),
            partial(_moment_of, closely, place, before, start),
        )
        restart = found[-1][0] + 1
        self._start[:] = closely.end_with
        self._ageing = Ageing(closely.growth[place, restart:], closely.sizes[place, restart:], [])
        return True


def _moment_of(
    closely: Closely,
    one: int,
    before: int,
    start: tuple[Floats32, Floats32 | Ageing],
    begun: int,
    row: int,
) -> Moment:
    """R and its sums of ages after a chunk that raises an alarm, R being 0 before `begun`.

    If that is negative the segment has started, at chunk `before`, with R and its sums of `start`.
    """
    growth, sizes = closely.growth[one], closely.sizes[one]
    row, whole = row - before, begun < 0
    begun = 0 if whole else begun - before
    earlier = followed(growth[begun:row], sizes[begun:row])
    # In float64: age times weight may be larger than what float32 holds.
    last = slice(row, row + 1)
    statistics, aged = followed(
        growth[last].astype(np.float64),
        sizes[last],
        *(one.astype(np.float64) for one in earlier),
    )
    if whole:
        at_start, ageing = start
        start_aged = ageing.now() if isinstance(ageing, Ageing) else ageing
        elapsed = sizes[: row + 1].sum(dtype=np.float64)
        product = closely.product[one, row].astype(np.float64)
        statistics += product * at_start
        aged += product * (start_aged + elapsed * at_start)
    return statistics, aged


class Ageing(NamedTuple):
    """What has come since an alarm, from which the sums of ages can be worked out."""

    growth: Floats32
    sizes: Floats32
    """Of the chunks after it in its segment, shape (T, B) and (T,)."""
    passed: list[tuple[Floats32, Floats32, Floats32]]
    """Segments since then: as of `aged_by`."""

    def now(self) -> Floats32:
        """Give the sums of ages after all that."""
        return aged_by(followed(self.growth, self.sizes)[1], self.passed)


def aged_by(aged: Floats32, passed: Iterable[tuple[Floats32, Floats32, Floats32]]) -> Floats32:
    """Give sums of ages after segments without an alarm.

    Parameters
    ----------
    aged
        Before them, shape (B,).
    passed
        Of each segment how much older R has become, the product of its growth, and the sums of
        ages of what has begun in it.
    """
    now: Any = aged
    for older, product, begun in passed:
        now = begun + product * (now + older)
    return now


class Closely:
    """Several segments, in each of which there may be alarms, chunk by chunk.

    Parameters
    ----------
    segments, part
        Which of them.
    weights, threshold
        Of the bets, shape (B,); evidence that raises an alarm.
    """

    def __init__(self, segments: Segments, part: slice, weights: Floats, threshold: float) -> None:
        self.first = part.start
        self.growth, self.sizes = segments.growth[part], segments.sizes[part]
        self._weights, self._weights32 = weights, weights.astype(np.float32)
        self._threshold = threshold
        self._restarts: tuple[Rows, Floats, Floats32] | None = None
        self.end_with: Floats32 | float = 0.0
        """R at the end of the segment whose alarms were found last."""
        self.local: Floats32 = np.empty(self.growth.shape, np.float32)
        self.product: Floats32 = np.empty(self.growth.shape, np.float32)
        local: Any = np.float32(0)
        product: Any = np.float32(1)
        with np.errstate(over="ignore", invalid="ignore"):
            for row in range(SEGMENT):
                local = np.add(local, self.sizes[:, row, None], out=self.local[:, row])
                np.multiply(local, self.growth[:, row], out=local)
                product = np.multiply(product, self.growth[:, row], out=self.product[:, row])
            self._brought = self.local @ self._weights32

    @property
    def end(self) -> int:
        """The first segment after these."""
        return self.first + len(self.sizes)

    def alarms(self, one: int, start: Floats32) -> list[tuple[int, float]]:
        """Find the chunks of a segment that raise an alarm, and the evidence at each."""
        with np.errstate(over="ignore", invalid="ignore"):
            near = self.product[one] @ (start * self._weights32) + self._brought[one]
        for row in np.flatnonzero(~(near < self._threshold * NEARLY)).tolist():
            statistics = self.local[one, row] + self.product[one, row] * start
            evidence = float(evidence_of(statistics, self._weights))
            if evidence >= self._threshold:
                few = len(start) <= VERY_FEW_BETS
                after = self._looked_up if few else self._followed
                return [(row, evidence), *after(one, row + 1)]
        return []

    def _looked_up(self, one: int, restart: int) -> Iterator[tuple[int, float]]:
        """Find the alarms after one, among those that each chunk would be followed by."""
        if self._restarts is None:
            self._restarts = restarts(self.growth, self.sizes, self._weights, self._threshold)
        reached, evidence, statistics = self._restarts
        reached, evidence = reached[:, one].tolist(), evidence[:, one].tolist()
        while restart < SEGMENT and reached[restart] < SEGMENT:
            row = reached[restart]
            yield row, evidence[restart]
            restart = row + 1
        self.end_with = statistics[restart, one] if restart < SEGMENT else 0.0

    def _followed(self, one: int, restart: int) -> Iterator[tuple[int, float]]:
        """Find the alarms after one, chunk by chunk.

        In a heavy drift every chunk raises an alarm by itself: that is worked out for all at once.
        """
        growth, sizes = self.growth[one], self.sizes[one].tolist()
        alone = growth[restart:] * self.sizes[one, restart:, None]
        by_itself, enough = alone @ self._weights32, self._threshold * NEARLY
        if (by_itself >= enough).all():
            evidences = evidence_of(alone, self._weights)
            if (evidences >= self._threshold).all():
                self.end_with = 0.0
                yield from enumerate(evidences.tolist(), restart)
                return
        begun, now = restart, np.zeros_like(growth[0])
        for row, near in enumerate(by_itself.tolist(), restart):
            if row == begun:
                now = alone[row - restart]
            else:
                np.add(now, sizes[row], out=now)
                np.multiply(now, growth[row], out=now)
                near = now.dot(self._weights32)
            if near >= enough:
                evidence = float(evidence_of(now, self._weights))
                if evidence >= self._threshold:
                    yield row, evidence
                    begun = row + 1
        self.end_with = now if begun < SEGMENT else 0.0


def restarts(
    growth: Floats32, sizes: Floats32, weights: Floats, threshold: float
) -> tuple[Rows, Floats, Floats32]:
    """Say of each chunk when R, if it were 0 before it, would raise the next alarm.

    After an alarm nothing counts that was before it. So what follows one in a segment can be
    worked out before it is known whether there is one: for all chunks of all segments at once, and
    in a heavy drift, where nearly every chunk raises an alarm, those that have are soon left out.

    Parameters
    ----------
    growth, sizes
        Shape (S, L, B) and (S, L).

    Returns
    -------
    reached, evidence
        The chunk of its segment at which it would, L if at none, and the evidence there, (L, S).
    statistics
        R at the end of the segment, where it would not, shape (L, S, B).
    """
    count, chunks, bets = growth.shape
    weights32 = weights.astype(np.float32)
    statistics = np.zeros((chunks, count, bets), np.float32)
    reached, evidences = np.full((chunks, count), chunks), np.zeros((chunks, count))
    oldest = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for row in range(chunks):
            going, waiting = statistics[oldest : row + 1], reached[oldest : row + 1]
            np.add(going, sizes[:, row, None], out=going)
            np.multiply(going, growth[:, row], out=going)
            near = (going.reshape(-1, bets) @ weights32).reshape(-1, count)
            places = np.nonzero((near >= threshold * NEARLY) & (waiting == chunks))
            if not len(places[0]):
                continue
            evidence = evidence_of(going[places], weights)
            sure = evidence >= threshold
            begun, one = places[0][sure], places[1][sure]
            waiting[begun, one] = row
            evidences[begun + oldest, one] = evidence[sure]
            # Chunks of which all have raised an alarm need not be followed on.
            done = (waiting < chunks).all(axis=1)
            oldest += int(np.append(done, False).argmin())
    return reached, evidences, statistics


def composed(growth: Floats32, sizes: Floats32, weights: Floats32) -> Segments:
    """Work out whole segments side by side."""
    growth, sizes = growth.reshape(-1, SEGMENT, growth.shape[1]), sizes.reshape(-1, SEGMENT)
    local, aged, highest, fresh = np.zeros((4, len(growth), growth.shape[2]), np.float32)
    product = np.ones_like(local)
    brought = np.empty((SEGMENT, len(growth)), np.float32)
    even = bool((sizes == sizes[0, 0]).all())
    # After an alarm the rest of a segment is not looked at, and may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        for row in range(SEGMENT):
            size = sizes[0, 0] if even else sizes[:, row, None]
            g = growth[:, row]
            np.add(local, size, out=local)
            # Everything that R sums over grows older by the chunk, what begins too.
            np.multiply(local, size, out=fresh)
            np.add(aged, fresh, out=aged)
            np.multiply(aged, g, out=aged)
            np.multiply(local, g, out=local)
            np.multiply(product, g, out=product)
            np.maximum(highest, product, out=highest)
            np.dot(local, weights, out=brought[row])
    return Segments(growth, sizes, local, product, highest, aged, brought.max(axis=0))


def followed(growth: Any, sizes: Any, statistics: Any = None, aged: Any = None) -> tuple[Any, Any]:
    """Take chunks of shape (T, B) one after another; give R and its sums of ages after them."""
    if statistics is None:
        statistics = aged = np.zeros(growth.shape[1], np.float32)
    for g, size in zip(growth, sizes, strict=True):
        started = statistics + size
        aged = (aged + started * size) * g
        statistics = started * g
    return statistics, aged
