"""The service behind ``otel-drift fleet``: a clock, two questions to Prometheus, and a state file.

The clock ticks at whole multiples of its seconds. A tick is read a little after its end, so that
what replicas have counted by then is there. If Prometheus does not answer, the next tick that can
be read is so much longer: what was counted meanwhile is read at once.
"""

from __future__ import annotations

import logging
import math
import threading
from time import perf_counter, time
from typing import Protocol

from otel_drift.fleet.counters import expectations, expected_by, grown_by, predictions
from otel_drift.fleet.fleet import Fleet
from otel_drift.fleet.prometheus_api import Answer, PrometheusApi, PrometheusError
from otel_drift.fleet.state import StateFile

TICK_SECONDS = 15.0
DELAY_SECONDS = 5.0
LEAST_TICK_SECONDS = 1.0
CATCH_UP_SECONDS = 3_600.0
"""What was counted before that is skipped when ticks could not be read."""
EXPECTED_SECONDS = 60.0
"""Baselines are asked for so often, and when there is a new output."""
SAVE_SECONDS = 300.0
"""Between two writes of the state: what is read after the last one is read again."""
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0
SKEWED_SECONDS = 2.0
"""From which on clocks differ by more than a slow answer explains."""
STATE_FORMAT, STATE_VERSION = "otel-drift fleet", 1
TOO_MUCH = "422"
"""The status with which servers refuse a question that they cannot work out."""

logger = logging.getLogger("otel_drift.fleet")


class Observer(Protocol):
    """Who is told of what the service does, such as `otel_drift.fleet.telemetry`."""

    def queried(self, seconds: float, error: str | None) -> None:
        """Take a question: how long it took, and what went wrong, in a word."""
        ...

    def ticked(self, seconds: float, skipped: int) -> None:
        """Take a tick: how long its reading took, and the ticks before it that are lost."""
        ...

    def flush(self) -> None:
        """Export what is known."""
        ...


class Service:
    """Read ticks and feed a fleet.

    Parameters
    ----------
    api
        Whom to ask.
    fleet
        Whom to feed.
    tick, delay
        Seconds of a tick, and after its end until it is read.
    state
        Where to keep what is known.
    observer
        Who is told of it.

    Raises
    ------
    ValueError
        If a time is out of range, or the state file is another's.
    OSError
        If the state file cannot be read.
    """

    def __init__(
        self,
        api: PrometheusApi,
        fleet: Fleet,
        *,
        tick: float = TICK_SECONDS,
        delay: float = DELAY_SECONDS,
        state: StateFile | None = None,
        observer: Observer | None = None,
    ) -> None:
        if not LEAST_TICK_SECONDS <= tick <= CATCH_UP_SECONDS:
            raise ValueError(f"tick {tick!r}: must be 1 to {CATCH_UP_SECONDS:g} seconds")
        if not 0 <= delay <= CATCH_UP_SECONDS:
            raise ValueError(f"delay {delay!r}: must be 0 to {CATCH_UP_SECONDS:g} seconds")
        self.fleet = fleet
        self.newest: float | None = None
        """End of the newest tick that was read, in seconds since the epoch."""
        self.observer = observer
        self._api, self._tick, self._delay = api, tick, delay
        self._state, self._saved = state, 0.0
        self._asked = -math.inf
        self._warned: set[str] = set()
        if state is not None:
            self._restore(state)

    def run(self, stop: threading.Event) -> None:
        """Read ticks until the event is set, then save."""
        failures = 0
        while not stop.is_set():
            try:
                self.read(self.due())
            except PrometheusError as error:
                if not failures:
                    logger.warning("%s: ticks will be read when it answers", error)
                failures += 1
            else:
                if failures:
                    logger.warning("%s answers again", self._api.url)
                failures = 0
            if self.observer is not None:
                self.observer.flush()
            stop.wait(self._retry(failures) if failures else self._until_next())
        self.save()

    def due(self) -> float:
        """Give the end of the newest tick that can be read now, in seconds since the epoch."""
        return math.floor((self._now() - self._delay) / self._tick) * self._tick

    def read(self, end: float) -> None:
        """Read what was predicted since the newest tick, up to a time; nothing if that is it.

        Raises
        ------
        PrometheusError
            If Prometheus does not answer. Nothing is lost then: it can be tried again.
        """
        started = perf_counter()
        seconds, skipped = self._since_newest(end)
        if seconds <= 0:
            return
        try:
            answer = self._ask(grown_by(seconds), end)
        except PrometheusError as error:
            if error.kind != TOO_MUCH or seconds <= self._tick:
                raise
            skipped += round(seconds / self._tick) - 1
            logger.warning("%s: the ticks before the last are skipped", error)
            answer = self._ask(grown_by(self._tick), end)
        counted = predictions(answer.samples)
        if not self.fleet.knows(counted) or end - self._asked >= EXPECTED_SECONDS:
            least, most = (self._ask(expected_by(one), end) for one in ("min", "max"))
            self.fleet.expect(expectations(least.samples, most.samples), end)
            self._asked = end
        if not counted and self.newest is not None and not skipped:
            return  # no replica has a sample: what they count meanwhile is read when they have
        self.fleet.tick(counted, end)
        self.newest = end
        if skipped:
            logger.warning("%d ticks of %g s are skipped", skipped, self._tick)
        if self.observer is not None:
            self.observer.ticked(perf_counter() - started, skipped)
        if end - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the state, if it is to be kept; say if that fails."""
        if self._state is None or self.newest is None:
            return
        content = {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "newest": self.newest,
            "outputs": self.fleet.state(),
        }
        try:
            self._state.write(content)
            self._saved = self.newest
        except OSError as error:
            self._warn(f"the state cannot be saved: {error}")

    def _restore(self, file: StateFile) -> None:
        state = file.read()
        if state is None:
            return
        if state.get("format") != STATE_FORMAT:
            raise ValueError(f"{file.path}: not a state of otel-drift fleet")
        if state.get("version") != STATE_VERSION or not isinstance(state.get("newest"), float):
            logger.warning("%s: a state of another version: starts anew", file.path)
            return
        newest: float = state["newest"]
        try:
            self.fleet.restore(state.get("outputs"), newest)
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from None
        if newest > self.due():
            logger.warning("%s: is of the future: its evidence is taken, not its time", file.path)
        else:
            self.newest = self._saved = newest

    def _since_newest(self, end: float) -> tuple[float, int]:
        """Seconds to read up to a time, and ticks before that are lost."""
        if self.newest is None:
            return self._tick, 0
        since = end - self.newest
        if since <= CATCH_UP_SECONDS:
            return since, 0
        return CATCH_UP_SECONDS, math.ceil((since - CATCH_UP_SECONDS) / self._tick)

    def _ask(self, expression: str, end: float) -> Answer:
        started, failed = perf_counter(), None
        try:
            answer = self._api.query(expression, end)
        except PrometheusError as error:
            failed = error.kind
            raise
        finally:
            if self.observer is not None:
                self.observer.queried(perf_counter() - started, failed)
        for warning in answer.warnings:
            self._warn(f"{self._api.url} says: {warning}")
        if abs(self._api.ahead) > SKEWED_SECONDS:
            self._warn(f"the clock of {self._api.url} differs: its time is taken")
        return answer

    def _warn(self, line: str) -> None:
        """Say something once."""
        if line not in self._warned and len(self._warned) < 1_000:
            self._warned.add(line)
            logger.warning("%s", line)

    def _now(self) -> float:
        ahead = self._api.ahead
        return time() + (ahead if abs(ahead) > SKEWED_SECONDS else 0.0)

    def _until_next(self) -> float:
        return max(0.0, self.due() + self._tick + self._delay - self._now()) + 0.01

    def _retry(self, failures: int) -> float:
        return min(RETRY_SECONDS * 2.0 ** (failures - 1), LONGEST_RETRY_SECONDS)
