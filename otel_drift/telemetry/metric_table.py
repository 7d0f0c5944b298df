"""Every metric of predictions: its name, kind, unit, and what it says of a model, in one table.

No gauge has the unit ``1``: Prometheus's translation appends ``_ratio`` to such names and the
Python exporter does not. With an annotation as unit every route gives the same series name.

>>> [metric.name for metric in METRICS if metric.kind == "counter"][:2]
['keras.predict.samples', 'keras.predictions']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from otel_drift.telemetry.collection import ModelSnapshot, OutputSnapshot
from otel_drift.telemetry.names import CLASS, MEASURE, METHOD

Value = tuple[float, dict[str, str]]
"""A number and the attributes that it belongs to."""

LARGEST_FINITE = 1e300
DURATION_BOUNDS_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
P_VALUE_BOUNDS = (*(0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),)


class Metric(NamedTuple):
    """An instrument that is read when metrics are collected."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    description: str
    values: Callable[[ModelSnapshot], Iterable[Value]]


class HistogramMetric(NamedTuple):
    """A histogram that is recorded into."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


def _samples(model: ModelSnapshot) -> Iterable[Value]:
    for method, samples in model.samples.items():
        yield samples, {**model.attributes, METHOD: method}


def _predictions(model: ModelSnapshot) -> Iterable[Value]:
    for output in model.outputs:
        for name, count in output.class_counts() if output.has_series else ():
            yield count, {**output.attributes, CLASS: name}


def _each_class(values_of: Callable[[Any], Any]) -> Callable[[ModelSnapshot], Iterable[Value]]:
    """Observe something of each class's baseline."""

    def values(model: ModelSnapshot) -> Iterable[Value]:
        for output in model.outputs:
            if output.has_series and output.exported.baseline is not None:
                each = values_of(output.exported).tolist()
                for name, value in zip(output.exported.classes, each, strict=True):
                    yield value, {**output.attributes, CLASS: name}

    return values


def _each_output(
    value_of: Callable[[OutputSnapshot], float | None],
) -> Callable[[ModelSnapshot], Iterable[Value]]:
    """Observe one number of each output, where there is one."""

    def values(model: ModelSnapshot) -> Iterable[Value]:
        for output in model.outputs:
            value = value_of(output)
            if value is not None:
                yield min(value, LARGEST_FINITE), output.attributes

    return values


def _each_test(field: str) -> Callable[[ModelSnapshot], Iterable[Value]]:
    """Observe the newest test of each output, and of the user's own tests."""

    def values(model: ModelSnapshot) -> Iterable[Value]:
        for output in model.outputs:
            if output.drift.window is not None:
                value = float(getattr(output.drift.window.test, field))
                yield min(value, LARGEST_FINITE), output.attributes
        for attributes, result in model.user_tests:
            yield min(getattr(result, field), LARGEST_FINITE), attributes

    return values


def _effects(model: ModelSnapshot) -> Iterable[Value]:
    for output in model.outputs:
        if output.drift.window is not None:
            for measure, value in output.drift.window.effect._asdict().items():
                yield value, {**output.attributes, MEASURE: measure}


def _moved_shares(model: ModelSnapshot) -> Iterable[Value]:
    for output in model.outputs:
        for name, share in output.moved_shares() if output.has_series else ():
            yield share, {**output.attributes, CLASS: name}


def _baseline_size(output: OutputSnapshot) -> float | None:
    baseline = output.exported.baseline
    return None if baseline is None else baseline.size


def _if_tested(output: OutputSnapshot, value: int) -> int | None:
    return None if output.drift.evidence is None else value


def _onset(output: OutputSnapshot) -> float | None:
    alarm = output.drift.last_alarm
    return alarm.onset if output.drift.active and alarm is not None else None


DURATION = HistogramMetric(
    "keras.predict.duration",
    "s",
    "Duration of predictions; of an asynchronous call, until it was dispatched",
    DURATION_BOUNDS_SECONDS,
)
P_VALUES = HistogramMetric(
    "keras.prediction.drift.test.p_value",
    "{probability}",
    "p-values of all windows: flat without drift",
    P_VALUE_BOUNDS,
)
ERRORS = ("keras.instrumentation.errors", "{error}", "What the instrumentation itself failed at")

METRICS = (
    Metric("keras.predict.samples", "counter", "{sample}", "Rows that were predicted", _samples),
    Metric(
        "keras.predictions",
        "counter",
        "{prediction}",
        "Predictions of each class",
        _predictions,
    ),
    Metric(
        "keras.prediction.baseline.proportion",
        "gauge",
        "{proportion}",
        "Share of each class in the baseline",
        _each_class(lambda exported: exported.baseline.proportions),
    ),
    Metric(
        "keras.prediction.baseline.lower",
        "gauge",
        "{proportion}",
        "Share below which a class has moved",
        _each_class(lambda exported: exported.lower),
    ),
    Metric(
        "keras.prediction.baseline.upper",
        "gauge",
        "{proportion}",
        "Share above which a class has moved",
        _each_class(lambda exported: exported.upper),
    ),
    Metric(
        "keras.prediction.baseline.size",
        "gauge",
        "{prediction}",
        "Predictions that the baseline was counted from; none where it is known exactly",
        _each_output(_baseline_size),
    ),
    Metric(
        "keras.prediction.baseline.design_effect",
        "gauge",
        "{prediction}",
        "Predictions that are known to count as one: by the baseline's log, or by keys of units",
        _each_output(lambda output: output.drift.expected_design_effect),
    ),
    Metric(
        "keras.prediction.design_effect",
        "gauge",
        "{prediction}",
        "Predictions that count as one, because they depend on each other; 1 where they do not",
        _each_output(lambda output: output.drift.design_effect),
    ),
    Metric(
        "keras.prediction.drift.p_value",
        "gauge",
        "{probability}",
        "p-value of the newest complete window",
        _each_test("p_value"),
    ),
    Metric(
        "keras.prediction.drift.statistic",
        "gauge",
        "{chi_square}",
        "Chi-square statistic of the newest complete window",
        _each_test("statistic"),
    ),
    Metric(
        "keras.prediction.drift.effect",
        "gauge",
        "{effect}",
        "Effect sizes of the newest complete window",
        _effects,
    ),
    Metric(
        "keras.prediction.drift.evidence",
        "gauge",
        "{decade}",
        "log10 of the sequential evidence of drift; at least the threshold while drift is active",
        _each_output(lambda output: output.drift.evidence),
    ),
    Metric(
        "keras.prediction.drift.threshold",
        "gauge",
        "{decade}",
        "log10 of the evidence at which there is an alarm",
        _each_output(lambda output: output.drift.threshold),
    ),
    Metric(
        "keras.prediction.drift.alarms",
        "counter",
        "{alarm}",
        "Alarms of the sequential detector",
        _each_output(lambda output: _if_tested(output, output.drift.alarms)),
    ),
    Metric(
        "keras.prediction.drift.active",
        "gauge",
        "{state}",
        "1 from an alarm until the drift has ended, else 0",
        _each_output(lambda output: _if_tested(output, int(output.drift.active))),
    ),
    Metric(
        "keras.prediction.drift.onset",
        "gauge",
        "s",
        "While drift is active: the estimated time at which it began, in seconds since the epoch",
        _each_output(_onset),
    ),
    Metric(
        "keras.prediction.drift.share",
        "gauge",
        "{proportion}",
        "While drift is active: the estimated share, now, of the classes that moved most",
        _moved_shares,
    ),
)
