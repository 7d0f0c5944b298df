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

from otel_drift.package import __version__
from otel_drift.telemetry.backlog import BACKLOG, SLICE_SECONDS, pause
from otel_drift.telemetry.collection import Collection, ModelSnapshot, take_snapshot
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
from otel_drift.telemetry.series_limit import SeriesLimit, series_limit_of


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
        self._limit = SeriesLimit(
            lambda: series_limit_of(metrics.get_meter_provider() if self.of_proxy else provider())
        )
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
        self._collection = Collection(self._snapshots)

    def _snapshots(self) -> list[ModelSnapshot]:
        leaving = self.registry.take_leaving()
        staying = self.registry.recorders()
        BACKLOG.work_off()
        for recorder in (*staying, *leaving):
            recorder.settle(collecting=True)
        BACKLOG.work_off()  # with what has been decided only now
        found: list[ModelSnapshot] = []
        begun = perf_counter()
        for recorders, ends in ((staying, False), (leaving, True)):
            for recorder in recorders:
                model = take_snapshot(recorder, self._p_values, leaving=ends)
                self._check_series(recorder, model)
                found.append(model)
                if perf_counter() - begun > SLICE_SECONDS:
                    pause()
                    begun = perf_counter()
        return found

    def _check_series(self, recorder: ModelRecorder, model: ModelSnapshot) -> None:
        """Say which outputs have lost series to the SDK's limit: once, and in the error counter."""
        for output in model.outputs:
            name = output.attributes[OUTPUT]
            if self._limit.beyond(tuple(output.attributes.values()), len(output.exported.classes)):
                recorder.failed(
                    "series_limit",
                    f"{recorder.name}: there is no room for the series of output {name!r}: the "
                    f"SDK keeps a limited number of series of an instrument and adds up the "
                    f"rest as otel.metric.overflow. Give the metric reader higher "
                    f"cardinality_limits, or watch fewer models",
                    subject="series",
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
