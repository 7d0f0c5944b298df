"""What the dashboards are shown: six models, of which one drifts, told to a real stack.

=========== ===================================================================================
steady      two replicas that predict as the baseline says; one of them ends half-way
drifting    two replicas; half-way class 7 is lost
plain       has no baseline
mixed       two replicas with different baselines, each as its own says
retrained   half-way it starts again, with another baseline of other classes
digits      a Keras model with traces, of which one call raises, trained for some epochs
=========== ===================================================================================
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import otel_drift
from otel_drift import Baseline
from tests.grafana.prometheus_server import Stack, await_true

CLASSES = 10
LOST = "7"
BASELINE_SIZE = 60_000
CALLS = 20
"""Of each model of each replica, about every second; each is one window of the chi-square test."""
PREDICTIONS_A_CALL = 100
SECONDS_TO_SEE = 45.0
NEVER_MILLISECONDS = 1e12


class Story(NamedTuple):
    """When what was so; times in seconds since the epoch."""

    stack: Stack
    before_all: float
    before_drift: float
    drift: float
    """When the first prediction without class 7 was made."""
    during_drift: float


class Replica:
    """A process that serves models: a meter provider of its own, exported when told to.

    Parameters
    ----------
    stack
        Where it exports to.
    instance
        Its name.
    baselines
        Of the models it serves, by name.
    shares
        The share of each class among what those models predict, by name.
    """

    def __init__(
        self,
        stack: Stack,
        instance: str,
        baselines: Mapping[str, Baseline | None],
        shares: Mapping[str, Sequence[float]],
    ) -> None:
        exporter = OTLPMetricExporter(f"{stack.otlp}/v1/metrics")
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=NEVER_MILLISECONDS)
        resource = Resource({"service.name": "story", "service.instance.id": instance})
        self.provider = MeterProvider([reader], resource)
        self.shares = dict(shares)
        self._recorders = {
            name: otel_drift.watch(name, baseline, meter_provider=self.provider)
            for name, baseline in baselines.items()
        }

    def predict_and_export(self, random: np.random.Generator) -> None:
        """Make some predictions of each model."""
        for name, recorder in self._recorders.items():
            shares = self.shares[name]
            for _ in range(CALLS):
                labels = random.choice(len(shares), PREDICTIONS_A_CALL, p=shares)
                # Without a baseline nothing says how many classes there are: probabilities do.
                recorder.record(labels if name != "plain" else np.eye(len(shares))[labels])
        self.provider.force_flush()


def tell(stack: Stack) -> Story:
    """Tell the whole story, in one to two minutes."""
    before_all = time.time()
    random = np.random.default_rng(20260101)
    even = [1 / CLASSES] * CLASSES
    baseline = Baseline.from_counts(random.multinomial(BASELINE_SIZE, even).tolist())
    other_shares = [0.28] + [0.08] * 9
    other = Baseline.from_proportions(other_shares)
    one = Replica(
        stack,
        "one",
        {"steady": baseline, "drifting": baseline, "mixed": baseline, "plain": None},
        {"steady": even, "drifting": even, "mixed": even, "plain": [0.5, 0.3, 0.2]},
    )
    two = Replica(
        stack,
        "two",
        {"drifting": baseline, "mixed": other},
        {"drifting": even, "mixed": other_shares},
    )
    gone = Replica(stack, "gone", {"steady": baseline}, {"steady": even})
    early = Replica(stack, "early", {"retrained": Baseline.uniform(4)}, {"retrained": [0.25] * 4})
    keras_replica = Replica(stack, "keras", {}, {})
    serving = [one, two, gone, early, keras_replica]

    with keras_model(keras_replica.provider) as call_keras_model:

        def go_on_until(condition: Callable[[], bool], what: str) -> None:
            def round_is_enough() -> bool:
                call_keras_model()
                for replica in serving:
                    replica.predict_and_export(random)
                return condition()

            await_true(round_is_enough, what, SECONDS_TO_SEE)

        go_on_until(lambda: _holds(stack, USUAL), "all models have records")
        before_drift = time.time()

        for replica in (gone, early):
            replica.provider.shutdown()
            serving.remove(replica)
        late = {"retrained": Baseline.uniform(6)}
        serving.append(Replica(stack, "late", late, {"retrained": [1 / 6] * 6}))
        drift = time.time()
        for replica in (one, two):
            replica.shares["drifting"] = [
                0.0 if k == int(LOST) else 1 / (CLASSES - 1) for k in range(CLASSES)
            ]
        go_on_until(lambda: _holds(stack, DRIFTED), "the drift is seen")
        during_drift = time.time()
    for replica in serving:
        replica.provider.shutdown()
    return Story(stack, before_all, before_drift, drift, during_drift)


USUAL = (
    'count(class:keras_predictions:share{window="1m"}) > 0',
    "count(output:keras_predictions:tvd) >= 6",
    "count(model:keras_replicas:count) == 6",
    "count(model:keras_predict_duration_seconds:quantile5m) == 3",
    "sum(model:keras_predict_errors:rate5m) > 0",
)
DRIFTED = (
    f'class:keras_predictions:out_of_band{{keras_prediction_class="{LOST}",window="1m"}}',
    f'class:keras_predictions:out_of_band{{keras_prediction_class="{LOST}",window="5m"}}',
    'output:keras_prediction_drift:state{keras_model_name="drifting"} == 1',
    'count(ALERTS{alertstate="firing",keras_model_name="drifting"}) == 2',
    'output:keras_predictions:chi_square_z{keras_model_name="drifting",window="5m"} > 6',
    'output:keras_predictions:tvd{keras_model_name="drifting",window="1m"} > 0.04',
    'absent(output:keras_predictions:tvd{keras_model_name="retrained",window="1m"})',
    'model:keras_replicas:count{keras_model_name="steady"} == 1',
)
"""What must hold, each with a series, before the dashboards are looked at."""


def _holds(stack: Stack, expressions: Sequence[str]) -> bool:
    return all(stack.prometheus.instant(expr, time.time()) for expr in expressions)


@contextmanager
def keras_model(provider: MeterProvider) -> Iterator[Callable[[], None]]:
    """Train a model and serve it: yields what makes one round of its calls."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    random = np.random.default_rng(7)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="digit")(inputs))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = random.normal(size=(64, 4)).astype("float32"), random.integers(0, 3, 64)
    training = otel_drift.TrainingMetrics("digits", run="first", meter_provider=provider)
    again = otel_drift.TrainingMetrics("digits", run="second", meter_provider=provider)
    for callback, epochs in ((training, 2), (again, 3)):
        model.fit(x, y, validation_split=0.5, epochs=epochs, verbose=0, callbacks=[callback])
    otel_drift.instrument_model(
        model,
        name="digits",
        baseline=Baseline.from_predictions(model.predict(x, verbose=0)),
        meter_provider=provider,
        tracer_provider=TracerProvider(),
    )

    def one_round() -> None:
        model.predict_on_batch(x)
        model.predict(x, verbose=0)
        try:
            model.predict_on_batch(x[:, :2])
        except Exception:  # the error is what is wanted
            return

    try:
        yield one_round
    finally:
        otel_drift.uninstrument_model(model)
