"""The detector of a whole fleet: what all replicas predict, read as one stream.

It needs neither Prometheus nor OpenTelemetry. Tell it at each tick of a clock what the replicas of
a model have predicted together since the last one:

>>> import numpy as np
>>> from otel_drift import Baseline, FleetDetector
>>> rng = np.random.default_rng(1)
>>> fleet = FleetDetector(Baseline.uniform(10))
>>> def tick(time, shares):  # 100 replicas, each with about 15 predictions in 15 seconds
...     counts = rng.multinomial(rng.poisson(1_500), shares)
...     return fleet.update({str(k): int(count) for k, count in enumerate(counts)}, time)
>>> for at in range(20):
...     alarms = tick(15.0 * at, np.full(10, 0.1))
>>> fleet.active
False
>>> halved = np.append(np.full(9, 0.95 / 9), 0.05)  # no replica sees enough of it to be sure
>>> alarms = [tick(15.0 * at, halved) for at in range(20, 24)]
>>> fleet.active, fleet.last_alarm.moved[0].name
(True, '9')
>>> 240 < fleet.last_alarm.onset < 330  # it began at 285 to 300 s
True

Ticks are set by the clock, never by what was predicted, and the promise of `SequentialDetector`
holds over all predictions of the fleet: the chapter *The fleet* in docs/detector.md has the
proof. The order within a tick is not known and is drawn at random.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from otel_drift.drift.alarm import Alarm, ClassShift
from otel_drift.drift.band import DEFAULT_TOLERANCE
from otel_drift.drift.events import DriftAlarm, DriftEvent, DriftEvents
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH, SequentialDetector
from otel_drift.fleet.chunks import shuffled_chunks
from otel_drift.fleet.dependence import TickDependence
from otel_drift.fleet.reference import exported_reference

STATE_VERSION = 1
LOWER = 0.8
"""The design effect that predictions are read with rises at once; it falls when it has fallen to
so much of itself."""
REMEMBERED_TICKS = 960
"""For the dates of drifts: 4 hours of 15 seconds."""
SAVED_TICKS = 120
QUIET_TICKS = 2
"""Ticks with predictions and without an alarm before drift has ended, at the least."""


class FleetDetector:
    """Watch what all replicas of a model predict for a change of its distribution.

    Parameters
    ----------
    baseline
        What is predicted when all is well.
    average_run_length
        Promised mean number of predictions of the fleet to a false alarm, 100 to 1e12.
    tolerance
        Relative change of a class's share that is no drift, above 0 and below 1.

    Raises
    ------
    ValueError
        If the average run length or the tolerance is out of range.

    Attributes
    ----------
    classes
        Names of the K classes that are told apart: those that a process exports.
    """

    def __init__(
        self,
        baseline: ReferenceDistribution,
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> None:
        self.reference = exported_reference(baseline, tolerance)
        self.classes = self.reference.classes
        self._place = {name: place for place, name in enumerate(self.classes)}
        self._dependence = TickDependence(self.reference.proportions, self.reference.design_effect)
        self._read_with = self._dependence.read_with
        self._detector = SequentialDetector(
            self.reference.with_design_effect(self._read_with), average_run_length
        )
        self._timeline: deque[tuple[int, float]] = deque(maxlen=REMEMBERED_TICKS)
        self._events = DriftEvents(self.classes)
        self._quiet_ticks = 0

    def __copy__(self) -> FleetDetector:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def average_run_length(self) -> float:
        """Promised mean number of predictions to a false alarm."""
        return self._detector.average_run_length

    @property
    def predictions(self) -> int:
        """Predictions of the fleet so far."""
        return self._detector.predictions

    @property
    def alarms(self) -> int:
        """Number of alarms so far."""
        return self._detector.alarms

    @property
    def active(self) -> bool:
        """Whether there is drift: from an alarm until it has been quiet for long enough.

        That is two ticks at the least: within one, alarms may stand anywhere.
        """
        return self._detector.active or (self.alarms > 0 and self._quiet_ticks < QUIET_TICKS)

    @property
    def threshold(self) -> float:
        """log10 of the evidence that raises an alarm."""
        return self._detector.threshold

    @property
    def evidence(self) -> float:
        """log10 of the evidence; that of the last alarm while drift is active."""
        evidence = self._detector.evidence
        if self.active and self.last_alarm is not None:
            return max(evidence, self.last_alarm.alarm.evidence)
        return evidence

    @property
    def design_effect(self) -> float:
        """Predictions of the fleet that count as one; 1 where they do not depend on each other."""
        return self._dependence.measured

    @property
    def known_design_effect(self) -> float | None:
        """What the baseline's log or keys of units tell of it; None where nobody has told."""
        return self._dependence.known

    @property
    def last_alarm(self) -> DriftAlarm | None:
        """The last alarm, with the names of what moved and with times."""
        return self._events.last_alarm

    def update(self, counts: Mapping[str, int], time: float) -> tuple[Alarm, ...]:
        """Take what was predicted since the last tick.

        Parameters
        ----------
        counts
            Predictions of all replicas together, by class; a class that the baseline does not name
            counts as ``other``.
        time
            When the tick ended, in seconds since the epoch.

        Returns
        -------
        tuple of Alarm
            The alarms that it raised.

        Raises
        ------
        ValueError
            If a count is negative. The detector is then as it was.
        """
        row = np.zeros(len(self.classes), np.int64)
        for name, count in counts.items():
            if count < 0:
                raise ValueError(f"class {name!r}: count {count!r}: must be a number from 0")
            row[self._place.get(name, self._place["other"])] += int(count)
        chunks = shuffled_chunks(row, np.random.default_rng([self.predictions]))
        alarms = self._detector.update_counts(chunks)
        self._tick(time)
        for alarm in alarms:
            self._events.alarm(
                alarm,
                time=time,
                onset=self._time_of(alarm.prediction - alarm.age),
                window=None,
            )
        self._quiet_ticks = 0 if alarms else self._quiet_ticks + bool(len(chunks))
        if not self.active:
            self._events.ended(time)
        self._dependence.update(row)
        self._read(self._dependence.read_with)
        return alarms

    def know_design_effect(self, known: float | None) -> None:
        """Take what is known of the design effect now, where keys of units tell it as they go."""
        self._dependence.known = known
        self._read(self._dependence.read_with)

    def take_events(self) -> list[DriftEvent]:
        """Return what has come of drift since the last time; each is returned once."""
        return self._events.take()

    def state(self) -> dict[str, Any]:
        """All that it remembers, as a dict that JSON can hold; read by `from_state`."""
        last = self.last_alarm
        return {
            "version": STATE_VERSION,
            "baseline": self.reference.fingerprint,
            "average_run_length": self.average_run_length,
            "read_with": self._read_with,
            "detector": self._detector.state(),
            "quiet_ticks": self._quiet_ticks,
            "dependence": self._dependence.state(),
            "timeline": [list(one) for one in self._timeline][-SAVED_TICKS:],
            "last_alarm": last and [last.alarm, last.time, last.onset],
        }

    @classmethod
    def from_state(
        cls,
        baseline: ReferenceDistribution,
        state: Mapping[str, Any],
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> FleetDetector:
        """Go on from a `state`.

        Parameters
        ----------
        baseline, average_run_length, tolerance
            Those that the state was made with.
        state
            What `state` returned, also after a round trip through JSON.

        Raises
        ------
        ValueError
            If the state is of another version, baseline or average run length, or is damaged; the
            message says which.
        """
        fleet = cls(baseline, average_run_length, tolerance)
        wanted = {
            "version": STATE_VERSION,
            "baseline": fleet.reference.fingerprint,
            "average_run_length": fleet.average_run_length,
        }
        for name, value in wanted.items():
            if state.get(name) != value:
                raise ValueError(f"its {name.replace('_', ' ')} is another")
        try:
            fleet._restore(state)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"it is damaged ({error!r})") from error
        return fleet

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._dependence.restore(state["dependence"])
        self._read_with = float(state["read_with"])
        self._quiet_ticks = int(state["quiet_ticks"])
        self._detector = SequentialDetector.from_state(
            self.reference.with_design_effect(self._read_with), state["detector"]
        )
        self._timeline.extend((int(count), float(time)) for count, time in state["timeline"])
        if state["last_alarm"] is not None:
            alarm, time, onset = state["last_alarm"]
            self._events.alarm(_alarm(alarm), time=float(time), onset=float(onset), window=None)
            if not self.active:
                self._events.ended(float(time))
            self._events.take()  # they were told

    def _read(self, read_with: float) -> None:
        """Read what comes with another design effect; the evidence so far is kept."""
        if LOWER * self._read_with <= read_with <= self._read_with:
            return
        self._read_with = read_with
        self._detector = SequentialDetector.from_state(
            self.reference.with_design_effect(read_with), self._detector.state()
        )

    def _tick(self, time: float) -> None:
        ticks, n = self._timeline, self.predictions
        if len(ticks) > 1 and ticks[-1][0] == ticks[-2][0] == n:
            ticks[-1] = (n, time)  # nothing was predicted
        else:
            ticks.append((n, time))

    def _time_of(self, prediction: float) -> float:
        counts, times = zip(*self._timeline, strict=True)
        return float(np.interp(prediction, counts, times))


def _alarm(values: list[Any]) -> Alarm:
    """Read an alarm that JSON has made lists of."""
    prediction, evidence, age, classes, probability, contributions = values
    shifts = tuple(ClassShift(int(one[0]), *map(float, one[1:])) for one in contributions)
    if not all(map(math.isfinite, (evidence, *(one.estimate for one in shifts)))):
        raise ValueError("an alarm that is not finite")
    return Alarm(
        int(prediction),
        float(evidence),
        int(age),
        tuple(int(one) for one in cast("list[int]", classes)),
        float(probability),
        shifts,
    )
