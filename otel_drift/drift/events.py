"""What is worth telling of a drift: that it began, that what moved has changed much, that it ended.

While drift lasts, each chunk of 32 predictions can be an alarm. They are counted; what is told are
these few events.

>>> from otel_drift.drift.alarm import Alarm, ClassShift
>>> events = DriftEvents(("cat", "dog"))
>>> def alarm(prediction, share):
...     shifts = (ClassShift(0, 0.5, share, 0.6), ClassShift(1, 0.5, 1 - share, 0.4))
...     return Alarm(prediction, 7.0, prediction - 800, (0,), 1.0, shifts)
>>> for prediction, share in (1_000, 0.3), (3_000, 0.29), (5_000, 0.05):
...     events.alarm(alarm(prediction, share), time=50.0, onset=40.0, window=None)
>>> events.ended(time=90.0)
>>> [(event.state, event.time, event.alarm.moved[0].share) for event in events.take()]
[('began', 50.0, 0.3), ('changed', 50.0, 0.05), ('ended', 90.0, 0.05)]
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal, NamedTuple

from otel_drift.drift.alarm import Alarm
from otel_drift.drift.window import WindowResult

UNREAD_EVENTS = 1_000
"""What is kept for a reader that does not come."""
MUCH = 0.5
"""What moved has changed much when it is this far from what was told, as part of the distance of
that from the baseline; both in total variation, and beyond what chance explains."""


class MovedClass(NamedTuple):
    """One of the few classes that account for most of a drift."""

    name: str
    baseline: float
    """Its share in the baseline."""
    share: float
    """Its share now, by the detector's estimate."""
    position: int
    """Its place among the classes that are watched."""


class DriftAlarm(NamedTuple):
    """An alarm of the sequential detector, with names and times."""

    alarm: Alarm
    time: float
    """When it was noticed: seconds since the epoch."""
    onset: float
    """Estimated time at which the drift began: seconds since the epoch."""
    moved: tuple[MovedClass, ...]
    """The classes that account for most of the change, the largest part first."""
    window: WindowResult | None
    """The newest chi-square window at the time."""


class DriftEvent(NamedTuple):
    """Something to tell of a drift."""

    state: Literal["began", "changed", "ended"]
    time: float
    """When it was noticed: seconds since the epoch."""
    alarm: DriftAlarm
    """The alarm that told; of a drift that has ended, its last."""


class DriftEvents:
    """Make events of alarms.

    Parameters
    ----------
    classes
        Names of the classes that are watched.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.last_alarm: DriftAlarm | None = None
        self.unread = False
        """Whether there has been an alarm since events were last taken."""
        self._classes = classes
        self._told: Alarm | None = None
        """What was told last of the drift that goes on; None while there is none."""
        self._events: deque[DriftEvent] = deque(maxlen=UNREAD_EVENTS)

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy takes; events may be taken meanwhile."""
        return {**vars(self), "_events": self._events.copy()}

    def alarm(
        self, alarm: Alarm, *, time: float, onset: float, window: WindowResult | None
    ) -> None:
        """Take an alarm; times are seconds since the epoch."""
        if self._told is not None and _start(alarm) != _start(self._told):
            self.ended(time)  # between two alarms, while nobody looked
        moved = tuple(
            MovedClass(self._classes[one.position], one.baseline, one.estimate, one.position)
            for one in alarm.moved
        )
        before = self.last_alarm.alarm.prediction if self.last_alarm is not None else 0
        self.last_alarm = DriftAlarm(alarm, time, onset, moved, window)
        self.unread = True
        if self._told is None:
            self._tell("began", time, self.last_alarm)
        elif _has_changed_much(self._told, alarm, alarm.prediction - before):
            self._tell("changed", time, self.last_alarm)

    def ended(self, time: float) -> None:
        """Take that there is no drift; told once, if there was one."""
        if self._told is not None and self.last_alarm is not None:
            self._tell("ended", time, self.last_alarm)
            self._told = None

    def take(self) -> list[DriftEvent]:
        """Return the events since the last time; each is returned once."""
        self.unread = False
        taken: list[DriftEvent] = []
        while True:
            try:
                taken.append(self._events.popleft())
            except IndexError:  # none left, or another thread takes them too
                return taken

    def _tell(
        self, state: Literal["began", "changed", "ended"], time: float, alarm: DriftAlarm
    ) -> None:
        self._told = alarm.alarm
        self._events.append(DriftEvent(state, time, alarm))


def _start(alarm: Alarm) -> int:
    """Prediction at which the drift of an alarm began: the same for all of its alarms."""
    return alarm.prediction - alarm.age


def _has_changed_much(told: Alarm, now: Alarm, predictions: int) -> bool:
    """Whether an estimate, from so many predictions, is another than the one that was told.

    K shares that are estimated from n predictions are off by about ``sqrt(K / (2 pi n))`` in total
    variation, by chance alone: three times that is added to what counts as much.
    """
    before = {one.position: one.estimate for one in told.contributions}
    after = {one.position: one.estimate for one in now.contributions}
    baseline = {one.position: one.baseline for one in (*told.contributions, *now.contributions)}
    changed = sum(abs(after.get(k, p) - before.get(k, p)) for k, p in baseline.items()) / 2
    distance = sum(abs(before.get(k, p) - p) for k, p in baseline.items()) / 2
    chance = math.sqrt(len(baseline) / (2 * math.pi * max(1, predictions)))
    return changed > MUCH * distance + 3 * chance
