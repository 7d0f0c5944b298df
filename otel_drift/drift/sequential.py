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

The evidence is the weighted mean of all R. Between chunks R is held as float32; the factor
``exp(-ROUNDING)`` in each step is larger than the rounding, so that the bound holds for the numbers
as computed.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from otel_drift.drift.bets import (
    MEMORIES,
    fixed_bets,
    learnt_bets,
    learnt_log_products,
    walks_of,
    weights_of,
)
from otel_drift.drift.calls import CallDependence
from otel_drift.drift.chunks import CHUNK, checked_counts, checked_labels, chunk_counts
from otel_drift.drift.design_effect import LiveDesignEffect
from otel_drift.drift.projection import into_band
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.variation import Variation

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

DEFAULT_AVERAGE_RUN_LENGTH = 10_000_000
MINIMUM_AVERAGE_RUN_LENGTH = 100
MAXIMUM_AVERAGE_RUN_LENGTH = 1e12
"""Above it R would leave the range of float32."""

CLASSES_PER_CHUNK, MAXIMUM_LESSON = 250, 8
"""Learnt bets change every chunk below 500 classes, every fourth at 1,000, every eighth from 2,000
on: working them out is what costs most, and many classes are learnt slowly anyway."""

MINIMUM_LEAK = 20_000.0
ROUNDING = 2.0**-22
"""Pays for three float32 roundings a chunk: increment, sum, product."""
BLOCK = 2**18
"""Statistics worked out at once: enough to amortise NumPy's overhead, few enough for a cache."""

EXPLAINED_FOR = 512
"""Predictions for which the alarms of one drift share an explanation: there may be an alarm in
every chunk, and explaining costs more than finding."""

STATE_VERSION = 3
SIGNED = ("direction", "turning")
"""Ends of the names of arrays that may hold negative numbers."""


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
        self._weights32 = self._weights.astype(np.float32)
        self._ceiling = _ceiling(self.average_run_length, self._weights)

        k, bets = len(self._base), len(self._weights)
        self._statistics = np.zeros(bets, np.float32)
        self._ages = np.zeros(bets, np.float32)
        self._calls, self._dependence = _dependence(self._base, baseline.variation, calls)
        self._learnt = np.zeros((len(MEMORIES), k), np.float32)
        self._lesson_chunks = min(MAXIMUM_LESSON, max(1, k // CLASSES_PER_CHUNK))
        self._unlearnt = np.zeros(k, np.float32)
        self._unlearnt_chunks = 0
        self._walks, self._walk_of = walks_of(self._fixed)
        self._cusum = np.zeros(len(self._walks), np.float32)
        self._since = np.zeros(len(self._walks), np.uint32)

        self.alarms = 0
        self._committed = 0
        self._pending = np.zeros(0, np.int64)
        self._pending_weights = np.zeros(0)
        self._episode = Episode()
        self._explained: Explanation | None = None
        self._explained_at = 0

    @property
    def evidence(self) -> float:
        """log10 of the evidence of all whole chunks; at least 0, always finite."""
        return math.log10(max(1.0, self._evidence()))

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

    def update_worth(self, labels: NDArray[np.int64], worth: Floats) -> tuple[Alarm, ...]:
        """Take labels that count as `worth` has said, in pieces of any size.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1 in stream order, shape (n,): not checked.
        worth
            What each counts as, above 0 and at most 1, shape (n,).
        """
        stream = np.concatenate([self._pending, labels])
        weights = np.concatenate([self._pending_weights, worth])
        whole = len(stream) - len(stream) % CHUNK
        self._pending, self._pending_weights = stream[whole:].copy(), weights[whole:].copy()
        alarms: list[Alarm] = []
        rows = self._rows() * CHUNK
        for start in range(0, whole, rows):
            part = slice(start, min(whole, start + rows))
            counts = chunk_counts(stream[part], len(self._base), weights[part])
            self._commit(counts, np.full(len(counts), float(CHUNK)), alarms)
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
            pending = np.bincount(self._pending, self._pending_weights, minlength=k)
            self._commit(
                pending[None].astype(np.float64), np.array([float(len(self._pending))]), alarms
            )
            self._pending, self._pending_weights = np.zeros(0, np.int64), np.zeros(0)
        rows = self._rows()
        for start in range(0, len(chunks), rows):
            block = chunks[start : start + rows].astype(np.float64)
            block = block[block.any(axis=1)]
            self._commit(block, block.sum(axis=1), alarms)
        return tuple(alarms)

    def explanation(self) -> Explanation:
        """Say what has moved and since when, as the evidence of all whole chunks has it now."""
        found = self._explanation(self._learnt)
        started = self._episode.started
        if started is None or not self._episode.active(self.predictions):
            return found
        return found._replace(age=self._committed - started)

    def state(self) -> dict[str, Any]:
        """All that the detector remembers, as a dict that JSON can hold; read by `from_state`.

        Its size does not grow with the number of predictions: about 80 kB for 1,000 classes.
        """
        return {
            "version": STATE_VERSION,
            "baseline": self.baseline.fingerprint,
            "average_run_length": self.average_run_length,
            "tolerance": self.tolerance,
            "alarms": self.alarms,
            "committed": self._committed,
            "calls": self._calls is not None,
            "pending": self._pending.tolist(),
            "pending_weights": self._pending_weights.tolist(),
            "unlearnt_chunks": self._unlearnt_chunks,
            "last_alarm": self._episode.last_alarm,
            "started": self._episode.started,
            "gaps": list(self._episode.gaps),
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
        calls = bool(state.get("calls"))
        detector = cls(baseline, state["average_run_length"], state["tolerance"], calls=calls)
        detector._restore(state)
        return detector

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            for name, values in self._arrays().items():
                values[...] = _unpacked(state[name], values, signed=name.endswith(SIGNED))
            self.alarms = int(state["alarms"])
            self._committed = int(state["committed"])
            self._unlearnt_chunks = int(state["unlearnt_chunks"])
            self._pending = checked_labels(state["pending"], len(self._base))
            self._pending_weights = np.array(state["pending_weights"], np.float64)
            self._episode = Episode(
                state["last_alarm"], state["started"], tuple(int(gap) for gap in state["gaps"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"state: damaged ({error!r})") from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "statistics": self._statistics,
            "ages": self._ages,
            "learnt": self._learnt,
            "unlearnt": self._unlearnt,
            "cusum": self._cusum,
            "since": self._since,
            **self._dependence.arrays(),
            **(self._calls.arrays() if self._calls is not None else {}),
        }

    def _rows(self) -> int:
        """Chunks worked out at once."""
        return max(1, BLOCK // len(self._weights))

    def _evidence(self) -> float:
        return float(self._weights @ self._statistics.astype(np.float64))

    def _commit(self, counts: Floats, sizes: Floats, alarms: list[Alarm]) -> None:
        """Take chunks of shape (T, K), none empty, and the predictions that each is of."""
        if not len(counts):
            return
        # Dependent predictions count as the fewer independent ones that say as much.
        before = counts.sum(axis=1) / sizes
        counts = counts / self._dependence.update(counts, before)[:, None]
        worth = counts.sum(axis=1)
        design_effect = sizes / worth
        learnt, lesson = self._learn(counts)
        logs = np.empty((len(counts), len(self._weights)))
        self._fixed.log_products(counts, worth, out=logs[:, : self._fixed.size])
        logs[:, self._fixed.size :] = learnt_log_products(
            learnt, lesson, counts, self._base, self._lower, self._upper
        )
        leak = np.maximum(self.average_run_length / 100, MINIMUM_LEAK * design_effect)
        growth = logs - (sizes / leak + ROUNDING)[:, None]
        np.minimum(growth, self._ceiling, out=growth)
        np.exp(growth, out=growth)

        first = 0
        for row in self._alarm_rows(growth.astype(np.float32), sizes.astype(np.float32)):
            self._walk(logs[first : row + 1], sizes[first : row + 1])
            self._committed += int(sizes[first : row + 1].sum())
            alarms.append(self._alarm(learnt[lesson[row]]))
            first = row + 1
        self._walk(logs[first:], sizes[first:])
        self._committed += int(sizes[first:].sum())

    def _learn(self, counts: Floats) -> tuple[NDArray[np.float32], Indices]:
        """Learn the chunks, and return what their bets rest on.

        Returns
        -------
        learnt
            Shape (lessons, memories, K): counts that fade, as at the beginning of each lesson.
        lesson
            Shape (T,): the lesson that each chunk is in.
        """
        total = self._unlearnt_chunks + len(counts)
        lesson = np.arange(self._unlearnt_chunks, total) // self._lesson_chunks
        complete, left = divmod(total, self._lesson_chunks)
        seen = np.add.reduceat(counts, np.flatnonzero(np.diff(lesson, prepend=-1)), axis=0)
        seen[0] += self._unlearnt
        learnt = np.empty((complete + 1, *self._learnt.shape), np.float32)
        learnt[0] = self._learnt
        sizes = seen.sum(axis=1)[:complete]
        fade = np.exp(-sizes[:, None, None] / np.array(MEMORIES)[:, None]).astype(np.float32)
        for before, after, keep, new in zip(
            learnt[:-1], learnt[1:], fade, seen[:complete].astype(np.float32), strict=True
        ):
            np.multiply(before, keep, out=after)
            np.add(after, new, out=after)
        self._learnt[...] = learnt[-1]
        self._unlearnt[...] = seen[-1] if left else 0
        self._unlearnt_chunks = left
        return learnt[: lesson[-1] + 1], lesson

    def _alarm_rows(self, growth: NDArray[np.float32], sizes: NDArray[np.float32]) -> Iterator[int]:
        """Run the recursion of all bets over the chunks; stop at each row that raises an alarm."""
        statistics, ages, weights = self._statistics, self._ages, self._weights32
        threshold = self.average_run_length
        started, kept = np.empty_like(statistics), np.empty_like(statistics)
        for row, (factor, size) in enumerate(zip(growth, sizes, strict=True)):
            np.add(statistics, size, out=started)
            np.divide(statistics, started, out=kept)
            np.multiply(started, factor, out=statistics)
            # Mean age of the starts that a statistic sums over: the new ones are of this chunk.
            np.multiply(ages, kept, out=ages)
            np.add(ages, size, out=ages)
            if statistics.dot(weights) >= threshold:
                yield row

    def _walk(self, logs: Floats, sizes: Floats) -> None:
        """CUSUM of the walks over the chunks, and predictions since each was last at 0."""
        if not len(sizes):
            return
        if len(sizes) == 1:  # as during drift, when every chunk may raise an alarm
            path = logs[0, self._walks] + self._cusum
            since = np.where(path <= 0, 0.0, self._since + float(sizes[0]))
            self._cusum[...] = np.maximum(path, 0)
            self._since[...] = np.minimum(since, 2**32 - 1)
            return
        path = logs[:, self._walks]
        np.cumsum(path, axis=0, out=path)
        path += self._cusum
        lowest = np.minimum(path.min(axis=0), 0)
        reset = len(path) - 1 - path[::-1].argmin(axis=0)
        seen = np.cumsum(sizes)
        since: Floats = np.where(
            path[reset, np.arange(path.shape[1])] <= 0,
            seen[-1] - seen[reset],
            self._since + float(seen[-1]),
        )
        self._cusum[...] = path[-1] - lowest
        self._since[...] = np.minimum(since, 2**32 - 1)

    def _alarm(self, learnt: NDArray[np.float32]) -> Alarm:
        """Report the alarm, and start the evidence anew; what was learnt is kept."""
        found = self._explained
        if (
            found is None
            or self._committed - self._explained_at >= EXPLAINED_FOR
            or not self._episode.active(self._committed)
        ):
            found = self._explained = self._explanation(learnt)
            self._explained_at = self._committed
        started = self._episode.alarm(self._committed, found.age)
        alarm = Alarm(
            self._committed,
            max(self.threshold, math.log10(self._evidence())),
            self._committed - started,
            *found[1:],
        )
        self.alarms += 1
        for values in (self._statistics, self._ages, self._cusum, self._since):
            values[...] = 0
        return alarm

    def _explanation(self, learnt: NDArray[np.float32]) -> Explanation:
        evidence = self._weights * self._statistics
        total = float(evidence.sum())
        if not total > 0:
            return NOTHING_MOVED
        age = float(evidence @ self._ages) / total
        reset = float(self._since[self._walk_of[int(evidence.argmax())]])
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
    if variation is None:
        return CallDependence(base) if calls else None, LiveDesignEffect(base)
    if not calls or variation.calls is None:
        return None, LiveDesignEffect(base, variation.design_effects, variation.design_effect)
    between = variation.calls
    return (
        CallDependence(base, between.correlations),
        LiveDesignEffect(base, between.design_effects, between.design_effect),
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
