"""One snapshot of everything for one collection, so that all its series agree.

OpenTelemetry asks each observable instrument by itself. The first that is asked in a collection has
the snapshot taken, and the others read the same one. Which is the first need not be known: an
instrument that asks for a second time begins another collection. Readers collect in threads of
their own, so each thread has its own.

>>> snapshots = iter(("first", "second"))
>>> collection = Collection(lambda: next(snapshots))
>>> [collection.snapshot(instrument) for instrument in ("counts", "shares", "counts", "shares")]
['first', 'first', 'second', 'second']
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from opentelemetry.metrics import Histogram

from otel_drift.drift.exported_classes import Exported
from otel_drift.drift.monitor import DriftMonitor, DriftSnapshot
from otel_drift.telemetry.backlog import BACKLOG
from otel_drift.telemetry.drift_function import UserTestResult
from otel_drift.telemetry.log_record import emit_drift_event
from otel_drift.telemetry.names import OUTPUT
from otel_drift.telemetry.recorder import ModelRecorder

S = TypeVar("S")


class Collection(Generic[S]):
    """The snapshot of the collection that goes on in this thread.

    Parameters
    ----------
    take
        Takes a snapshot.
    """

    def __init__(self, take: Callable[[], S]) -> None:
        self._take = take
        self._current = _Current[S]()

    def snapshot(self, instrument: str) -> S:
        """Give the snapshot of this collection to an instrument, which asks once."""
        current = self._current
        if current.snapshot is None or instrument in current.asked:
            current.snapshot, current.asked = self._take(), set()
        current.asked.add(instrument)
        return current.snapshot


class _Current(threading.local, Generic[S]):
    snapshot: S | None = None

    def __init__(self) -> None:
        self.asked: set[str] = set()


class OutputSnapshot(NamedTuple):
    """One series of labels."""

    attributes: dict[str, str]
    exported: Exported
    drift: DriftSnapshot
    has_series: bool = True
    """Whether there is room for series of its classes."""

    def class_counts(self) -> Iterator[tuple[str, int]]:
        """Predictions of each class that is exported."""
        counts = [0] * len(self.exported.classes)
        for position, count in zip(
            self.exported.position.tolist(), self.drift.counts.tolist(), strict=True
        ):
            counts[position] += count
        yield from zip(self.exported.classes, counts, strict=True)

    def moved_shares(self) -> Iterator[tuple[str, float]]:
        """While drift is active: the estimated share of each class that moved most and is exported.

        A class without a series of its own is left out.
        """
        if self.drift.active and self.drift.last_alarm is not None:
            for one in self.drift.last_alarm.moved:
                if self.exported.classes[int(self.exported.position[one.position])] == one.name:
                    yield one.name, one.share


class ModelSnapshot(NamedTuple):
    """All that is recorded of one model, at one moment."""

    attributes: dict[str, str]
    samples: dict[str, int]
    outputs: list[OutputSnapshot]
    user_tests: list[tuple[dict[str, str], UserTestResult]]
    """The newest result of each of the user's own tests."""
    leaving: bool
    """Whether its series end: what it has counted is reported for the last time."""


def take_snapshot(recorder: ModelRecorder, p_values: Histogram, *, leaving: bool) -> ModelSnapshot:
    """Take the snapshot of one model, and tell what has come since the last one.

    Parameters
    ----------
    recorder
        Of the model.
    p_values
        The histogram of all p-values.
    leaving
        Whether its series end.
    """
    with BACKLOG.still():
        samples = recorder.samples_so_far()
        counted = [(output, one, one.snapshot()) for output, one in recorder.monitors()]
    outputs = [
        _reported(recorder, {**recorder.attributes, OUTPUT: output}, monitor, drift, p_values)
        for output, monitor, drift in counted
    ]
    newest: list[tuple[dict[str, str], UserTestResult]] = []
    for test in recorder.tests:
        attributes = {**recorder.attributes, OUTPUT: test.name}
        for result in test.take_results():
            p_values.record(result.p_value, attributes)
        if test.newest is not None:
            newest.append((attributes, test.newest))
    return ModelSnapshot(recorder.attributes, samples, outputs, newest, leaving)


def _reported(
    recorder: ModelRecorder,
    attributes: dict[str, str],
    monitor: DriftMonitor,
    drift: DriftSnapshot,
    p_values: Histogram,
) -> OutputSnapshot:
    """Tell what has come of one series of labels since the last time."""
    if drift.dependent and drift.design_effect is not None:
        recorder.warn_of_dependence(attributes[OUTPUT], drift.design_effect)
    for p_value in monitor.take_p_values():
        p_values.record(p_value, attributes)
    for event in monitor.take_events():
        try:
            emit_drift_event(recorder.logger_provider, attributes, event)
        except Exception:  # trouble with logs must not cost the metrics of this collection
            what = f"{recorder.name}: a drift event could not be emitted"
            recorder.failed("internal", what, subject="event")
    return OutputSnapshot(attributes, monitor.exported, drift)
