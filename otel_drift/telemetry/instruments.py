"""The instruments of one meter provider, made once from `otel_drift.telemetry.metric_table`.

An observable instrument that is created again keeps its first callback, so there is one
`Instruments` for each provider; its callbacks read whatever recorders its registry holds.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from time import perf_counter
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from otel_drift.drift.exported_classes import Exported, narrowed
from otel_drift.drift.reference import RESERVED
from otel_drift.package import __version__
from otel_drift.telemetry.backlog import BACKLOG, SLICE_SECONDS, pause
from otel_drift.telemetry.collection import (
    Collection,
    ModelSnapshot,
    OutputSnapshot,
    take_snapshot,
)
from otel_drift.telemetry.failures import Failures
from otel_drift.telemetry.metric_table import (
    DURATION,
    ERRORS,
    METRICS,
    P_VALUES,
    HistogramMetric,
    Metric,
)
from otel_drift.telemetry.names import ERROR_TYPE, OUTPUT, SCOPE
from otel_drift.telemetry.recorder import ModelRecorder
from otel_drift.telemetry.registry import ModelRegistry
from otel_drift.telemetry.series_limit import SeriesBudget, series_limit_of

_Key = tuple[tuple[str, str], ...]


class Instruments:
    """The instruments of one meter provider, and the models that they read.

    Parameters
    ----------
    meter_provider
        None stands for the global one.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        self.registry = ModelRegistry()
        self.failures = Failures()
        self.of_proxy = "Proxy" in type(meter_provider).__name__
        """Whether they were made before there was an SDK: they come alive with it."""
        self._collection = Collection(self._snapshots)
        provider = weakref.ref(meter_provider or metrics.get_meter_provider())
        self._budget = SeriesBudget(
            lambda: series_limit_of(metrics.get_meter_provider() if self.of_proxy else provider())
        )
        self._fitted: dict[_Key, tuple[Exported, frozenset[str] | None, Exported]] = {}
        """What each output would export, its classes that may be, and what it does export."""
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self.duration = _histogram(meter, DURATION)
        self._p_values = _histogram(meter, P_VALUES)
        create = {
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
        }
        for metric in METRICS:
            create[metric.kind](
                metric.name,
                callbacks=[self._observing(metric)],
                unit=metric.unit,
                description=metric.description,
            )
        name, unit, description = ERRORS
        meter.create_observable_counter(name, [self._errors], unit, description)

    def reset(self) -> None:
        """Start anew in the child of a fork."""
        self.registry.reset()
        self.failures.reset()
        self._budget.reset()
        self._collection = Collection(self._snapshots)

    def _snapshots(self) -> list[ModelSnapshot]:
        leaving = self.registry.take_leaving()
        staying = self.registry.recorders()
        BACKLOG.work_off()
        for recorder in (*staying, *leaving):
            recorder.settle(collecting=True)
        BACKLOG.work_off()  # with what has been decided only now
        found: list[tuple[ModelRecorder, ModelSnapshot]] = []
        begun = perf_counter()
        for recorders, ends in ((staying, False), (leaving, True)):
            for recorder in recorders:
                model = take_snapshot(recorder, self._p_values, leaving=ends)
                found.append((recorder, model))
                if perf_counter() - begun > SLICE_SECONDS:
                    pause()
                    begun = perf_counter()
        return self._within_limit(found)

    def _within_limit(
        self, found: list[tuple[ModelRecorder, ModelSnapshot]]
    ) -> list[ModelSnapshot]:
        """Give the snapshots with as many series as the SDK has room for."""
        outputs = {_key(one): one.exported for _, model in found for one in model.outputs}
        placed = {
            key: known[1]
            for key, exported in outputs.items()
            if (known := self._fitted.get(key)) and known[0] is exported and known[1] is not None
        }
        new = {key: exported for key, exported in outputs.items() if key not in placed}
        models = len({tuple(model.attributes.values()) for _, model in found})
        own = {**placed, **self._budget.share(new, models)} if new else placed
        return [
            model._replace(
                outputs=[self._fit(recorder, one, own[_key(one)]) for one in model.outputs]
            )
            for recorder, model in found
        ]

    def _fit(
        self, recorder: ModelRecorder, output: OutputSnapshot, own: frozenset[str] | None
    ) -> OutputSnapshot:
        """Add up as ``other`` the classes that have no series of their own, and say so once."""
        key, given = _key(output), output.exported
        before, own_before, fitted = self._fitted.get(key, (None, None, given))
        if before is not given or own != own_before:
            beyond = set(given.classes) - set(RESERVED) - (own or set())
            fitted = given
            if beyond:
                tolerance = recorder.configuration.settings.tolerance
                fitted = narrowed(given, own or frozenset(), tolerance)
            if beyond and (before is None or given.classes != before.classes):
                self._say(recorder, output.attributes[OUTPUT], len(beyond))
            self._fitted[key] = given, own, fitted
        if own is None:
            self._say(recorder, output.attributes[OUTPUT], None)
        return output._replace(exported=fitted, has_series=own is not None)

    def _say(self, recorder: ModelRecorder, output: str, beyond: int | None) -> None:
        what = (
            "its predictions are not exported by class"
            if beyond is None
            else f"{beyond} of its classes are exported as 'other'"
        )
        recorder.failed(
            "series_limit",
            f"{recorder.name}: there is no room for all series of output {output!r}: {what}. The "
            f"SDK keeps a limited number of series of an instrument. Give the metric reader higher "
            f"cardinality_limits, or watch fewer models",
            subject="no series" if beyond is None else "series",
            traceback=False,
        )

    def _observing(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, attributes)
                for model in self._collection.snapshot(metric.name)
                if metric.kind == "counter" or not model.leaving
                for value, attributes in metric.values(model)
            ]

        return observe

    def _errors(self, _: CallbackOptions) -> Iterable[Observation]:
        models = [tuple(one.attributes.items()) for one in self.registry.recorders()]
        for (model, error_type), count in self.failures.counts(models).items():
            yield Observation(count, {**dict(model), ERROR_TYPE: error_type})


def _key(output: OutputSnapshot) -> _Key:
    return tuple(output.attributes.items())


def _histogram(meter: Meter, metric: HistogramMetric) -> Histogram:
    return meter.create_histogram(
        metric.name,
        unit=metric.unit,
        description=metric.description,
        explicit_bucket_boundaries_advisory=metric.bounds,
    )


_instruments: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
_lock = threading.Lock()


def instruments_of(meter_provider: MeterProvider | None) -> Instruments:
    """Give the instruments of a meter provider (None: the global one), made once."""
    given = meter_provider or metrics.get_meter_provider()
    with _lock:
        found = _instruments.get(given)
        if found is None and given is metrics.get_meter_provider():
            # Made when there was no SDK yet: those instruments have come alive in the meantime.
            found = next((one for one in _instruments.values() if one.of_proxy), None)
        if found is None:
            found = _instruments.setdefault(given, Instruments(given))
        return found


def reset_instruments() -> None:
    """Start anew in the child of a fork."""
    global _lock
    _lock = threading.Lock()
    for instruments in list(_instruments.values()):
        instruments.reset()
