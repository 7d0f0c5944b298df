"""The state of one model output: what it predicts, and how far that has moved.

A `DriftMonitor` needs neither OpenTelemetry nor Keras. Give it labels as they are predicted, in
batches of any size, and ask it for a snapshot.

>>> import numpy as np
>>> from otel_drift import Baseline, DriftMonitor
>>> monitor = DriftMonitor(Baseline.uniform(10))
>>> random = np.random.default_rng(1)
>>> for _ in range(100):
...     monitor.update(random.integers(0, 10, size=100))
>>> monitor.snapshot().active
False
>>> for _ in range(10):
...     monitor.update(random.integers(1, 10, size=100))  # zero is gone
>>> snapshot = monitor.snapshot()
>>> snapshot.active, snapshot.alarms > 0
(True, True)

Labels only wait in a buffer while predictions are made; counts, tests and evidence are worked out
when a snapshot is taken, when the buffer is full, or in pieces by whoever calls `works`.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.drift.alarm import Alarm
from otel_drift.drift.band import DEFAULT_TOLERANCE
from otel_drift.drift.chunks import CHUNK, as_labels
from otel_drift.drift.events import DriftAlarm, DriftEvent, DriftEvents
from otel_drift.drift.exported_classes import exported_classes
from otel_drift.drift.keys import Keys
from otel_drift.drift.reference import (
    INVALID,
    OTHER,
    RESERVED,
    ReferenceDistribution,
    class_counts,
)
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH, SequentialDetector
from otel_drift.drift.window import ChiSquareWindow, WindowResult

Labels = NDArray[np.integer[Any]]
Entry = Labels | tuple[Labels, NDArray[np.int64]] | float
"""Labels of a call; with the keys of their units where those are known. Or the time."""

T = TypeVar("T")

BUFFERED_CALLS = 256
BUFFERED_LABELS = 65_536
"""Calls and labels from which on the buffer is worked off at once."""
MANY_CALLS, MANY_LABELS = 4_096, 32_768
"""Calls or labels that are worth while working off."""
CALLS_AT_ONCE = 8_192
"""Calls that are put together to be worked out."""
PATIENCE_SECONDS = 0.05
"""How long `works` waits for somebody else's step: who has it goes on with what there is."""
READ_ANEW, READ_ANEW_AT_LEAST = 512, 32_768
"""Predictions after which windows are read with the design effect that has been found: at first,
then after twice as many, and at least so often. Never when the buffer happens to be worked off, or
what a window holds would depend on who looked."""
NOTHING, WORTH_NOTHING = np.zeros(0, np.int64), np.zeros(0)
SECONDS_BETWEEN_MARKS = 1.0
"""How finely it is remembered when what was predicted: nobody looks more closely."""
UNREAD_P_VALUES = 100_000
"""What is kept for a reader that does not come."""


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """What a monitor knows; None where there is no baseline or no complete window yet."""

    predictions: int
    classes: tuple[str, ...]
    """Names of the K classes, ``other`` and ``invalid`` last."""
    counts: NDArray[np.int64]
    """Predictions of each class so far, shape (K,)."""
    window: WindowResult | None
    """Newest complete window."""
    evidence: float | None
    """log10 of the sequential evidence, at least 0. The detector's own starts afresh at each alarm;
    here that of the last alarm stands while drift is active, or its event has not been taken."""
    threshold: float | None
    """log10 of the evidence at which there is an alarm."""
    design_effect: float | None
    """Predictions that count as one, because they depend on each other; 1 where they do not."""
    expected_design_effect: float | None
    """What is known of that: by the log of the baseline, or by the keys of units."""
    dependent: bool
    """Whether that is far more than the baseline allows for."""
    alarms: int
    active: bool
    """Whether there is drift: from an alarm until it has ended."""
    last_alarm: DriftAlarm | None


class DriftMonitor:
    """Count what one model output predicts and test it against a baseline.

    Parameters
    ----------
    baseline
        What is expected. None counts predictions only.
    average_run_length
        Predictions per false alarm that the sequential detector promises.
    tolerance
        Relative change of a class's share that does not matter.
    classes
        Names of the classes, where there is no baseline.
    first
        Where there is no baseline: take the first so many predictions as one.

    Raises
    ------
    ValueError
        If the average run length or the tolerance is out of range, or there is neither a baseline
        nor the names of classes.

    Notes
    -----
    Any number of threads may call `update` and `snapshot`. Nothing waits for a lock in `update`.
    A copy, also one of ``copy.copy`` or through a pickle, goes on by itself from where this is.
    """

    def __init__(
        self,
        baseline: ReferenceDistribution | None,
        *,
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
        classes: Sequence[str] = (),
        first: int | None = None,
    ) -> None:
        if baseline is None and len(classes) < 1:
            raise ValueError("a monitor needs a baseline, or the names of the classes")
        self._average_run_length = average_run_length
        self._tolerance = tolerance
        self._first = first
        self._set_baseline(baseline, tuple(classes))
        self.reset()

    def _set_baseline(
        self, baseline: ReferenceDistribution | None, classes: tuple[str, ...]
    ) -> None:
        given = baseline.classes if baseline is not None else classes
        self.class_counts = class_counts(given)
        if baseline is None:
            self.baseline = None
            self.classes = classes + tuple(name for name in RESERVED if name not in classes)
        else:
            self.baseline = baseline.with_reserved_classes()
            self.classes = self.baseline.classes
        self.exported = exported_classes(self.classes, self.baseline, self._tolerance)
        self._other = self.classes.index("other")
        self._invalid = self.classes.index("invalid")

    def reset(self) -> None:
        """Forget all predictions, and make the lock anew: for the child of a fork."""
        self._lock = threading.Lock()
        self._buffer: deque[Entry] = deque()
        self._calls = Calls()
        self._keys = Keys()
        self._buffered = 0
        self._next_mark = 0.0
        self._counts = np.zeros(len(self.classes), dtype=np.int64)
        self._start_tests()

    def __getstate__(self) -> dict[str, Any]:
        """Give all that it knows, with what waited worked off: for pickles, and copies."""
        self._drain(wait=True)
        with self._lock:
            # Other threads may add to the one, and take of the other, at any time.
            state: dict[str, Any] = {**vars(self), "_buffer": deque(), "_buffered": 0}
            state["_p_values"] = self._p_values.copy()
            del state["_lock"]
            return copy.deepcopy(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what another knew; nothing is shared with it."""
        vars(self).update(state)
        self._lock = threading.Lock()

    def _start_tests(self) -> None:
        self._window: ChiSquareWindow | None = None
        self._detector: SequentialDetector | None = None
        if self.baseline is not None:
            self._window = ChiSquareWindow(self.baseline)
            self._detector = SequentialDetector(
                self.baseline, self._average_run_length, self._tolerance, calls=True
            )
        self._read_with = self._detector.design_effect if self._detector else 1.0
        """Design effect of windows, until they are read anew."""
        self._read_anew = READ_ANEW
        """Number of predictions from which on they are."""
        self._random = np.random.default_rng(0)
        self._clock = _Clock()
        self._p_values: deque[float] = deque(maxlen=UNREAD_P_VALUES)
        self._events = DriftEvents(self.classes)

    def update(self, labels: ArrayLike) -> None:
        """Take predicted labels in stream order.

        Parameters
        ----------
        labels
            Whole numbers, any shape; 0 to K - 1 are the baseline's classes, NaN and what is out of
            range counts as ``invalid``.

        Raises
        ------
        ValueError
            If the labels are not whole numbers.
        """
        self.append(as_labels(np.asarray(labels)))

    def append(self, labels: Labels, keys: NDArray[np.int64] | None = None) -> None:
        """Take labels that nobody else will change: one append, no lock, no copy.

        Parameters
        ----------
        labels
            Shape (n,).
        keys
            Which unit (visit, user) each is of, shape (n,). The first of each unit is tested, the
            others are counted only.
        """
        self.hold(labels, keys)
        if len(self._buffer) >= BUFFERED_CALLS or self._buffered >= BUFFERED_LABELS:
            self._drain(wait=False)

    def hold(self, labels: Labels, keys: NDArray[np.int64] | None = None) -> None:
        """Take labels as `append` does; it is for others to call `works` before there are many."""
        if (now := time.time()) >= self._next_mark:
            self._next_mark = now + SECONDS_BETWEEN_MARKS
            self._buffer.append(now)
        self._buffer.append(labels if keys is None else (labels, keys))
        self._buffered += len(labels)  # may miss a few under threads: it bounds, it does not count

    @property
    def many_wait(self) -> bool:
        """Whether to work off what waits, if nobody asks: many labels cost little more than few.

        NumPy lets other threads run while it works on many, and not between one few and the next.
        """
        return self._buffered >= MANY_LABELS or len(self._buffer) >= MANY_CALLS

    def works(self, most: int) -> Iterator[None]:
        """Work off what waits, about so many labels at a time, in short steps.

        Parameters
        ----------
        most
            At least 1. What is found does not depend on it.

        Yields
        ------
        After each step, so that whoever works can let others run. Nobody else works it off before
        the next step; who gives up in between closes the iterator.
        """
        while self._lock.acquire(timeout=PATIENCE_SECONDS):
            try:
                if not (self._calls.lengths or self._buffer):
                    return
                yield from self._steps(most)
            finally:
                self._lock.release()
            yield

    def carry_over(self, earlier: DriftMonitor) -> None:
        """Take the class counts of a monitor that this one replaces; it starts again at 0.

        Counts of a class that is no more are dropped with its series. May be called again for
        what other threads still gave the earlier one.
        """
        before = dict(zip(earlier.classes, earlier._hand_over(), strict=True))
        with self._lock:
            self._counts += np.array([before.get(name, 0) for name in self.classes])

    def snapshot(self) -> DriftSnapshot:
        """Work off the buffer and say what is known."""
        self._drain(wait=True)
        with self._lock:
            detector, last_alarm = self._detector, self._events.last_alarm
            active = detector.active if detector else False
            evidence = detector.evidence if detector else None
            if evidence is not None and last_alarm and (active or self._events.unread):
                evidence = max(evidence, last_alarm.alarm.evidence)
            units, expected = self._keys.design_effect, self._expected_design_effect()
            return DriftSnapshot(
                predictions=int(self._counts.sum()),
                classes=self.classes,
                counts=self._counts.copy(),
                window=self._window.newest if self._window else None,
                evidence=evidence,
                threshold=detector.threshold if detector else None,
                design_effect=max(detector.design_effect, units) if detector else None,
                expected_design_effect=expected,
                dependent=detector.dependent if detector else False,
                alarms=detector.alarms if detector else 0,
                active=active,
                last_alarm=last_alarm,
            )

    def take_p_values(self) -> list[float]:
        """Return the p-values of the windows since the last time; each is returned once."""
        return list(_taken(self._p_values))

    def take_events(self) -> list[DriftEvent]:
        """Return what has come of drift since the last time; each is returned once."""
        return self._events.take()

    def _expected_design_effect(self) -> float | None:
        known = [] if self._keys.design_effect == 1 else [self._keys.design_effect]
        if self.baseline is not None and self.baseline.variation is not None:
            known.append(self.baseline.variation.design_effect)
        return max(known, default=None)

    def _hand_over(self) -> list[int]:
        self._drain(wait=True)
        with self._lock:
            counts, self._counts = self._counts, np.zeros_like(self._counts)
            return counts.tolist()

    def _drain(self, *, wait: bool) -> None:
        if not self._lock.acquire(blocking=wait):
            return  # whoever holds it takes these labels too, or the next call does
        try:
            while self._calls.lengths or self._buffer:
                for _ in self._steps(BUFFERED_LABELS):
                    pass
        finally:
            self._lock.release()

    def _steps(self, most: int) -> Iterator[None]:
        """Work off about so many labels."""
        if not self._calls.lengths:
            self._buffered = 0
            self._calls = self._next_calls(most)
            yield
        labels, worth, lengths = self._calls.take(most)
        self._counts += np.bincount(labels, minlength=len(self._counts))
        if self._window is None or self._detector is None or not len(labels):
            return
        alarms = self._detector.update_worth(labels, worth)
        try:
            yield
        finally:  # whoever gives up here will not find these labels again
            windows = self._window.update(labels, lengths, self._read_with)
            self._p_values.extend(one.test.p_value for one in windows)
            self._tell(alarms, self._detector, self._window.newest)
            self._read_windows_anew(self._detector)

    def _tell(
        self,
        alarms: Sequence[Alarm],
        detector: SequentialDetector,
        window: WindowResult | None,
    ) -> None:
        """Make events of alarms, and of their end."""
        for alarm in alarms:
            self._events.alarm(
                alarm,
                time=self._clock.time_of(alarm.prediction),
                onset=self._clock.time_of(alarm.prediction - alarm.age),
                window=window,
            )
        if not detector.active:
            self._events.ended(self._clock.time_of(detector.predictions))

    def _read_windows_anew(self, detector: SequentialDetector) -> None:
        """Take the design effect that has been found for windows, if it is time to."""
        n = detector.predictions
        if not self._calls.lengths and n >= self._read_anew:
            # The last digits of its sums depend on where they were cut.
            self._read_with = float(np.float32(detector.design_effect))
            self._read_anew = n + min(n, READ_ANEW_AT_LEAST)

    def _next_calls(self, most: int) -> Calls:
        """Take whole calls out of the buffer, of about so many labels.

        They end with the call after which windows are read anew, or a baseline is learnt.
        """
        calls: list[Labels] = []
        marks: list[tuple[int, float]] = []
        taken = 0
        left, to_learn = most, self._first if self.baseline is None else None
        if to_learn is not None:
            left = min(most, to_learn - int(self._counts.sum()))
        elif self._detector is not None:
            left = min(most, self._read_anew - self._detector.predictions)
        for entry in itertools.islice(_taken(self._buffer), CALLS_AT_ONCE):
            if isinstance(entry, float | int):
                marks.append((taken, entry))
                continue
            labels, keys = entry if isinstance(entry, tuple) else (entry, None)
            calls.append(labels if keys is None else self._first_of_units(labels, keys))
            taken += len(calls[-1])
            left -= len(calls[-1] if to_learn is None else labels)
            if left <= 0:
                break
        lengths = [len(call) for call in calls]
        known = self._known(np.concatenate([NOTHING, *calls]))
        learnt = 0
        if to_learn is not None:
            learnt = self._learn(known, to_learn)
            known, lengths = known[learnt:], _without_first(learnt, lengths)
        if self._detector is None:
            return Calls(known, np.ones(len(known)), lengths)
        for before, at in marks:
            self._clock.tick(self._detector.predictions + max(0, before - learnt), at)
        known = self._without_order(known, lengths)
        return Calls(known, self._detector.worth(known, lengths), lengths)

    def _known(self, labels: Labels) -> NDArray[np.int64]:
        """Give indices of classes, with what is out of range put to ``invalid`` or ``other``.

        They may be in the same memory: the labels are not needed any longer.
        """
        k = len(self.classes)
        known = labels.astype(np.int64, copy=False)
        if int(known.min(initial=0)) < 0 or int(known.max(initial=0)) >= k:
            known[known == OTHER] = self._other
            known[(known <= INVALID) | (known >= k)] = self._invalid
        return known

    def _first_of_units(self, labels: Labels, keys: NDArray[np.int64]) -> Labels:
        """Count what is not the first of its unit; give the others."""
        first = self._keys.first(keys)
        self._counts += np.bincount(self._known(labels[~first]), minlength=len(self._counts))
        return labels[first]

    def _without_order(self, labels: NDArray[np.int64], lengths: list[int]) -> NDArray[np.int64]:
        """Shuffle the rows of each long call.

        They were predicted at one time, so that their order says nothing of when shares changed:
        it may be that of a file that is sorted by class.
        """
        ends = np.cumsum(lengths)
        for call in np.flatnonzero(np.array(lengths) > CHUNK).tolist():
            start, end = ends[call] - lengths[call], ends[call]
            labels[start:end] = self._random.permutation(labels[start:end])
        return labels

    def _learn(self, labels: NDArray[np.int64], first: int) -> int:
        """Count towards the first predictions, which become the baseline; give how many of these.

        Just as many as were asked for, however many wait: not what the buffer happens to hold.
        """
        wanted = max(0, first - int(self._counts.sum()))
        self._counts += np.bincount(labels[:wanted], minlength=len(self._counts))
        if len(labels) >= wanted:
            shares = self._counts / self._counts.sum()
            learnt = ReferenceDistribution(self.classes, shares, self._counts.copy())
            self._set_baseline(learnt, ())
            self._start_tests()
        return min(wanted, len(labels))


class Calls:
    """Labels of whole calls, and what each counts as, which can be taken in pieces.

    >>> calls = Calls(np.array([0, 1, 2, 3, 4]), np.full(5, 0.5), [2, 3])
    >>> calls.take(3)
    (array([0, 1, 2]), array([0.5, 0.5, 0.5]), [2])
    >>> calls.take(3)
    (array([3, 4]), array([0.5, 0.5]), [2])
    >>> calls.lengths
    []
    """

    __slots__ = ("_labels", "_worth", "lengths")

    def __init__(
        self,
        labels: NDArray[np.int64] = NOTHING,
        worth: NDArray[np.float64] = WORTH_NOTHING,
        lengths: Sequence[int] = (),
    ) -> None:
        self._labels, self._worth = labels, worth
        self.lengths = list(lengths)
        """How many labels of each call are left."""

    def take(self, most: int) -> tuple[NDArray[np.int64], NDArray[np.float64], list[int]]:
        """Take at most so many labels, what they count as, and how many each call has of these."""
        if len(self._labels) <= most:
            taken = self._labels, self._worth, self.lengths
            self._labels, self._worth, self.lengths = NOTHING, WORTH_NOTHING, []
            return taken
        labels, self._labels = self._labels[:most], self._labels[most:]
        worth, self._worth = self._worth[:most], self._worth[most:]
        ends = np.cumsum(self.lengths)
        ended = int(np.searchsorted(ends, most, side="right"))
        lengths, self.lengths = self.lengths[:ended], self.lengths[ended:]
        self.lengths[0] -= most - sum(lengths)
        return labels, worth, lengths


class _Clock:
    """When the stream had reached which number of predictions, for the recent past."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, float]] = deque(maxlen=4096)

    def tick(self, predictions: int, at: float) -> None:
        self._ticks.append((predictions, at))

    def time_of(self, predictions: float) -> float:
        if not self._ticks:
            return time.time()
        counts, times = zip(*self._ticks, strict=True)
        return float(np.interp(predictions, counts, times))


def _without_first(n: int, lengths: list[int]) -> list[int]:
    """Take n labels away from the first of some calls, given how many labels each has.

    >>> _without_first(5, [3, 3, 2])
    [1, 2]
    """
    rest: list[int] = []
    for length in lengths:
        if length > n:
            rest.append(length - n)
        n = max(0, n - length)
    return rest


def _taken(source: deque[T]) -> Iterator[T]:
    """Take items off the left until there are none; other threads may do the same."""
    while True:
        try:
            yield source.popleft()
        except IndexError:
            return
