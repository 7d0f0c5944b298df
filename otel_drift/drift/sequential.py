"""The sequential detector: drift alarms with a proved bound on false ones.

Labels go in as they are predicted; an alarm comes out when the evidence for a change of their
distribution has passed the average run length that was asked for:

>>> import numpy as np
>>> from otel_drift import Baseline, SequentialDetector
>>> rng = np.random.default_rng(7)
>>> detector = SequentialDetector(Baseline.uniform(10))  # a false alarm in 10 million predictions
>>> detector.update(rng.integers(0, 10, size=5_000))
()
>>> shifted = rng.integers(0, 9, size=1_000)  # from here on, class 9 is never predicted
>>> alarm = detector.update(shifted)[0]
>>> alarm.prediction, alarm.classes
(5216, (9,))
>>> [f"class {one.position} from {one.baseline:.0%} to {one.estimate:.1%}" for one in alarm.moved]
['class 9 from 10% to 0.2%']
>>> alarm.prediction - alarm.age  # the drift began about here
4961
>>> detector.active
True

Nothing has to be calibrated. As long as each prediction's distribution, given the past, stays in
the baseline's tolerated band, the expected number of false alarms in any t predictions is at most
``t / average_run_length``. The chapter *The detector* in the documentation has the proof.

How it works: labels are cut into chunks of 32. Several bets a class are held (190 for 10 classes,
about 5,000 for 1,000), each on another changed distribution q. A chunk multiplies a bet's statistic
R by the likelihood ratio of q against the tolerated distribution p* that lies nearest to it (the
reverse information projection), so that no tolerated distribution can make R grow by more than the
number of predictions:

    R <- (n + R) exp(-n / M) prod_k (q_k / p*_k)^c_k

The evidence is the weighted mean of all R. R is held as float32; the factor ``exp(-ROUNDING)`` in
each step is larger than the rounding, so that the bound holds for the numbers as computed.

What stands where: `block` (a block of chunks), `bets` and `learnt` (the bets), `brought` (what a
block brings them), `recursion` (R, in segments that are worked through side by side), `walks`
(dates of drifts), `alarm` (what is said of them).
"""

from __future__ import annotations

import base64
import copy
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.drift.alarm import (
    NOTHING_MOVED,
    Alarm,
    Episode,
    Explanation,
    contributions_of,
)
from otel_drift.drift.band import DEFAULT_TOLERANCE
from otel_drift.drift.bets import ARGUMENT_ROUNDING, fixed_bets, walks_of, weights_of
from otel_drift.drift.block import Block, block_of_counts, block_of_labels
from otel_drift.drift.brought import bringing, grown
from otel_drift.drift.calls import CallDependence
from otel_drift.drift.chunks import CHUNK, checked_counts, checked_labels
from otel_drift.drift.design_effect import LiveDesignEffect
from otel_drift.drift.dispersion import cells_of
from otel_drift.drift.learnt import (
    MANY_CLASSES,
    MAXIMUM_LESSON,
    LearntBets,
    learnt_bets,
    memories_of,
)
from otel_drift.drift.projection import into_band
from otel_drift.drift.recursion import recursion_of
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.segments import SEGMENT
from otel_drift.drift.variation import Variation
from otel_drift.drift.walks import (
    SeenSteps,
    Steps,
    Walks,
    chunks_of,
    steps_of,
    steps_of_walk,
)

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Indices = NDArray[np.intp]

DEFAULT_AVERAGE_RUN_LENGTH = 10_000_000
MINIMUM_AVERAGE_RUN_LENGTH = 100
MAXIMUM_AVERAGE_RUN_LENGTH = 1e12
"""Above it R would leave the range of float32."""

MINIMUM_LEAK = 20_000.0
ROUNDING = 2.0**-20
"""Pays for each chunk's roundings to float32: those of the recursion, and of the exponential
function, whose error is below 4 units in the last place. 12 of 16 times 2^-24 in all."""
BLOCK = 2**20
"""Statistics worked out at once: enough to amortise what NumPy takes to start."""

EXPLAINED_FOR, EXPLAINED_FOR_LONGEST = 512, 4_096
"""Predictions for which the alarms of one drift share an explanation, an eighth of its age in
between: there may be an alarm in every chunk, and explaining costs more than finding."""

STATE_VERSION = 4
SIGNED = ("direction", "turning")
"""Ends of the names of arrays that may hold negative numbers."""


class Part(NamedTuple):
    """A block of chunks that is worked out at once, and what it brings."""

    block: Block
    learnt: Floats32
    """What the learnt bets rest on, shape (lessons, memories, K)."""
    lesson: Indices
    """The lesson that each chunk is in, shape (T,)."""
    growth: Floats32
    """Factor g of each chunk and bet, shape (T, bets)."""
    steps: Steps
    """Steps of the walks, shape (T, walks)."""


class SequentialDetector:
    """Watch a stream of predicted classes for a change of their distribution.

    Parameters
    ----------
    baseline
        What is predicted when all is well.
    average_run_length
        Promised mean number of predictions to a false alarm, 100 to 1e12.
    tolerance
        Relative change of a class's share that is no drift, above 0 and below 1.
    calls
        Whether `update` is told which labels are of one call, so that those of a call that are
        alike count as the fewer that they are worth.

    Raises
    ------
    ValueError
        If the average run length or the tolerance is out of range.

    Attributes
    ----------
    alarms
        Number of alarms so far.

    Notes
    -----
    The same labels in the same order give the same alarms however they are cut into calls of
    `update`. The evidence counts whole chunks of 32; up to 31 labels wait for the next call.
    """

    def __init__(
        self,
        baseline: ReferenceDistribution,
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
        *,
        calls: bool = False,
    ) -> None:
        self.baseline = baseline
        self.average_run_length = _checked_average_run_length(average_run_length)
        self.tolerance = float(tolerance)
        self._lower, self._upper = baseline.tolerated_band(tolerance)
        self._base = into_band(baseline.starting_proportions(), self._lower, self._upper)
        self._fixed = fixed_bets(self._base, self._lower, self._upper)
        self._weights = weights_of(self._fixed)
        self._ceiling = _ceiling(self.average_run_length, self._weights)
        self._recursion = recursion_of(self._weights)
        self._memories = memories_of(self._lower)
        self._learnt = LearntBets(self._base, self._lower, self._upper)
        self._cells, self._cell = cells_of(self._base)
        self._calls, self._dependence = _dependence(self._base, baseline.variation, calls)
        self._walking, self._walk_of = walks_of(self._fixed)
        self._walks = Walks(len(self._walking))
        of_fixed = self._walking[self._walking < self._fixed.size]
        self._bringing = bringing(self._fixed, of_fixed, self._ceiling)

        self.alarms = 0
        self._committed = 0
        self._pending = np.zeros(0, np.int64)
        self._pending_weights = np.zeros(0)
        self._episode = Episode()
        self._explained = NOTHING_MOVED
        self._explained_until = 0

    def __copy__(self) -> SequentialDetector:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def evidence(self) -> float:
        """log10 of the evidence of all whole chunks; at least 0, always finite."""
        return math.log10(max(1.0, self._recursion.evidence()))

    @property
    def threshold(self) -> float:
        """log10 of the evidence that raises an alarm."""
        return math.log10(self.average_run_length)

    @property
    def predictions(self) -> int:
        """Predictions seen, with those that wait for their chunk to be whole."""
        return self._committed + len(self._pending)

    @property
    def design_effect(self) -> float:
        """Predictions that count as one: the log's design effect, or the stream's if larger.

        It is 1 where there was no log and there is no clear dependence. It is that of class counts:
        where calls differ in length, each row counts by what its own call is like.
        """
        of_calls = self._calls.measured if self._calls is not None else 1.0
        return of_calls * self._dependence.measured

    @property
    def dependent(self) -> bool:
        """Whether predictions depend on each other far more than the baseline allows for."""
        return self._dependence.beyond or (self._calls is not None and self._calls.beyond)

    @property
    def active(self) -> bool:
        """Whether there is drift: from an alarm until it has been quiet for long enough.

        Long enough is three times the longest of the last three gaps between alarms, and at
        least 320 predictions.
        """
        return self._episode.active(self.predictions)

    def update(self, labels: ArrayLike, lengths: ArrayLike | None = None) -> tuple[Alarm, ...]:
        """Take predicted classes in stream order.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1, shape (n,), n from 0 to any number.
        lengths
            How many of the labels each call brought, in order. By default each came alone.

        Returns
        -------
        tuple of Alarm
            The alarms that these labels raised.

        Raises
        ------
        ValueError
            If labels are not one-dimensional, or one is NaN, not whole or out of range. The
            detector is then as it was.
        """
        new = checked_labels(labels, len(self._base))
        if self._calls is None:
            return self.update_worth(new, None)
        whole = np.ones(len(new), np.int64) if lengths is None else np.asarray(lengths, np.int64)
        return self.update_worth(new, self.worth(new, whole))

    def worth(self, labels: NDArray[np.int64], lengths: Sequence[int] | Indices) -> Floats:
        """Say what the labels of whole calls count as: 1, or less where those of a call are alike.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1 in stream order, shape (n,).
        lengths
            How many of them each call brought, in order.

        Returns
        -------
        shape (n,). That of a call follows from the calls before it alone.
        """
        if self._calls is None:
            return np.ones(len(labels))
        of_calls = np.asarray(lengths, np.int64)
        return np.repeat(1 / self._calls.update(labels, of_calls), of_calls)

    def update_worth(self, labels: NDArray[np.int64], worth: Floats | None) -> tuple[Alarm, ...]:
        """Take labels that count as `worth` has said, in pieces of any size.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1 in stream order, shape (n,): not checked.
        worth
            What each counts as, above 0 and at most 1, shape (n,); None is 1 throughout.
        """
        if worth is None and self._calls is not None:
            worth = np.ones(len(labels))
        if len(self._pending):
            labels = np.concatenate([self._pending, labels])
            if worth is not None:
                worth = np.concatenate([self._pending_weights, worth])
        whole = len(labels) - len(labels) % CHUNK
        self._pending = labels[whole:].copy()
        self._pending_weights = (
            np.ones(len(self._pending)) if worth is None else worth[whole:].copy()
        )
        alarms: list[Alarm] = []
        k, rows = len(self._base), self._rows() * CHUNK
        for start in range(0, whole, rows):
            part = slice(start, min(whole, start + rows))
            weights = None if worth is None else worth[part]
            self._commit(block_of_labels(labels[part], weights, k), alarms)
        return tuple(alarms)

    def update_counts(self, counts: ArrayLike) -> tuple[Alarm, ...]:
        """Take class counts of one chunk, or of several in order.

        A chunk may be of any size; drift is noticed at its end, and bets learn between chunks
        only, so that small chunks are quicker. Where one chunk ends and the next begins must not
        depend on what was predicted. Labels of `update` that wait for their chunk to be whole
        become a chunk of their own before.

        Parameters
        ----------
        counts
            Whole numbers from 0, shape (K,) or (T, K).

        Returns
        -------
        tuple of Alarm
            The alarms that these counts raised.

        Raises
        ------
        ValueError
            If the shape is another, or a count is negative, NaN or not whole. The detector is
            then as it was.
        """
        k = len(self._base)
        chunks = checked_counts(counts, k)
        alarms: list[Alarm] = []
        if len(self._pending):
            pending = np.bincount(self._pending, self._pending_weights, minlength=k)[None]
            sizes = np.array([float(len(self._pending))])
            self._pending, self._pending_weights = np.zeros(0, np.int64), np.zeros(0)
            self._commit(block_of_counts(pending.astype(np.float64), sizes), alarms)
        rows = self._rows()
        for start in range(0, len(chunks), rows):
            block = chunks[start : start + rows].astype(np.float64)
            self._commit(block_of_counts(block[block.any(axis=1)]), alarms)
        return tuple(alarms)

    def explanation(self) -> Explanation:
        """Say what has moved and since when, as the evidence of all whole chunks has it now."""
        nothing = np.empty((0, len(self._walking)), np.int32), np.empty(0)
        found = self._explanation(self._memories.learnt(), *self._recursion.moment(), *nothing)
        started = self._episode.started
        if started is None or not self._episode.active(self.predictions):
            return found
        return found._replace(age=self._committed - started)

    def state(self) -> dict[str, Any]:
        """All that the detector remembers, as a dict that JSON can hold; read by `from_state`.

        Its size does not grow with the number of predictions: at most 100 kB for 1,000 classes.
        """
        return {
            "version": STATE_VERSION,
            "baseline": self.baseline.fingerprint,
            "average_run_length": self.average_run_length,
            "tolerance": self.tolerance,
            "alarms": self.alarms,
            "committed": self._committed,
            "call_groups": self._calls and self._calls.groups,
            "pending": self._pending.tolist(),
            "pending_weights": self._pending_weights.tolist(),
            "last_alarm": self._episode.last_alarm,
            "started": self._episode.started,
            "gaps": list(self._episode.gaps),
            "explained": self._explained.plain(),
            "explained_until": self._explained_until,
            **{name: _packed(values) for name, values in self._arrays().items()},
        }

    @classmethod
    def from_state(
        cls,
        baseline: ReferenceDistribution,
        state: Mapping[str, Any],
        *,
        average_run_length: float | None = None,
        tolerance: float | None = None,
    ) -> SequentialDetector:
        """Go on from a `state`.

        Parameters
        ----------
        baseline
            The baseline that the state was made with.
        state
            What `state` returned, also after a round trip through JSON.
        average_run_length, tolerance
            If given, the state must have been made with the same.

        Raises
        ------
        ValueError
            If the state is of another version, baseline, average run length or tolerance, or is
            damaged; the message says which.
        """
        wanted = {
            "version": STATE_VERSION,
            "baseline": baseline.fingerprint,
            "average_run_length": average_run_length,
            "tolerance": tolerance,
        }
        for name, value in wanted.items():
            if name not in state:
                raise ValueError(f"state: field {name!r} is missing")
            if value is not None and state[name] != value:
                raise ValueError(
                    f"state: {name} is {state[name]!r}, but {value!r} is wanted: start anew"
                )
        groups = state.get("call_groups")
        detector = cls(
            baseline, state["average_run_length"], state["tolerance"], calls=groups is not None
        )
        detector._restore(state)
        return detector

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            if self._calls is not None:
                self._calls.expect(int(group) for group in state["call_groups"])
            for name, values in self._arrays().items():
                values[...] = _unpacked(state[name], values, signed=name.endswith(SIGNED))
            self.alarms = int(state["alarms"])
            self._committed = int(state["committed"])
            self._pending = checked_labels(state["pending"], len(self._base))
            self._pending_weights = np.array(state["pending_weights"], np.float64)
            self._episode = Episode(
                state["last_alarm"], state["started"], tuple(int(gap) for gap in state["gaps"])
            )
            self._explained = Explanation.read(state["explained"], len(self._base))
            self._explained_until = int(state["explained_until"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"state: damaged ({error!r})") from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self._recursion.arrays(),
            **self._memories.arrays(),
            **self._walks.arrays(),
            **self._dependence.arrays(),
            **(self._calls.arrays() if self._calls is not None else {}),
        }

    def _rows(self) -> int:
        """Chunks taken at once: fewer where more is learnt of each."""
        learnt = len(self._weights)
        if len(self._base) >= MANY_CLASSES:
            learnt //= MAXIMUM_LESSON
        return max(SEGMENT, 2 * BLOCK // learnt)

    def _commit(self, block: Block, alarms: list[Alarm]) -> None:
        """Take chunks, none empty."""
        chunks = len(block.sizes)
        if not chunks:
            return
        counts = block.counts(self._cell, self._cells)
        effect = self._dependence.update(counts, block.worth / block.sizes)
        block = block._replace(effect=effect)
        learnt, lesson = self._memories.take(block)
        rows = max(SEGMENT, BLOCK // len(self._weights) // SEGMENT * SEGMENT)
        # Used again and again: fresh memory costs more than what is done with it.
        growth = np.empty((min(rows, chunks), len(self._weights)), np.float32)
        steps = np.empty((len(growth), len(self._walking)), np.int32)
        # Parts end where segments do.
        begun = self._recursion.begun
        for start in range(-begun, chunks, rows):
            first, end = max(0, start), min(start + rows, chunks)
            lessons, size = int(lesson[first]), end - first
            part = Part(
                block.part(first, end),
                learnt[lessons : lesson[end - 1] + 1],
                lesson[first:end] - lessons,
                growth[:size],
                steps[:size],
            )
            self._look(part, self._work_out(part), alarms)

    def _work_out(self, part: Part) -> Steps | SeenSteps:
        """Write what the chunks bring, and give the steps of the walks."""
        block = part.block
        design_effect = block.sizes / block.worth * block.effect
        leak = np.maximum(self.average_run_length / 100, MINIMUM_LEAK * design_effect)
        taken_off = (block.sizes / leak + ROUNDING)[:, None]

        fixed, walks = self._fixed.size, len(self._walking)
        logs = self._learnt.log_products(part.learnt, part.lesson, block)
        logs -= ARGUMENT_ROUNDING * np.abs(logs)
        own = walks - logs.shape[1]
        seen = self._bringing.write(block, taken_off, part.growth[:, :fixed], part.steps[:, :own])
        part.steps[:, own:] = steps_of(logs)
        logs -= taken_off
        grown(logs, self._ceiling, part.growth[:, fixed:])
        if seen is None:
            return part.steps
        return seen._replace(others=part.steps[:, seen.unseen.size :])

    def _look(self, part: Part, steps: Steps | SeenSteps, alarms: list[Alarm]) -> None:
        """Run the recursion, and report the alarms that it raises."""
        before, sizes = self._committed, part.block.sizes
        reached = self._recursion.take(
            part.growth, sizes.astype(np.float32), self.average_run_length
        )
        ends, restart = np.cumsum(sizes, dtype=np.int64), 0
        at: list[int] = (before + ends)[reached.rows].tolist() if reached.rows else []
        first = 0
        while first < len(at):
            self._committed = at[first]
            if at[first] >= self._explained_until or not self._episode.active(at[first]):
                row = reached.rows[first]
                learnt = part.learnt[part.lesson[row]]
                self._explained = self._explanation(
                    learnt,
                    *reached.moment(first),
                    chunks_of(steps, restart, row + 1),
                    sizes[restart : row + 1],
                )
                self._explained_until = 0
            if not restart:
                self._walks.restart()
            first += self._report(at, reached.evidence, first, alarms)
            restart = reached.rows[first - 1] + 1
        self._committed = before + int(ends[-1])
        self._walks.take(chunks_of(steps, restart, len(sizes)), sizes[restart:])

    def _report(self, at: list[int], evidence: list[float], first: int, alarms: list[Alarm]) -> int:
        """Report alarms that share an explanation, from the first on; give how many."""
        found = self._explained
        began = self._episode.alarm(at[first], found.age)
        if not self._explained_until:
            shared = max(EXPLAINED_FOR, (at[first] - began) // 8)
            self._explained_until = at[first] + min(shared, EXPLAINED_FOR_LONGEST)
        shared = self._episode.follow(at, first + 1, self._explained_until)
        some = slice(first, first + 1 + shared)
        alarms += [
            Alarm(now, math.log10(one), now - began, *found[1:])
            for now, one in zip(at[some], evidence[some], strict=True)
        ]
        self.alarms += 1 + shared
        return 1 + shared

    def _explanation(
        self,
        learnt: Floats32,
        statistics: Floats,
        aged: Floats,
        steps: Steps | SeenSteps,
        sizes: Floats,
    ) -> Explanation:
        """Say what has moved.

        Parameters
        ----------
        learnt
            What the learnt bets rest on.
        statistics, aged
            R of all bets, and their sums of age times weight.
        steps, sizes
            Of chunks that the walks have not taken yet.
        """
        evidence = self._weights * statistics
        total = float(evidence.sum())
        if not total > 0:
            return NOTHING_MOVED
        age = float(self._weights @ aged) / total
        leading = int(evidence.argmax())
        walk = int(self._walk_of[leading])
        reset = self._walks.since_with(walk, steps_of_walk(steps, walk), sizes)
        classes, probability = self._fixed.most_probable(evidence[: self._fixed.size])
        estimate = self._fixed.mixture(evidence[: self._fixed.size] / total, self._base)
        estimate += (evidence[self._fixed.size :] / total) @ learnt_bets(learnt, self._base)
        return Explanation(
            round((age + reset) / 2),
            classes,
            probability,
            contributions_of(self._base, estimate, self._lower, self._upper),
        )


def _dependence(
    base: Floats, variation: Variation | None, calls: bool
) -> tuple[CallDependence | None, LiveDesignEffect]:
    """Give what measures the dependence within calls, where these are known, and what measures all.

    A log that did not tell its calls has taken what is alike in them for dependence as such.
    """
    of_cells, cell = cells_of(base)
    cells: Any = np.bincount(cell, weights=base, minlength=of_cells)
    if variation is None:
        return CallDependence(base) if calls else None, LiveDesignEffect(cells)
    if not calls or variation.calls is None:
        return None, LiveDesignEffect(cells, variation.design_effects, variation.design_effect)
    between = variation.calls
    return (
        CallDependence(base, between.correlations),
        LiveDesignEffect(cells, between.design_effects, between.design_effect),
    )


def _ceiling(average_run_length: float, weights: Floats) -> float:
    """Largest logarithm of an increment: far enough to raise any alarm, and no overflow."""
    largest = max(average_run_length / weights[weights > 0].min(), 1e15)
    return math.log(1e37) - math.log(largest)


def _checked_average_run_length(value: float) -> float:
    if not MINIMUM_AVERAGE_RUN_LENGTH <= value <= MAXIMUM_AVERAGE_RUN_LENGTH:
        raise ValueError(
            f"average_run_length={value!r}: must be a number of predictions from "
            f"{MINIMUM_AVERAGE_RUN_LENGTH} to {MAXIMUM_AVERAGE_RUN_LENGTH:.0e}"
        )
    return float(value)


def _packed(values: NDArray[Any]) -> str:
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return base64.b85encode(zlib.compress(data)).decode()


def _unpacked(text: str, like: NDArray[Any], *, signed: bool) -> NDArray[Any]:
    try:
        data = zlib.decompressobj().decompress(base64.b85decode(text), like.nbytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    values = np.frombuffer(data, like.dtype.newbyteorder("<"))
    wrong = ~np.isfinite(values) if signed else ~(np.isfinite(values) & (values >= 0))
    if values.size != like.size or wrong.any():
        raise ValueError(f"{values.size} values, {like.size} expected, finite and at least 0")
    return values.reshape(like.shape)
