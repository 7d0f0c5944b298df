"""What the fleet's detector exports: the names that processes use, and metrics of its own.

The series of the detector have the attribute ``keras.prediction.scope="fleet"``. They are there
while ticks are read: when Prometheus does not answer for five minutes they end, so that nobody takes
an old number for a new one.

>>> [metric.name for metric in FINDINGS][:3]
['keras.prediction.design_effect', 'keras.prediction.drift.evidence', 'keras.prediction.drift.threshold']
"""  # noqa: E501

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from time import time
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from otel_drift.fleet.counters import BRIDGED_SECONDS, Output
from otel_drift.fleet.fleet import Finding, Fleet
from otel_drift.package import __version__
from otel_drift.telemetry.metric_table import METRICS, Metric
from otel_drift.telemetry.names import (
    CLASS,
    ERROR_TYPE,
    MODEL,
    OUTPUT,
    SCOPE,
    SCOPE_OF_PREDICTIONS,
    VERSION,
)

SERVICE = "otel-drift-fleet"
STATE = "otel_drift.fleet.state"
DURATION_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SERIES = 100_000
"""Of an instrument: the SDK would add up what is beyond 2,000."""
EXTRA = (
    "otel-drift fleet exports by OTLP, which needs more packages: pip install 'otel-drift[otlp]'"
)

Value = tuple[float, dict[str, str]]


def _one(field: str) -> Callable[[Finding], Iterable[Value]]:
    def values(found: Finding) -> Iterable[Value]:
        value = getattr(found, field)
        if value is not None:
            yield value, {}

    return values


def _shares(found: Finding) -> Iterable[Value]:
    for name, share in found.shares.items():
        yield share, {CLASS: name}


VALUES = {
    "keras.prediction.design_effect": _one("design_effect"),
    "keras.prediction.drift.evidence": _one("evidence"),
    "keras.prediction.drift.threshold": _one("threshold"),
    "keras.prediction.drift.alarms": _one("alarms"),
    "keras.prediction.drift.active": _one("active"),
    "keras.prediction.drift.onset": _one("onset"),
    "keras.prediction.drift.share": _shares,
}
"""What each instrument says of a finding."""
FINDINGS: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric.name in VALUES)


class _Own(NamedTuple):
    name: str
    unit: str
    description: str


TICKS = _Own("otel_drift.fleet.ticks", "{tick}", "Ticks that were read")
SKIPPED = _Own("otel_drift.fleet.ticks.skipped", "{tick}", "Ticks that could not be read in time")
NEWEST = _Own("otel_drift.fleet.tick.time", "s", "End of the newest tick, in Unix time")
PREDICTIONS = _Own("otel_drift.fleet.predictions", "{prediction}", "Predictions that were read")
OUTPUTS = _Own("otel_drift.fleet.outputs", "{output}", "Outputs that are watched, or refused")
TICK_DURATION = _Own("otel_drift.fleet.tick.duration", "s", "How long the reading of a tick took")
QUERY_DURATION = _Own("otel_drift.fleet.query.duration", "s", "How long Prometheus took to answer")


class FleetTelemetry:
    """The instruments of a fleet's detector.

    Parameters
    ----------
    fleet
        Whose findings they are.
    provider
        Of the SDK.
    newest
        Gives the end of the newest tick, in seconds since the epoch, or None.
    """

    def __init__(
        self, fleet: Fleet, provider: MeterProvider, newest: Callable[[], float | None]
    ) -> None:
        self._fleet, self._provider, self._newest = fleet, provider, newest
        meter = provider.get_meter(SCOPE, __version__)
        for metric in FINDINGS:
            create = (
                meter.create_observable_counter
                if metric.kind == "counter"
                else meter.create_observable_gauge
            )
            create(metric.name, [self._observing(metric.name)], metric.unit, metric.description)
        meter.create_observable_counter(PREDICTIONS.name, [self._predictions], *PREDICTIONS[1:])
        meter.create_observable_gauge(NEWEST.name, [self._time], *NEWEST[1:])
        meter.create_observable_up_down_counter(OUTPUTS.name, [self._outputs], *OUTPUTS[1:])
        self._ticks = meter.create_counter(*TICKS)
        self._skipped = meter.create_counter(*SKIPPED)
        self._tick_duration = _histogram(meter, TICK_DURATION)
        self._query_duration = _histogram(meter, QUERY_DURATION)
        self._ticks.add(0)
        self._skipped.add(0)

    def queried(self, seconds: float, error: str | None) -> None:
        """Take a question: how long it took, and what went wrong, in a word."""
        self._query_duration.record(seconds, {} if error is None else {ERROR_TYPE: error})

    def ticked(self, seconds: float, skipped: int) -> None:
        """Take a tick: how long its reading took, and the ticks before it that are lost."""
        self._ticks.add(1)
        self._skipped.add(skipped)
        self._tick_duration.record(seconds)

    def flush(self) -> None:
        """Export what is known now."""
        flush: Callable[[], bool] | None = getattr(self._provider, "force_flush", None)
        if flush is not None:
            flush()

    def _observing(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        values = VALUES[name]

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            newest = self._newest()
            if newest is None or time() - newest > BRIDGED_SECONDS:
                return []
            return [
                Observation(value, {**attributes_of(found.output), **more})
                for found in self._fleet.findings(newest)
                for value, more in values(found)
            ]

        return observe

    def _predictions(self, _: CallbackOptions) -> Iterable[Observation]:
        for output, count in self._fleet.predictions.items():
            yield Observation(count, attributes_of(output))

    def _time(self, _: CallbackOptions) -> Iterable[Observation]:
        newest = self._newest()
        if newest is not None:
            yield Observation(newest)

    def _outputs(self, _: CallbackOptions) -> Iterable[Observation]:
        watched = len(self._fleet.findings(self._newest() or 0.0))
        yield Observation(watched, {STATE: "watched"})
        yield Observation(len(self._fleet.refused), {STATE: "refused"})


def attributes_of(output: Output) -> dict[str, str]:
    """Give the attributes of what the fleet's detector says of an output."""
    version = {VERSION: output.version} if output.version else {}
    return {MODEL: output.model, **version, OUTPUT: output.name, SCOPE_OF_PREDICTIONS: "fleet"}


def otlp_provider() -> Any:
    """Make a provider that exports by OTLP when it is flushed.

    ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``_PROTOCOL`` (``grpc`` by default) and ``_HEADERS`` say where
    to, ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` whose it is.

    Raises
    ------
    ValueError
        If packages are missing, naming the extra; or if the protocol is unknown.
    """
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        raise ValueError(EXTRA)
    from opentelemetry.sdk.resources import Resource

    named = {"service.instance.id": str(uuid.uuid4())}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        named["service.name"] = SERVICE
    return provider_of([_reader()], Resource.create(named))


def provider_of(readers: Sequence[Any], resource: Any = None) -> Any:
    """Make a provider of the SDK with these readers."""
    from opentelemetry.sdk.metrics import MeterProvider

    given = {} if resource is None else {"resource": resource}
    return MeterProvider(readers, shutdown_on_exit=False, **given)


def _reader() -> Any:
    """Make a reader that exports when it is flushed, and not by itself."""
    from opentelemetry.sdk import metrics
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    limits = dict.fromkeys((metrics.ObservableGauge, metrics.ObservableCounter), SERIES)
    make: Any = PeriodicExportingMetricReader
    try:
        return make(_exporter(), float("inf"), cardinality_limits=limits)
    except TypeError:  # an SDK before 1.45, without limits
        return make(_exporter(), float("inf"))


def _exporter() -> Any:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as exporters
        elif protocol == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http import metric_exporter as exporters
        else:
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r}: must be grpc or http/protobuf"
            )
    except ImportError as error:
        raise ValueError(EXTRA) from error
    return exporters.OTLPMetricExporter()


def _histogram(meter: Meter, own: _Own) -> Any:
    return meter.create_histogram(*own, explicit_bucket_boundaries_advisory=DURATION_BOUNDS_SECONDS)
