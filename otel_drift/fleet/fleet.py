"""All outputs of all models that a fleet's detector watches, and those that it refuses.

>>> from otel_drift import Baseline
>>> from otel_drift.fleet.counters import Expected, Output
>>> from otel_drift.fleet.reference import exported_reference
>>> fleet, pets = Fleet(), Output("pets", "", "output")
>>> fleet.expect({pets: Expected(exported_reference(Baseline.uniform(2)), None)}, 0.0)
>>> for at in range(15, 150, 15):
...     fleet.tick({pets: {"0": 500, "1": 500}}, at)
>>> for at in range(150, 300, 15):
...     fleet.tick({pets: {"0": 900, "1": 100}}, at)
>>> (found,) = fleet.findings(300)
>>> found.active, round(found.onset)
(1, 135)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_drift.drift.events import DriftEvent
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH
from otel_drift.fleet.counters import BRIDGED_SECONDS, Expected, Output
from otel_drift.fleet.detector import FleetDetector
from otel_drift.fleet.reference import ExportedReference

FORGOTTEN_SECONDS = 3_600
"""An output that nobody has counted for so long is forgotten: a version that is no more."""
MORE_DEPENDENT = 1.5
"""Times what was known of the design effect from which on more is believed."""

logger = logging.getLogger("otel_drift.fleet")


class Finding(NamedTuple):
    """What is known of one output."""

    output: Output
    predictions: int
    in_tick: int
    """Predictions of the newest tick."""
    evidence: float
    threshold: float
    design_effect: float
    alarms: int
    active: int
    onset: float | None
    """While there is drift: when it began, in seconds since the epoch."""
    shares: Mapping[str, float]
    """While there is drift: the estimated share, now, of each class that moved most."""


@dataclass
class _Watched:
    detector: FleetDetector
    in_tick: int = 0


class Fleet:
    """Hold a detector for each output.

    Parameters
    ----------
    average_run_length
        Of each; None takes what the replicas have, else the default.
    baseline_of
        Gives the baseline of an output where it is not to be that of the replicas, else None.
    """

    def __init__(
        self,
        average_run_length: float | None = None,
        baseline_of: Callable[[Output], ExportedReference | None] = lambda _: None,
    ) -> None:
        self._average_run_length = average_run_length
        self._baseline_of = baseline_of
        self._watched: dict[Output, _Watched] = {}
        self._seen: dict[Output, float] = {}
        self._states: dict[Output, Mapping[str, Any]] = {}
        self._states_until = 0.0
        self.refused: dict[Output, str] = {}
        """Why outputs are not watched."""
        self.predictions: dict[Output, int] = {}
        """Predictions that this process has read of each output."""

    def knows(self, outputs: Mapping[Output, Any]) -> bool:
        """Tell whether it is known of all outputs what is expected of them, or that nothing is."""
        return all(one in self._watched or one in self.refused for one in outputs)

    def expect(self, expected: Mapping[Output, Expected | ValueError], time: float) -> None:
        """Take what the replicas expect of each output, at a time in seconds since the epoch."""
        for output, found in expected.items():
            self._seen.setdefault(output, time)
            try:
                self._watch(output, self._own(output, found))
            except (ValueError, OverflowError) as error:
                self._refuse(output, str(error))
            else:
                self.refused.pop(output, None)

    def tick(self, predictions: Mapping[Output, Mapping[str, int]], time: float) -> None:
        """Take what each output has predicted since the last tick, which ended at this time."""
        for output, counts in predictions.items():
            self._seen[output] = time
            if output not in self._watched and output not in self.refused:
                self.expect({output: ValueError("no baseline")}, time)
            watched = self._watched.get(output)
            if watched is None:
                continue
            watched.in_tick = sum(counts.values())
            watched.detector.update(counts, time)
            self.predictions[output] = self.predictions.get(output, 0) + watched.in_tick
            for event in watched.detector.take_events():
                _tell(output, event)
        self._forget(time)

    def findings(self, time: float) -> list[Finding]:
        """Give what is known now of each output that is counted."""
        return [
            _finding(output, watched)
            for output, watched in self._watched.items()
            if time - self._seen[output] <= BRIDGED_SECONDS
        ]

    def state(self) -> list[Any]:
        """All that it remembers, for JSON."""
        states = {output: watched.detector.state() for output, watched in self._watched.items()}
        return [
            {"output": output, "detector": state}
            for output, state in {**self._states, **states}.items()
        ]

    def restore(self, states: Any, time: float) -> None:
        """Go on from a `state`: each output when it is first expected.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            known = [(Output(*map(str, one["output"])), one["detector"]) for one in states]
            self._states = {output: dict(state) for output, state in known}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state is damaged ({error!r})") from error
        self._states_until = time + FORGOTTEN_SECONDS

    def _own(self, output: Output, found: Expected | ValueError) -> Expected:
        """Put a baseline from a file in place of that of the replicas."""
        own = self._baseline_of(output)
        if isinstance(found, ValueError):
            if own is None:
                raise found
            return Expected(own, None)
        return found if own is None else Expected(own, found.average_run_length)

    def _watch(self, output: Output, expected: Expected) -> None:
        reference = expected.reference
        length = self._average_run_length or expected.average_run_length
        length = length or DEFAULT_AVERAGE_RUN_LENGTH
        watched = self._watched.get(output)
        if watched is not None:
            before = watched.detector
            same = before.reference.fingerprint == reference.fingerprint
            if same and before.average_run_length == length:
                self._know_dependence(output, watched, reference.design_effect)
                return
            what = "average run length" if same else "baseline"
            logger.warning("%s: its %s has changed: the evidence starts anew", output, what)
        self._watched[output] = _Watched(self._made(output, reference, length))

    def _made(self, output: Output, reference: ExportedReference, length: float) -> FleetDetector:
        state = self._states.pop(output, None)
        if state is not None:
            try:
                return FleetDetector.from_state(reference, state, length)
            except ValueError as error:
                logger.warning("%s starts anew: the saved state does not fit: %s", output, error)
        return FleetDetector(reference, length)

    def _know_dependence(self, output: Output, watched: _Watched, known: float | None) -> None:
        """Believe keys of units when they tell of more dependence than was known."""
        detector = watched.detector
        before = detector.known_design_effect
        if known is not None and (before is None or known > MORE_DEPENDENT * before):
            logger.info("%s: %.3g predictions are known to count as one", output, known)
            detector.know_design_effect(known)

    def _refuse(self, output: Output, reason: str) -> None:
        if self.refused.get(output) != reason:
            logger.warning("%s is not watched: %s", output, reason)
        self.refused[output] = reason
        self._watched.pop(output, None)

    def _forget(self, time: float) -> None:
        for output, seen in list(self._seen.items()):
            if time - seen > FORGOTTEN_SECONDS:
                del self._seen[output]
                self._watched.pop(output, None)
                self.refused.pop(output, None)
        if time > self._states_until:
            self._states.clear()


def _finding(output: Output, watched: _Watched) -> Finding:
    detector = watched.detector
    alarm = detector.last_alarm if detector.active else None
    return Finding(
        output,
        detector.predictions,
        watched.in_tick,
        detector.evidence,
        detector.threshold,
        detector.design_effect,
        detector.alarms,
        int(detector.active),
        alarm.onset if alarm is not None else None,
        {one.name: one.share for one in alarm.moved} if alarm is not None else {},
    )


def _tell(output: Output, event: DriftEvent) -> None:
    moved = "; ".join(
        f"class {json.dumps(one.name)} from {one.baseline:.2%} to {one.share:.2%}"
        for one in event.alarm.moved
    )
    logger.warning("%s: drift %s: %s", output, event.state, moved or "several classes")
