"""What the tests of a backend share: an instrumented Keras, and what it has recorded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_drift import KerasInstrumentor

BACKEND = keras.backend.backend()
ENTRY_POINTS = {"predict": "predict", "predict_on_batch": "predict_on_batch", "__call__": "call"}

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])


def only(*backends: str) -> pytest.MarkDecorator:
    """Leave a test to the backends whose Keras can do it."""
    return pytest.mark.skipif(BACKEND not in backends, reason=f"of {', '.join(backends)}")


def since(*version: int) -> pytest.MarkDecorator:
    """Leave a test to the versions of Keras that can do it."""
    return pytest.mark.skipif(version > KERAS, reason=f"of Keras {version}")


class Observed:
    """What has been recorded since `observed` was entered."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.log: list[str] = []

    def points(self, metric: str) -> list[Any]:
        """Collect, and give the data points of one metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for one in scope.metrics
            if one.name == metric
            for point in one.data.data_points
        ]

    def counts(self, model: str | None = None) -> dict[str, dict[str, int]]:
        """Predictions of each class by output, of the classes that were predicted."""
        found: dict[str, dict[str, int]] = {}
        for point in self.points("keras.predictions"):
            if model is None or point.attributes["keras.model.name"] == model:
                output = found.setdefault(point.attributes["keras.model.output"], {})
                if point.value:
                    output[point.attributes["keras.prediction.class"]] = point.value
        return found

    def samples(self) -> dict[str, int]:
        """Rows that were predicted by method, of the methods that were used."""
        return _by(self.points("keras.predict.samples"), "keras.method", "value")

    def calls(self) -> dict[str, int]:
        """Durations by method."""
        return _by(self.points("keras.predict.duration"), "keras.method", "count")

    def failed_calls(self) -> dict[str, int]:
        """Durations of calls that failed by what they failed with."""
        points = self.points("keras.predict.duration")
        failed = [point for point in points if "error.type" in point.attributes]
        return _by(failed, "error.type", "count")

    def errors(self) -> dict[str, int]:
        """Failures of the instrumentation itself by type, of those that happened."""
        return _by(self.points("keras.instrumentation.errors"), "error.type", "value")


def _by(points: list[Any], attribute: str, value: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for point in points:
        if getattr(point, value):
            name = point.attributes[attribute]
            found[name] = found.get(name, 0) + getattr(point, value)
    return found


class _ToList(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@contextmanager
def observed(**options: Any) -> Iterator[Observed]:
    """Instrument Keras with an SDK of its own, and take it back at the end."""
    found = Observed()
    handler = _ToList(found.log)
    logger = logging.getLogger("otel_drift")
    logger.addHandler(handler)
    logger.propagate = False
    KerasInstrumentor().instrument(meter_provider=found.provider, **options)
    try:
        yield found
    finally:
        KerasInstrumentor().uninstrument()
        logger.removeHandler(handler)
        logger.propagate = True


def dense(
    units: int = 3, activation: Any = "softmax", *, inputs: int = 4, name: str = "small"
) -> Any:
    """Make a small model with one output."""
    layers = [
        keras.Input((inputs,)),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dense(units, activation=activation),
    ]
    return keras.Sequential(layers, name=name)


def rows(n: int, *shape: int) -> Any:
    """Give n random inputs; spread widely, so that a random model predicts every class."""
    return (4 * np.random.default_rng(n).normal(size=(n, *(shape or (4,))))).astype("float32")


def call(model: Any, entry: str, x: Any) -> Any:
    """Predict by one of the three entry points."""
    if entry == "predict":
        return model.predict(x, verbose=0, batch_size=5)
    return model.predict_on_batch(x) if entry == "predict_on_batch" else model(x)


def numpy(y: Any) -> Any:
    """Give the NumPy arrays of a nested output, by a way that is not otel_drift's."""
    if isinstance(y, dict):
        return {name: numpy(part) for name, part in y.items()}
    if isinstance(y, (list, tuple)):
        return [numpy(part) for part in y]
    return keras.ops.convert_to_numpy(y)


def _flat(y: Any) -> list[Any]:
    if isinstance(y, dict):
        return [array for name in sorted(y) for array in _flat(y[name])]
    return [array for part in y for array in _flat(part)] if isinstance(y, list) else [y]


def classes(labels: Any) -> dict[str, int]:
    """Count labels by name, of those that occur."""
    values, counts = np.unique(np.asarray(labels), return_counts=True)
    return {str(value): int(n) for value, n in zip(values, counts, strict=True)}


def argmax(*outputs: Any) -> dict[str, int]:
    """Count the largest score of each row of some outputs."""
    flat = [np.asarray(numpy(y)).astype("float32") for y in outputs]
    return classes(np.concatenate([y.reshape(-1, y.shape[-1]).argmax(1) for y in flat]))


def same_bits(one: Any, other: Any) -> None:
    """Fail unless two nested outputs are equal to the last bit."""
    for left, right in zip(_flat(numpy(one)), _flat(numpy(other)), strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()


@contextmanager
def raises(kind: type[BaseException], message: str = "") -> Iterator[None]:
    """Fail unless just this is raised, and not a subclass of it."""
    with pytest.raises(kind, match=re.escape(message) or None) as caught:
        yield
    assert caught.type is kind
