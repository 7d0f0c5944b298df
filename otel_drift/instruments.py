"""Every metric: its name, unit, buckets and attributes, and the drift event, in one place.

There is one `Instruments` for each meter provider, made once: an observable instrument that is
created again keeps its first callback. Its callbacks read whatever recorders are attached to it.

No gauge has the unit ``1``: Prometheus's translation appends ``_ratio`` to such names and the
Python exporter does not. With an annotation as unit every route gives the same series name.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from otel_drift.event import emit_drift_event
from otel_drift.package import __version__
from otel_drift.tally import Tally

if TYPE_CHECKING:
    from otel_drift.drift_function import DriftFunction
    from otel_drift.monitor import DriftMonitor, DriftSnapshot, Exported

logger = logging.getLogger(__name__)

SCOPE = "otel_drift"
MODEL = "keras.model.name"
OUTPUT = "keras.model.output"
CLASS = "keras.prediction.class"
METHOD = "keras.method"
MEASURE = "keras.prediction.drift.measure"
ERROR_TYPE = "error.type"

DURATION_BOUNDS_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
P_VALUE_BOUNDS = (*(0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),)
ERROR_TYPES = (
    "internal",
    "output",
    "baseline",
    "baseline_outdated",
    "drift_function",
    "drift_function_overflow",
)
"""What can fail of ours; each has a series from the start, so that its first failure is seen."""
MAXIMUM_REPORTS = 100
"""Different failures that are logged; the counter goes on beyond them."""
LARGEST_FINITE = 1e300


class Recorded(Protocol):
    """What the callbacks read: all that has been recorded of one model."""

    name: str
    samples: dict[str, Tally]

    def monitors(self) -> list[tuple[str, DriftMonitor]]:
        """Each series of outputs with its monitor."""
        ...

    def user_tests(self) -> list[tuple[str, DriftFunction]]:
        """Each of the user's own tests by output name."""
        ...

    def settle(self, *, collecting: bool) -> None:
        """Decide the calls that are held."""
        ...

    def reset(self) -> None:
        """Start anew in the child of a fork."""
        ...


R = TypeVar("R", bound=Recorded)


class Instruments(Generic[R]):
    """The instruments of one meter provider, and the recorders that they read.

    Parameters
    ----------
    meter_provider
        None stands for the global one.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        self.recorders: dict[str, R] = {}
        self.logger_provider: Any = None
        self.of_proxy = "Proxy" in type(meter_provider).__name__
        """Whether they were made before there was an SDK: they come alive with it."""
        self._failures: dict[tuple[str, str], Tally] = {}
        """By model name and error type."""
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self.duration = meter.create_histogram(
            "keras.predict.duration",
            unit="s",
            description="Duration of predictions; of an asynchronous call, until it was dispatched",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_SECONDS,
        )
        self.p_values = meter.create_histogram(
            "keras.prediction.drift.test.p_value",
            unit="{probability}",
            description="p-values of all windows: flat without drift",
            explicit_bucket_boundaries_advisory=P_VALUE_BOUNDS,
        )
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        for create, name, unit, description, observe in (
            (
                counter,
                "keras.predict.samples",
                "{sample}",
                "Rows that were predicted",
                self._samples,
            ),
            (
                counter,
                "keras.predictions",
                "{prediction}",
                "Predictions of each class",
                self._predictions,
            ),
            (
                gauge,
                "keras.prediction.baseline.proportion",
                "{proportion}",
                "Share of each class in the baseline",
                self._each_class(lambda exported: exported.baseline.proportions),
            ),
            (
                gauge,
                "keras.prediction.baseline.lower",
                "{proportion}",
                "Share below which a class has moved",
                self._each_class(lambda exported: exported.lower),
            ),
            (
                gauge,
                "keras.prediction.baseline.upper",
                "{proportion}",
                "Share above which a class has moved",
                self._each_class(lambda exported: exported.upper),
            ),
            (
                gauge,
                "keras.prediction.baseline.size",
                "{prediction}",
                "Predictions that the baseline was counted from; none where it is known exactly",
                self._baseline_size,
            ),
            (
                gauge,
                "keras.prediction.drift.p_value",
                "{probability}",
                "p-value of the newest complete window",
                self._each_test("p_value"),
            ),
            (
                gauge,
                "keras.prediction.drift.statistic",
                "{chi_square}",
                "Chi-square statistic of the newest complete window",
                self._each_test("statistic"),
            ),
            (
                gauge,
                "keras.prediction.drift.effect",
                "{effect}",
                "Effect sizes of the newest complete window",
                self._effects,
            ),
            (
                gauge,
                "keras.prediction.drift.evidence",
                "{decade}",
                "log10 of the sequential evidence of drift",
                self._each_output(lambda snapshot: snapshot.evidence),
            ),
            (
                gauge,
                "keras.prediction.drift.threshold",
                "{decade}",
                "log10 of the evidence at which there is an alarm",
                self._each_output(lambda snapshot: snapshot.threshold),
            ),
            (
                counter,
                "keras.prediction.drift.alarms",
                "{alarm}",
                "Alarms of the sequential detector",
                self._each_output(lambda snapshot: _if_tested(snapshot, snapshot.alarms)),
            ),
            (
                gauge,
                "keras.prediction.drift.active",
                "{state}",
                "1 from an alarm until the drift has ended, else 0",
                self._each_output(lambda snapshot: _if_tested(snapshot, int(snapshot.active))),
            ),
            (
                gauge,
                "keras.prediction.drift.onset",
                "s",
                "While drift is active: when it began, by estimate, in seconds since the epoch",
                self._each_output(_onset),
            ),
            (
                gauge,
                "keras.prediction.drift.share",
                "{proportion}",
                "While drift is active: share now, by estimate, of the classes that moved most",
                self._moved_shares,
            ),
            (
                counter,
                "keras.instrumentation.errors",
                "{error}",
                "What the instrumentation itself failed at",
                self._errors,
            ),
        ):
            create(name, callbacks=[observe], unit=unit, description=description)

    def recorder(self, name: str, make: Callable[[], R]) -> R:
        """Give the recorder of a name, made if there is none; the callbacks read it from now on."""
        with self._lock:
            found = self.recorders.get(name)
            if found is None:
                found = make()
                self.recorders = {**self.recorders, name: found}
            return found

    def detach(self, recorder: R) -> None:
        """Let the callbacks read a recorder no longer."""
        with self._lock:
            if self.recorders.get(recorder.name) is recorder:
                rest = dict(self.recorders)
                del rest[recorder.name]
                self.recorders = rest

    def failed(self, model: str, error_type: str, what: str, *, traceback: bool = True) -> None:
        """Count a failure of our own; the first of each kind is logged."""
        # Atomic without a lock of ours, which whoever makes a recorder may hold.
        self._failures.setdefault((model, error_type), Tally()).add(1)
        if what not in self._reported and len(self._reported) < MAXIMUM_REPORTS:
            self._reported.add(what)
            logger.warning("%s (reported once)", what, exc_info=traceback)

    def reset(self) -> None:
        """Start anew in the child of a fork."""
        self._lock = threading.Lock()
        for tally in list(self._failures.values()):
            tally.reset()
        for recorder in list(self.recorders.values()):
            recorder.reset()

    def _monitors(self) -> Iterator[tuple[R, str, DriftMonitor]]:
        """Go through all monitors, telling first what has come of each since the last time."""
        for recorder in self.recorders.values():
            recorder.settle(collecting=True)
            for output, monitor in recorder.monitors():
                self._tell(recorder.name, output, monitor)
                yield recorder, output, monitor
            for output, test in recorder.user_tests():
                for result in test.take_results():
                    self.p_values.record(result.p_value, {MODEL: recorder.name, OUTPUT: output})

    def _tell(self, model: str, output: str, monitor: DriftMonitor) -> None:
        monitor.snapshot()
        attributes = {MODEL: model, OUTPUT: output}
        for p_value in monitor.take_p_values():
            self.p_values.record(p_value, attributes)
        for alarm in monitor.take_alarms():
            try:
                emit_drift_event(self.logger_provider, attributes, alarm)
            except Exception:  # trouble with logs must not cost the metrics of this collection
                self.failed(model, "internal", f"{model}: a drift event could not be emitted")

    def _samples(self, _: CallbackOptions) -> Iterable[Observation]:
        for recorder in self.recorders.values():
            recorder.settle(collecting=True)
            for method, tally in recorder.samples.items():
                yield Observation(tally.total(), {MODEL: recorder.name, METHOD: method})

    def _predictions(self, _: CallbackOptions) -> Iterable[Observation]:
        for recorder, output, monitor in self._monitors():
            exported = monitor.exported
            counts = [0] * len(exported.classes)
            for position, count in zip(
                exported.position.tolist(), monitor.snapshot().counts.tolist(), strict=True
            ):
                counts[position] += count
            for name, count in zip(exported.classes, counts, strict=True):
                yield Observation(count, {MODEL: recorder.name, OUTPUT: output, CLASS: name})

    def _each_class(self, values_of: Callable[[Any], Any]) -> Callable[..., Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for recorder, output, monitor in self._monitors():
                exported: Exported = monitor.exported
                if exported.baseline is None:
                    continue
                values = values_of(exported).tolist()
                for name, value in zip(exported.classes, values, strict=True):
                    yield Observation(value, {MODEL: recorder.name, OUTPUT: output, CLASS: name})

        return observe

    def _baseline_size(self, _: CallbackOptions) -> Iterable[Observation]:
        for recorder, output, monitor in self._monitors():
            if monitor.baseline is not None and monitor.baseline.size is not None:
                yield Observation(monitor.baseline.size, {MODEL: recorder.name, OUTPUT: output})

    def _each_output(
        self, value_of: Callable[[DriftSnapshot], float | None]
    ) -> Callable[..., Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for recorder, output, monitor in self._monitors():
                value = value_of(monitor.snapshot())
                if value is not None:
                    yield Observation(
                        min(value, LARGEST_FINITE), {MODEL: recorder.name, OUTPUT: output}
                    )

        return observe

    def _each_test(self, field: str) -> Callable[..., Iterable[Observation]]:
        """Observe the newest test of each output, the user's own tests included."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for recorder, output, monitor in self._monitors():
                window = monitor.snapshot().window
                if window is not None:
                    value = min(float(getattr(window.test, field)), LARGEST_FINITE)
                    yield Observation(value, {MODEL: recorder.name, OUTPUT: output})
            for recorder in self.recorders.values():
                for output, test in recorder.user_tests():
                    if test.newest is not None:
                        value = getattr(test.newest, field)
                        yield Observation(value, {MODEL: recorder.name, OUTPUT: output})

        return observe

    def _effects(self, _: CallbackOptions) -> Iterable[Observation]:
        for recorder, output, monitor in self._monitors():
            window = monitor.snapshot().window
            if window is not None:
                for measure, value in window.effect._asdict().items():
                    yield Observation(
                        value, {MODEL: recorder.name, OUTPUT: output, MEASURE: measure}
                    )

    def _moved_shares(self, _: CallbackOptions) -> Iterable[Observation]:
        for recorder, output, monitor in self._monitors():
            snapshot = monitor.snapshot()
            if snapshot.active and snapshot.last_alarm is not None:
                shares = monitor.exported_shares(snapshot.last_alarm.alarm.contributions)
                for name, share in shares.items():
                    yield Observation(share, {MODEL: recorder.name, OUTPUT: output, CLASS: name})

    def _errors(self, _: CallbackOptions) -> Iterable[Observation]:
        none_yet = {(name, error_type): 0 for name in self.recorders for error_type in ERROR_TYPES}
        counted = {key: tally.total() for key, tally in list(self._failures.items())}
        for (model, error_type), count in {**none_yet, **counted}.items():
            yield Observation(count, {MODEL: model, ERROR_TYPE: error_type})


def _if_tested(snapshot: DriftSnapshot, value: int) -> int | None:
    return None if snapshot.evidence is None else value


def _onset(snapshot: DriftSnapshot) -> float | None:
    if not snapshot.active or snapshot.last_alarm is None:
        return None
    return snapshot.last_alarm.onset
