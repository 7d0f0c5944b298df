"""In whatever order a program instruments, predicts, collects, forks and takes it back: exact."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_drift
from otel_drift import Baseline, KerasInstrumentor

K = 3
METHODS = {"predict": "predict", "predict_on_batch": "predict_on_batch", "__call__": "call"}
NAMES = ("left", "right")

pytestmark = pytest.mark.filterwarnings("ignore")
torch.set_num_threads(1)  # OpenMP's threads do not survive a fork, with us or without


class Model(keras.Model):
    """Predicts, raises or returns nonsense, as its inputs say."""

    def call(self, x: Any) -> Any:
        if float(x[0, 0]) == RAISING:
            raise TROUBLE
        if float(x[0, 0]) == RETURNING_NONSENSE:
            return "nonsense"
        return keras.ops.softmax(x)


RAISING, RETURNING_NONSENSE = -7.0, -8.0
TROUBLE = KeyError("of the model")


def inputs(rows: int, seed: int, first: float | None = None) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, K)).astype("float32")
    if first is not None:
        x[0, 0] = first
    return x


def predict(model: Any, entry: str, x: np.ndarray) -> np.ndarray:
    if entry == "predict":
        return model.predict(x, verbose=0, batch_size=4)
    if entry == "predict_on_batch":
        return model.predict_on_batch(x)
    return model(x, training=False).detach().numpy()


class Truth:
    """What there is to count since a model is recorded."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.errors = 0

    def add(self, method: str, y: np.ndarray) -> None:
        self.classes.update(map(str, y.argmax(1).tolist()))
        self.rows[method] += len(y)
        self.calls[method] += 1


class Program(RuleBasedStateMachine):
    """A program with two models, and what it does with them."""

    @initialize()
    def start(self) -> None:
        self.models = {name: Model(name=name) for name in NAMES}
        for model in self.models.values():  # building is not predicting
            predict(model, "__call__", inputs(2, 0))
        self.recorded: dict[str, Truth] = {}
        self.one_by_one = False
        self.reader, self.provider = InMemoryMetricReader(), None

    @precondition(lambda self: self.provider is None)
    @rule(names=st.sampled_from([NAMES, NAMES[:1], None]))
    def instrument(self, names: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        options = {"baseline": Baseline.uniform(K), "meter_provider": self.provider}
        self.one_by_one = names is not None
        if names is None:
            KerasInstrumentor().instrument(**options)
        else:
            for name in names:
                otel_drift.instrument_model(self.models[name], **options)
        self.recorded = {name: Truth() for name in names or NAMES}

    @precondition(lambda self: self.provider is not None)
    @rule(collect_before=st.booleans())
    def take_back(self, collect_before: bool) -> None:
        if collect_before:
            self.check(self.recorded)
        self.uninstrument()
        self.check(self.recorded)  # what was not collected yet is in the last collection
        data = self.reader.get_metrics_data()
        assert not self.points(data, "keras.predictions")
        self.provider.shutdown()
        self.provider, self.recorded = None, {}

    @rule(
        name=st.sampled_from(NAMES),
        entry=st.sampled_from(sorted(METHODS)),
        rows=st.integers(1, 9),
        seed=st.integers(0, 99),
        times=st.sampled_from([1, 1, 3, 300]),
    )
    def predict(self, name: str, entry: str, rows: int, seed: int, times: int) -> None:
        for _ in range(times if entry == "__call__" else 1):
            y = predict(self.models[name], entry, inputs(rows, seed))
            if name in self.recorded:
                self.recorded[name].add(METHODS[entry], y)
        if entry != "__call__":
            y[...] = 0.5  # it is the program's: it may do with it what it likes

    @rule(name=st.sampled_from(NAMES), entry=st.sampled_from(["predict", "__call__"]))
    def fail(self, name: str, entry: str) -> None:
        self.models[name].run_eagerly = True
        with pytest.raises(KeyError, match="of the model"):
            predict(self.models[name], entry, inputs(3, 0, RAISING))
        if name in self.recorded:
            self.recorded[name].calls[METHODS[entry]] += 1

    @rule(name=st.sampled_from(NAMES))
    def return_nonsense(self, name: str) -> None:
        assert self.models[name](inputs(3, 0, RETURNING_NONSENSE), training=False) == "nonsense"
        if name in self.recorded:
            self.recorded[name].calls["call"] += 1
            self.recorded[name].errors += 1

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 99))
    def predict_in_threads(self, name: str, seed: int) -> None:
        model = self.models[name]
        with ThreadPoolExecutor(3) as pool:
            several = [inputs(4, seed + number) for number in range(9)]
            for y in pool.map(lambda x: predict(model, "__call__", x), several):
                if name in self.recorded:
                    self.recorded[name].add("call", y)

    @rule()
    def collect(self) -> None:
        self.check(self.recorded)

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 99), taken_back=st.booleans())
    def fork(self, name: str, seed: int, taken_back: bool) -> None:
        child = os.fork()
        if child == 0:
            try:
                own = {name: Truth() for name in self.recorded}
                y = predict(self.models[name], "__call__", inputs(5, seed))
                if name in own:
                    own[name].add("call", y)
                if taken_back and self.provider is not None:
                    self.uninstrument()
                self.check(own, calls=False)  # the SDK's own histogram goes on from the parent's
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    def teardown(self) -> None:
        if getattr(self, "provider", None) is not None:
            self.take_back(collect_before=True)

    def uninstrument(self) -> None:
        if self.one_by_one:
            for name in self.recorded:
                otel_drift.uninstrument_model(self.models[name])
        else:
            KerasInstrumentor().uninstrument()

    def check(self, truth: dict[str, Truth], *, calls: bool = True) -> None:
        """Collect once, and compare all of it."""
        data = self.reader.get_metrics_data()
        for name, one in truth.items():
            counted = self.by(data, "keras.predictions", name, "keras.prediction.class", "value")
            assert counted == one.classes
            rows = self.by(data, "keras.predict.samples", name, "keras.method", "value")
            assert rows == one.rows
            if calls:
                timed = self.by(data, "keras.predict.duration", name, "keras.method", "count")
                assert timed == one.calls
            failed = self.by(data, "keras.instrumentation.errors", name, "error.type", "value")
            assert failed.total() == one.errors
        if not truth:
            assert not self.points(data, "keras.predictions")

    @classmethod
    def by(cls, data: Any, metric: str, model: str, attribute: str, value: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for point in cls.points(data, metric):
            if point.attributes["keras.model.name"] == model and getattr(point, value):
                found[point.attributes[attribute]] += getattr(point, value)
        return found

    @staticmethod
    def points(data: Any, metric: str) -> list[Any]:
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for one in scope.metrics
            if one.name == metric
            for point in one.data.data_points
        ]


Program.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
TestProgram = Program.TestCase
