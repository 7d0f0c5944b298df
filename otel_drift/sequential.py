"""The sequential detector: drift alarms with a proved bound on false ones.

Labels go in as they are predicted; an alarm comes out when the evidence for a change of their
distribution has passed the average run length that was asked for:

>>> import numpy as np
>>> from otel_drift import Baseline
>>> from otel_drift.sequential import SequentialDetector
>>> rng = np.random.default_rng(7)
>>> detector = SequentialDetector(Baseline.uniform(10))  # a false alarm in 10 million predictions
>>> detector.update(rng.integers(0, 10, size=5_000))
()
>>> shifted = rng.integers(0, 9, size=1_000)  # from here on, class 9 is never predicted
>>> alarm = detector.update(shifted)[0]
>>> alarm.prediction, alarm.classes, alarm.ratio
(5216, (9,), 0.02)
>>> alarm.prediction - alarm.onset  # the drift began about here
4961
>>> detector.active
True

Nothing has to be calibrated. As long as each prediction's distribution, given the past, stays in
the baseline's tolerated band, the expected number of false alarms in any t predictions is at most
``t / average_run_length``. The chapter *The detector* in the documentation has the proof.

How it works: labels are cut into chunks of 32. Some thousand bets are held, each on another
changed distribution q. A chunk multiplies a bet's statistic R by the likelihood ratio of q against
the tolerated distribution p* that lies nearest to it (the reverse information projection), so that
no tolerated distribution can make R grow by more than the number of predictions:

    R <- (n + R) exp(-n / M) prod_k (q_k / p*_k)^c_k

The evidence is the weighted mean of all R. Between chunks R is held as float32; the factor
``exp(-ROUNDING)`` in each step is larger than the rounding, so that the bound holds for the numbers
as computed.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.baseline import DEFAULT_TOLERANCE, Baseline

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Labels = NDArray[np.int64]

DEFAULT_AVERAGE_RUN_LENGTH = 10_000_000
MINIMUM_AVERAGE_RUN_LENGTH = 100
MAXIMUM_AVERAGE_RUN_LENGTH = 1e12
"""Above it R would leave the range of float32."""

CHUNK = 32
"""Predictions in a chunk: bets change between chunks only."""

RATIOS = (0.02, 0.5, 2.0, 3.5, 8.0)
"""One class moved: its new share over the old."""
PAIR_RATIOS = (0.02, 0.5, 2.0)
"""Two classes moved alike."""
PAIRED_CLASSES = 10
"""The commonest classes, of which every two are bet on."""
SINGLE_WEIGHT, PAIR_WEIGHT = 0.40, 0.15
LARGEST_SHARE = 0.9
"""Bets that give the moved classes more than this together are left out."""

MEMORIES = (200.0, 1_000.0, 5_000.0, 300.0)
"""Predictions after which what was learnt has faded to 1/e."""
LINEAR, LINEAR_WEIGHTS, LINEAR_PRIOR = (0, 1, 2), (0.09, 0.09, 0.05), 20.0
"""Learnt, any change: places in MEMORIES, weights, predictions that the baseline counts for."""
SPARSE, SPARSE_WEIGHTS, SPARSE_PRIOR = (3, 1), (0.11, 0.11), 3.0
"""Learnt, a change of the few classes that stand out."""
STANDS_OUT = (1.5, 2.0)
"""Standard deviations from which on a class stands out, of each."""

CLASSES_PER_CHUNK, MAXIMUM_LESSON = 250, 8
"""Learnt bets change every chunk below 500 classes, every fourth at 1,000, every eighth from 2,000
on: working them out is what costs most, and many classes are learnt slowly anyway."""

MINIMUM_LEAK = 20_000.0
ROUNDING = 2.0**-22
"""Pays for three float32 roundings a chunk: increment, sum, product."""
BLOCK = 2**17
"""Statistics worked out at once: enough to amortise NumPy's overhead, few enough for a cache."""

QUIET = 320
"""Predictions without an alarm after which drift may have ended, at the least."""
QUIET_GAPS = 3
"""The same in gaps between alarms, of which so many are remembered."""

STATE_VERSION = 1
REPORTED_CLASSES = 10


class ClassShift(NamedTuple):
    """What the evidence says about one class."""

    position: int
    """Place of the class in the baseline."""
    baseline: float
    """Proportion that the bets start from."""
    estimate: float
    """Proportion now: the mean of all bets, each by its share of the evidence."""
    contribution: float
    """Share of this class in the divergence of the estimate from the tolerated band, 0 to 1."""


class Explanation(NamedTuple):
    """What moved, and since when."""

    onset: int
    """Predictions since the drift began, by estimate."""
    classes: tuple[int, ...]
    """The most probable class, or two classes, to have moved: places in the baseline."""
    ratio: float
    """Their most probable new share over the old, among the ratios that are bet on."""
    probability: float
    """Posterior probability of `classes`, given that one class moved or two alike."""
    contributions: tuple[ClassShift, ...]
    """The classes that contribute most, in descending order."""


class Alarm(NamedTuple):
    """The evidence has passed the threshold."""

    prediction: int
    """Number of predictions seen when it did."""
    evidence: float
    """log10 of the evidence."""
    onset: int
    """Predictions since the drift began, by estimate; of a drift that goes on, since its first."""
    classes: tuple[int, ...]
    """The most probable class, or two classes, to have moved: places in the baseline."""
    ratio: float
    """Their most probable new share over the old, among the ratios that are bet on."""
    probability: float
    """Posterior probability of `classes`, given that one class moved or two alike."""
    contributions: tuple[ClassShift, ...]
    """The classes that contribute most, in descending order."""


NOTHING_MOVED = Explanation(0, (), 1.0, 0.0, ())


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
        baseline: Baseline,
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> None:
        self.baseline = baseline
        self.average_run_length = _checked_average_run_length(average_run_length)
        self.tolerance = float(tolerance)
        self._lower, self._upper = baseline.tolerated_band(tolerance)
        self._base = _into_band(baseline.starting_proportions(), self._lower, self._upper)
        self._fixed = _fixed_bets(self._base, self._lower, self._upper)
        self._weights = _weights(self._fixed)
        self._weights32 = self._weights.astype(np.float32)
        self._leak = max(self.average_run_length / 100, MINIMUM_LEAK)
        self._ceiling = _ceiling(self.average_run_length, self._weights)

        k, bets = len(self._base), len(self._weights)
        self._statistics = np.zeros(bets, np.float32)
        self._ages = np.zeros(bets, np.float32)
        self._learnt = np.zeros((len(MEMORIES), k), np.float32)
        self._lesson_chunks = min(MAXIMUM_LESSON, max(1, k // CLASSES_PER_CHUNK))
        self._unlearnt = np.zeros(k, np.float32)
        self._unlearnt_chunks = 0
        self._walks, self._walk_of = _walks(self._fixed)
        self._cusum = np.zeros(len(self._walks), np.float32)
        self._since = np.zeros(len(self._walks), np.uint32)

        self.alarms = 0
        self._committed = 0
        self._pending = np.zeros(0, np.int64)
        self._episode = _Episode()

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
    def active(self) -> bool:
        """Whether there is drift: from an alarm until it has been quiet for long enough.

        Long enough is three times the longest of the last three gaps between alarms, and at
        least 320 predictions.
        """
        return self._episode.active(self.predictions)

    def update(self, labels: ArrayLike) -> tuple[Alarm, ...]:
        """Take predicted classes in stream order.

        Parameters
        ----------
        labels
            Whole numbers from 0 to K - 1, shape (n,), n from 0 to any number.

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
        stream = np.concatenate([self._pending, _checked_labels(labels, len(self._base))])
        whole = len(stream) - len(stream) % CHUNK
        self._pending = stream[whole:].copy()
        alarms: list[Alarm] = []
        rows = self._rows()
        for start in range(0, whole, rows * CHUNK):
            block = stream[start : min(whole, start + rows * CHUNK)]
            self._commit(_chunk_counts(block, len(self._base)), alarms)
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
        chunks = _checked_counts(counts, k)
        alarms: list[Alarm] = []
        if len(self._pending):
            pending = np.bincount(self._pending, minlength=k)[None].astype(np.float64)
            self._pending = np.zeros(0, np.int64)
            self._commit(pending, alarms)
        rows = self._rows()
        for start in range(0, len(chunks), rows):
            block = chunks[start : start + rows].astype(np.float64)
            self._commit(block[block.any(axis=1)], alarms)
        return tuple(alarms)

    def explanation(self) -> Explanation:
        """Say what has moved and since when, as the evidence of all whole chunks has it now."""
        found = self._explanation(self._learnt)
        started = self._episode.started
        if started is None or not self._episode.active(self.predictions):
            return found
        return found._replace(onset=self._committed - started)

    def state(self) -> dict[str, Any]:
        """All that the detector remembers, as a dict that JSON can hold; read by `from_state`.

        Its size does not grow with the number of predictions: about 90 kB for 1,000 classes.
        """
        return {
            "version": STATE_VERSION,
            "baseline": self.baseline.fingerprint,
            "average_run_length": self.average_run_length,
            "tolerance": self.tolerance,
            "alarms": self.alarms,
            "committed": self._committed,
            "pending": self._pending.tolist(),
            "unlearnt_chunks": self._unlearnt_chunks,
            "last_alarm": self._episode.last_alarm,
            "started": self._episode.started,
            "gaps": list(self._episode.gaps),
            **{name: _packed(values) for name, values in self._arrays().items()},
        }

    @classmethod
    def from_state(
        cls,
        baseline: Baseline,
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
        detector = cls(baseline, state["average_run_length"], state["tolerance"])
        detector._restore(state)
        return detector

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            for name, values in self._arrays().items():
                values[...] = _unpacked(state[name], values)
            self.alarms = int(state["alarms"])
            self._committed = int(state["committed"])
            self._unlearnt_chunks = int(state["unlearnt_chunks"])
            self._pending = _checked_labels(state["pending"], len(self._base))
            self._episode = _Episode(
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
        }

    def _rows(self) -> int:
        """Chunks worked out at once."""
        return max(1, BLOCK // len(self._weights))

    def _evidence(self) -> float:
        return float(self._weights @ self._statistics.astype(np.float64))

    def _commit(self, counts: Floats, alarms: list[Alarm]) -> None:
        """Take chunks of shape (T, K), none empty."""
        if not len(counts):
            return
        sizes = counts.sum(axis=1)
        learnt, lesson = self._learn(counts)
        logs = np.empty((len(counts), len(self._weights)))
        self._fixed.log_products(counts, sizes, out=logs[:, : self._fixed.size])
        logs[:, self._fixed.size :] = _learnt_log_products(
            learnt, lesson, counts, self._base, self._lower, self._upper
        )
        growth = logs - (sizes / self._leak + ROUNDING)[:, None]
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
        found = self._explanation(learnt)
        started = self._episode.alarm(self._committed, found.onset)
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
        classes, ratio, probability = self._fixed.most_probable(evidence[: self._fixed.size])
        estimate = self._fixed.mixture(evidence[: self._fixed.size] / total, self._base)
        estimate += (evidence[self._fixed.size :] / total) @ _learnt_bets(learnt, self._base)
        return Explanation(
            round((age + reset) / 2),
            classes,
            ratio,
            probability,
            _contributions(self._base, estimate, self._lower, self._upper),
        )


@dataclass
class _Episode:
    """Whether a drift goes on: decided in predictions, not in time."""

    last_alarm: int | None = None
    started: int | None = None
    gaps: tuple[int, ...] = ()

    def active(self, prediction: int) -> bool:
        if self.last_alarm is None:
            return False
        return prediction - self.last_alarm < max(QUIET, QUIET_GAPS * max(self.gaps))

    def alarm(self, prediction: int, onset: int) -> int:
        """Take an alarm, and return the number of the prediction at which its drift began."""
        if self.active(prediction) and self.last_alarm is not None and self.started is not None:
            self.gaps = (*self.gaps, prediction - self.last_alarm)[-QUIET_GAPS:]
        else:
            self.started = prediction - min(onset, prediction)
            self.gaps = (onset,)
        self.last_alarm = prediction
        return self.started


@dataclass(frozen=True)
class _FixedBets:
    """Bets that one class, or two alike, have moved by a ratio and the rest in proportion.

    With base proportions b, bet i gives a moved class k the share ``ratio_i b_k`` and any other
    ``rest_i b_k``. Projecting it leaves the log ratio ``log(q_k / p*_k)`` the same for all classes
    that are not moved, unless one of them meets an edge of its band. So three numbers a bet stand
    for its K log ratios; bets where a class does meet an edge are worked out class by class.

    Shapes: F bets, 5 * K of one class (ratio by ratio), then the pairs (likewise).
    """

    first: Indices
    second: Indices
    """Moved classes; the same twice where one moved."""
    ratio: Floats
    rest: Floats
    used: NDArray[np.bool_]
    """False where a bet is inside the band or impossible: it has weight 0."""
    log_rest: Floats
    """Log ratio of the classes that did not move."""
    gain_first: Floats
    gain_second: Floats
    """Log ratios of the moved classes, less `log_rest`."""
    edged: Indices
    """Bets where a class that did not move meets an edge of its band."""
    log_scale: Floats
    """Logarithm of p* over the base of classes that did not move, where they meet no edge."""
    log_lower: Floats
    log_upper: Floats
    """Shape (K,): edges of the band over the base."""

    @property
    def size(self) -> int:
        return len(self.ratio)

    @property
    def singles(self) -> int:
        return len(self.log_lower) * len(RATIOS)

    def log_products(self, counts: Floats, sizes: Floats, out: Floats) -> None:
        """Write ``sum_k c_k log(q_k / p*_k)`` for chunks (T, K) and every bet: shape (T, F)."""
        t, k = counts.shape
        one = out[:, : self.singles].reshape(t, len(RATIOS), k)
        two = out[:, self.singles :]
        np.multiply(counts[:, None, :], self.gain_first[: self.singles].reshape(-1, k), out=one)
        if two.shape[1]:
            first, second = self.first[self.singles :], self.second[self.singles :]
            np.multiply(counts[:, first], self.gain_first[self.singles :], out=two)
            two += counts[:, second] * self.gain_second[self.singles :]
        out += sizes[:, None] * self.log_rest
        if len(self.edged):
            seen = np.flatnonzero(counts.any(axis=0))
            out[:, self.edged] = counts[:, seen] @ self._log_ratios(seen, self.edged)

    def _log_ratios(self, classes: Indices, bets: Indices) -> Floats:
        """``log(q_k / p*_k)``, shape (classes, bets)."""
        logs = np.log(self.rest[bets]) - np.clip(
            self.log_scale[bets], self.log_lower[classes, None], self.log_upper[classes, None]
        )
        second = (self.log_rest + self.gain_second)[bets]
        logs = np.where(classes[:, None] == self.second[bets], second, logs)
        first = (self.log_rest + self.gain_first)[bets]
        return np.where(classes[:, None] == self.first[bets], first, logs)

    def most_probable(self, evidence: Floats) -> tuple[tuple[int, ...], float, float]:
        """Find the class or pair with most evidence, its best ratio and posterior probability."""
        total = float(evidence.sum())
        if not total > 0:
            return (), 1.0, 0.0
        one = evidence[: self.singles].reshape(len(RATIOS), -1)
        two = evidence[self.singles :].reshape(len(PAIR_RATIOS), -1)
        alike = np.concatenate([one.sum(axis=0), two.sum(axis=0)])
        best = int(alike.argmax())
        probability = float(alike[best]) / total
        if best < one.shape[1]:
            return (best,), RATIOS[int(one[:, best].argmax())], probability
        pair = best - one.shape[1]
        bet = self.singles + pair
        classes = (int(self.first[bet]), int(self.second[bet]))
        return classes, PAIR_RATIOS[int(two[:, pair].argmax())], probability

    def mixture(self, weights: Floats, base: Floats) -> Floats:
        """Weighted sum of the bets, shape (K,)."""
        change = weights * (self.ratio - self.rest)
        moved = np.bincount(self.first, weights=change, minlength=len(base))
        pairs = slice(self.singles, None)
        moved += np.bincount(self.second[pairs], weights=change[pairs], minlength=len(base))
        return base * (float(weights @ self.rest) + moved)


def _fixed_bets(base: Floats, lower: Floats, upper: Floats) -> _FixedBets:
    """Lay out both families and project each bet onto the band."""
    k = len(base)
    common = np.sort(np.argsort(-base, kind="stable")[:PAIRED_CLASSES])
    i, j = np.triu_indices(len(common), 1) if k > 2 else (np.zeros(0, np.intp),) * 2
    one = np.tile(np.arange(k), len(RATIOS))
    first = np.concatenate([one, np.tile(common[i], len(PAIR_RATIOS))])
    second = np.concatenate([one, np.tile(common[j], len(PAIR_RATIOS))])
    ratio = np.concatenate([np.repeat(RATIOS, k), np.repeat(PAIR_RATIOS, len(i))])
    pair = first != second

    share = base[first] + np.where(pair, base[second], 0)
    used = (ratio * share <= LARGEST_SHARE) & (share < 1)
    used &= ~(
        _within(ratio * base[first], lower[first], upper[first])
        & _within(ratio * base[second], lower[second], upper[second])
    )
    ratio = np.where(used, ratio, 1.0)
    rest = np.where(used, (1 - ratio * share) / np.where(used, 1 - share, 1), 1.0)

    scale = np.ones(len(ratio))
    scale[used] = _rest_scale(
        base, lower, upper, first[used], second[used], ratio[used] / rest[used]
    )
    with np.errstate(divide="ignore"):
        log_lower = np.minimum(np.log(lower / base), 0)
        log_upper = np.maximum(np.log(upper / base), 0)
    log_scale, log_turn = np.log(scale), np.log(ratio / rest)
    log_first, log_second = (
        np.log(ratio) - np.clip(log_scale + log_turn, log_lower[moved], log_upper[moved])
        for moved in (first, second)
    )
    meets = (log_scale < log_lower.max()) | (log_scale > log_upper.min())
    log_rest = np.where(used, np.log(rest) - log_scale, 0.0)
    return _FixedBets(
        first=first,
        second=second,
        ratio=ratio,
        rest=rest,
        used=used,
        log_rest=log_rest,
        gain_first=np.where(used, log_first - log_rest, 0.0),
        gain_second=np.where(used, log_second - log_rest, 0.0),
        edged=np.flatnonzero(used & meets),
        log_scale=log_scale,
        log_lower=log_lower,
        log_upper=log_upper,
    )


def _within(shares: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    return (lower <= shares) & (shares <= upper)


def _rest_scale(
    base: Floats, lower: Floats, upper: Floats, first: Indices, second: Indices, turn: Floats
) -> Floats:
    """Find p* over the base, for the classes that did not move, of each bet.

    With that scale x, ``p* = clip(x b, lower, upper)``, and ``clip(x turn b, lower, upper)`` for
    the moved classes. The sum over all classes is piecewise linear in x with breaks at the edges
    of the bands, so it is looked up in sorted cumulative sums. Bisection, for all bets at once;
    what is returned is the end at which p* sums to at least 1.
    """
    total = _clipped_total(base, lower, upper)
    pair = first != second

    def excess(x: Floats) -> Floats:
        change = np.zeros(len(x))
        for k, counted in ((first, True), (second, pair)):
            b, low, high = base[k], lower[k], upper[k]
            change += counted * (np.clip(x * turn * b, low, high) - np.clip(x * b, low, high))
        return total(x) + change - 1

    # Moved up, the rest goes down: x in [0, 1]. Moved down: 1/x in [smallest, 1].
    up = turn >= 1
    edge = np.maximum(upper[first] / base[first], upper[second] / base[second]) / turn
    near = np.where(up, 0.0, 1 / np.maximum(edge, (upper / base).max()))
    far = np.ones(len(turn))
    for _ in range(60):
        middle = (near + far) / 2
        enough = excess(np.where(up, middle, 1 / middle)) >= 0
        beyond = enough == up
        far = np.where(beyond, middle, far)
        near = np.where(beyond, near, middle)
    return np.where(up, far, 1 / near)


def _clipped_total(base: Floats, lower: Floats, upper: Floats) -> Callable[[Floats], Floats]:
    """Return the function ``x -> sum_k clip(x b_k, lower_k, upper_k)`` of an array x."""
    rises, stops = lower / base, upper / base
    by_rise, by_stop = np.argsort(rises), np.argsort(stops)
    rises, stops = rises[by_rise], stops[by_stop]

    def sums(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values)])

    base_risen, base_stopped = sums(base[by_rise]), sums(base[by_stop])
    lower_risen, upper_stopped = sums(lower[by_rise]), sums(upper[by_stop])

    def total(x: Floats) -> Floats:
        risen = np.searchsorted(rises, x, side="right")
        stopped = np.searchsorted(stops, x, side="left")
        return (
            lower_risen[-1]
            - lower_risen[risen]
            + x * (base_risen[risen] - base_stopped[stopped])
            + upper_stopped[stopped]
        )

    return total


def _projection_scales(q: Floats, lower: Floats, upper: Floats, start: Floats) -> Floats:
    """Project distributions onto the band: p* = clip(s q, lower, upper), summing to 1.

    The tolerated distribution nearest to q in Kullback-Leibler divergence KL(q || p). The sum is
    piecewise linear in s, so that Newton's method inside a bracket is exact after a few steps.

    Parameters
    ----------
    q
        Shape (n, K), all above 0, rows summing to 1.
    start
        First guess of s, shape (n,).

    Returns
    -------
    s, shape (n,), rounded up: a sum above 1 keeps the bet valid, and the answer does not depend
    on the first guess.
    """
    scales = start.copy()
    todo, s = np.arange(len(q)), start
    low, high = np.zeros(len(q)), np.full(len(q), np.inf)
    for _ in range(200):
        scaled = s[:, None] * q
        nearest = np.clip(scaled, lower, upper)
        gap = nearest.sum(axis=1) - 1
        going = np.abs(gap) > 1e-13
        left = np.count_nonzero(going)
        if left < len(todo):
            scales[todo] = s
        if not left:
            break
        if left <= len(todo) / 2:
            todo, q, s, gap = todo[going], q[going], s[going], gap[going]
            scaled, nearest = scaled[going], nearest[going]
            low, high, going = low[going], high[going], going[going]
        low, high = np.where(gap < 0, s, low), np.where(gap < 0, high, s)
        slope = np.where(nearest == scaled, q, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = s - gap / slope
        middle = np.where(high == np.inf, 2 * s, np.where(low == 0, s / 2, np.sqrt(low * high)))
        moved = np.where((slope > 0) & (low < step) & (step < high), step, middle)
        s = np.where(going, moved, s)
    else:
        scales[todo] = high
    return (np.floor(scales * 2**40) + 1) / 2**40


def _projection_scale(q: Floats, lower: Floats, upper: Floats) -> float:
    """`_projection_scales` of one distribution, shape (K,)."""
    return float(_projection_scales(q[None], lower, upper, np.ones(1))[0])


def _into_band(p: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return p where it is tolerated, else the nearest tolerated distribution."""
    inside = np.clip(_projection_scale(p, lower, upper) * p, lower, upper)
    return inside / inside.sum()


def _learnt_bets(learnt: NDArray[np.float32], base: Floats) -> Floats:
    """Distributions that the learnt bets are on: (..., memories, K) -> (..., bets, K)."""
    # In float32: a bet may be on any distribution, so only the final division has to be exact.
    start = base.astype(np.float32)
    bets = np.empty((*learnt.shape[:-2], len(LINEAR) + len(SPARSE), len(base)), np.float32)
    np.add(learnt[..., : len(LINEAR), :], np.float32(LINEAR_PRIOR) * start, out=bets[..., :3, :])
    few = learnt[..., SPARSE, :]
    size = few.sum(axis=-1, keepdims=True)
    expected = size * start
    excess = few - expected
    limit = np.square(STANDS_OUT, dtype=np.float32)[:, None]
    stands_out = excess * excess > limit * (expected + np.float32(0.25))
    prior = np.float32(SPARSE_PRIOR)
    few += prior * start
    few /= prior + size
    bets[..., len(LINEAR) :, :] = np.where(stands_out, few, start)
    exact = bets.astype(np.float64)
    exact /= exact.sum(axis=-1, keepdims=True)
    return exact


def _learnt_log_products(
    learnt: NDArray[np.float32],
    lesson: Indices,
    counts: Floats,
    base: Floats,
    lower: Floats,
    upper: Floats,
) -> Floats:
    """``sum_k c_k log(q_k / p*_k)`` of the learnt bets for chunks (T, K): shape (T, bets).

    Logarithms are taken only of the classes that a chunk holds.
    """
    q = _learnt_bets(learnt, base)
    lessons, bets, k = len(q), len(LINEAR) + len(SPARSE), len(base)
    # Bets change little from lesson to lesson: the scales of the first are good guesses.
    guess = _projection_scales(q[0], lower, upper, np.ones(bets))
    scales = _projection_scales(q.reshape(-1, k), lower, upper, np.tile(guess, len(q)))
    rows, classes = np.nonzero(counts)
    of_row = lesson[rows]
    seen = q[of_row, :, classes]
    nearest = np.clip(
        scales.reshape(lessons, bets)[of_row] * seen, lower[classes, None], upper[classes, None]
    )
    logs = np.log(seen / nearest) * counts[rows, classes, None]
    return np.add.reduceat(logs, np.flatnonzero(np.diff(rows, prepend=-1)), axis=0)


def _weights(fixed: _FixedBets) -> Floats:
    """Weights of all bets, summing to 1; a family without bets leaves its weight to the others."""
    one, two = fixed.used[: fixed.singles], fixed.used[fixed.singles :]
    weights = np.concatenate(
        [
            one * ((SINGLE_WEIGHT + (0 if two.any() else PAIR_WEIGHT)) / max(1, one.sum())),
            two * (PAIR_WEIGHT / max(1, two.sum())),
            LINEAR_WEIGHTS,
            SPARSE_WEIGHTS,
        ]
    )
    return weights / weights.sum()


def _ceiling(average_run_length: float, weights: Floats) -> float:
    """Largest logarithm of an increment: far enough to raise any alarm, and no overflow."""
    largest = max(average_run_length / weights[weights > 0].min(), 1e15)
    return math.log(1e37) - math.log(largest)


def _walks(fixed: _FixedBets) -> tuple[Indices, Indices]:
    """Choose the bets whose CUSUM is followed, and which of them dates each bet.

    Of each class two: its mildest bet downwards and upwards. Drift of another ratio turns both
    at about the same prediction, and memory stays small. Pairs and learnt bets have their own.
    """
    k = fixed.singles // len(RATIOS)
    up = np.array(RATIOS) > 1
    mildness = -np.abs(np.log(RATIOS))
    used = fixed.used[: fixed.singles].reshape(len(RATIOS), k)
    down_bet, up_bet = (
        np.where(used & direction[:, None], mildness[:, None], -np.inf).argmax(axis=0) * k
        + np.arange(k)
        for direction in (~up, up)
    )
    own = np.arange(fixed.singles, fixed.size + len(LINEAR) + len(SPARSE))
    walks = np.concatenate([down_bet, up_bet, own])
    of_single = np.arange(k) + k * up[:, None]
    return walks, np.concatenate([of_single.reshape(-1), 2 * k + np.arange(len(own))])


def _contributions(
    base: Floats, estimate: Floats, lower: Floats, upper: Floats
) -> tuple[ClassShift, ...]:
    """Split the divergence of the estimate from the band over the classes, largest first.

    ``KL(q || p*) = sum_k (q_k log(q_k / p*_k) - q_k + p*_k)``, each term at least 0.
    """
    q = estimate / estimate.sum()
    nearest = np.clip(_projection_scale(q, lower, upper) * q, lower, upper)
    terms = np.maximum(q * np.log(q / nearest) - q + nearest, 0)
    total = float(terms.sum())
    shares = terms / total if total > 0 else terms
    largest = np.argsort(-shares, kind="stable")[:REPORTED_CLASSES]
    return tuple(ClassShift(int(k), float(base[k]), float(q[k]), float(shares[k])) for k in largest)


def _chunk_counts(labels: Labels, k: int) -> Floats:
    """Count whole chunks of labels: shape (T, K)."""
    chunks = len(labels) // CHUNK
    cells = labels + np.repeat(np.arange(chunks) * k, CHUNK)
    return np.bincount(cells, minlength=chunks * k).reshape(chunks, k).astype(np.float64)


def _checked_average_run_length(value: float) -> float:
    if not MINIMUM_AVERAGE_RUN_LENGTH <= value <= MAXIMUM_AVERAGE_RUN_LENGTH:
        raise ValueError(
            f"average_run_length={value!r}: must be a number of predictions from "
            f"{MINIMUM_AVERAGE_RUN_LENGTH} to {MAXIMUM_AVERAGE_RUN_LENGTH:.0e}"
        )
    return float(value)


def _checked_labels(labels: ArrayLike, k: int) -> Labels:
    values = _whole(labels, "labels")
    if values.ndim != 1:
        raise ValueError(f"labels of shape {values.shape}: must be one-dimensional, like (100,)")
    wrong = (values < 0) | (values >= k)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"labels[{place}]={values[place]}: must be a whole number from 0 to {k - 1}"
        )
    return values.astype(np.int64)


def _checked_counts(counts: ArrayLike, k: int) -> NDArray[Any]:
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


def _packed(values: NDArray[Any]) -> str:
    return base64.b85encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def _unpacked(text: str, like: NDArray[Any]) -> NDArray[Any]:
    values = np.frombuffer(base64.b85decode(text), like.dtype.newbyteorder("<"))
    if values.size != like.size or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{values.size} values, {like.size} expected, finite and at least 0")
    return values.reshape(like.shape)
