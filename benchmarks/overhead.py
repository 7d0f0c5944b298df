"""What a prediction costs more with otel_drift, in microseconds, on each backend.

    python benchmarks/overhead.py > benchmarks/results/overhead.txt

First a small real model (three layers, 32 rows, 10 classes, on the CPU), with and without us side
by side: short blocks of calls take turns, so that what else the machine does meets both alike.
Given is the fastest block of each. What is added is more than our own part below: between two
predictions a model pushes our code out of the processor's caches.

Then our own part by itself, around a method that returns at once, which shows what it is made of:
with the API alone nothing is recorded, with the SDK one duration, with traces one span as well.
"later" is what working off the buffered labels costs, for each call: it is done when metrics are
collected, or by one call in 256. Again the fastest blocks. Each backend runs in a process of its
own. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from otel_drift.drift.monitor import BUFFERED_CALLS

BACKENDS = ("numpy", "torch", "jax", "tensorflow")
ENTRY_POINTS = ("predict", "predict_on_batch", "__call__")
ROWS, CLASSES = 32, 10
BLOCKS = 80
SECONDS_A_BLOCK = 0.01


def microseconds(function: Callable[[], Any], calls: int) -> float:
    """Time a call as the mean of a block of them."""
    start = perf_counter()
    for _ in range(calls):
        function()
    return (perf_counter() - start) / calls * 1e6


def block_of(function: Callable[[], Any]) -> int:
    """How many calls fill a block."""
    microseconds(function, 3)
    return max(1, int(SECONDS_A_BLOCK / (microseconds(function, 3) / 1e6)))


def quietest(function: Callable[[], Any], after: Callable[[], Any]) -> tuple[float, float]:
    """Give the fastest of many blocks, and of what follows each, for each call."""
    after()
    calls = BUFFERED_CALLS - 1
    times = [(microseconds(function, calls), microseconds(after, 1) / calls) for _ in range(BLOCKS)]
    return min(first for first, _ in times), min(second for _, second in times)


def real_model(backend: str) -> None:
    """Compare the entry points of a model with and without us."""
    import keras
    import numpy as np
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from otel_drift import Baseline, KerasInstrumentor

    keras.utils.set_random_seed(1)
    layers = [keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(CLASSES, "softmax")])
    x = np.random.default_rng(1).normal(size=(ROWS, 64)).astype("float32")
    options = {
        "meter_provider": MeterProvider([InMemoryMetricReader()]),
        "baseline": Baseline.from_predictions(model.predict(np.tile(x, (100, 1)), verbose=0)),
        "traces": False,
    }
    calls: dict[str, Callable[[], Any]] = {
        "predict": lambda: model.predict(x, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(x),
        "__call__": lambda: model(x),
    }
    for entry in ENTRY_POINTS:
        call = calls[entry]
        size = block_of(call)
        without, watched = [], []
        for _ in range(BLOCKS):
            without.append(microseconds(call, size))
            KerasInstrumentor().instrument(**options)
            call()  # makes the recorder: once in a model's life
            watched.append(microseconds(call, size))
            KerasInstrumentor().uninstrument()
        plain, ours = min(without), min(watched)
        print(f"{backend:<12}{entry:<18}{plain:>10.1f}{ours - plain:>10.1f}{ours / plain:>9.3f}")


def own_part(backend: str) -> None:
    """Time our wrapper around methods that return at once what the backend's models return."""
    import keras
    import numpy as np
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from otel_drift import Baseline
    from otel_drift.keras.patch import OBSERVED, STATE, ModelState, Patch
    from otel_drift.options import Options
    from otel_drift.telemetry.instruments import instruments_of
    from otel_drift.telemetry.recorder import Configuration, ModelRecorder

    scores = np.random.default_rng(1).dirichlet(np.ones(CLASSES), ROWS).astype("float32")
    tensor = keras.ops.convert_to_tensor(scores)
    counts = 1000 * np.bincount(scores.argmax(1), minlength=CLASSES) + 1
    baselines = {"output": Baseline.from_counts(counts)}

    class Returning:
        name = "returning"
        returned: Any = scores

        def predict(self, _: Any) -> Any:
            return self.returned

        predict_on_batch = __call__ = predict
        fit = evaluate = train_on_batch = test_on_batch = stateless_call = predict

    class Model(Returning):
        pass

    namespace = SimpleNamespace(Model=Model, KerasTensor=keras.KerasTensor, backend=keras.backend)
    tracer = TracerProvider().get_tracer("benchmark")
    ways: dict[str, tuple[Any, Any]] = {
        "API only": (NoOpMeterProvider(), None),
        "SDK": (MeterProvider([InMemoryMetricReader()]), None),
        "SDK, traces": (MeterProvider([InMemoryMetricReader()]), tracer),
    }
    model = Model()
    for entry, y in (("predict", scores), ("__call__", tensor)):
        Model.returned = y
        call = (lambda: model(scores)) if entry == "__call__" else (lambda: model.predict(scores))
        plain, _ = quietest(call, lambda: None)
        found = []
        for provider, traced_by in ways.values():
            instruments = instruments_of(provider)
            recorder = ModelRecorder(
                "m",
                None,
                Configuration(Options(), baselines),
                instruments.duration,
                instruments.failures,
            )
            recorder.serve(tuple(OBSERVED.values()), traced_by)
            model.__dict__[STATE] = ModelState(recorder, None, None)
            patch = Patch(namespace, lambda _: None)
            patch.install()
            ours, later = quietest(call, partial(work_off, recorder))
            found.append(ours - plain)
            patch.remove()
        columns = "".join(f"{one:>13.1f}" for one in (*found, later))
        print(f"{backend:<12}{entry:<18}{columns}")


def work_off(recorder: Any) -> None:
    """Do what a collection of metrics does with what waits."""
    recorder.settle(collecting=True)
    for _, monitor in recorder.monitors():
        monitor.snapshot()


def main() -> None:
    """Run both parts for each backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--part", choices=("real_model", "own_part"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        globals()[asked.part](os.environ["KERAS_BACKEND"])
        return
    titles = {
        "real_model": f"{'':<30}{'without':>10}{'added':>10}{'ratio':>9}",
        "own_part": f"{'':<30}{'API only':>13}{'SDK':>13}{'SDK, traces':>13}{'later':>13}",
    }
    for part, title in titles.items():
        print(f"{part.replace('_', ' ')}, microseconds, {ROWS} x {CLASSES}\n{title}", flush=True)
        for backend in asked.backends:
            settings = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            command = [sys.executable, __file__, "--part", part]
            subprocess.run(command, env=settings, check=True, stderr=subprocess.DEVNULL)
        print(flush=True)


if __name__ == "__main__":
    main()
