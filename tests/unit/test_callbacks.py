"""The callbacks, in a real fit on torch."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

from otel_drift import Baseline, DriftBaseline, TrainingMetrics
from otel_drift.baselines.baseline import fingerprint_of


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3, activation="softmax")]
    )
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


@pytest.fixture
def data():
    random = np.random.default_rng(1)
    return random.normal(size=(96, 4)).astype("float32"), random.integers(0, 3, size=96)


def test_baseline_of_validation_data_lies_beside_the_model(model, data, tmp_path):
    x, y = data
    path = tmp_path / "iris.keras"
    names = ["setosa", "versicolor", "virginica"]
    model.fit(x, y, verbose=0, callbacks=[DriftBaseline(path, x[:50], classes=names)])
    baseline = Baseline.load(tmp_path / "iris.baseline.json")
    predicted = np.bincount(model.predict(x[:50], verbose=0).argmax(1), minlength=3)
    assert baseline.counts.tolist() == predicted.tolist()
    assert baseline.classes == tuple(names)
    assert baseline.model_fingerprint == fingerprint_of(model)


def test_training_is_reported_by_epoch(model, data, collected):
    x, y = data
    callback = TrainingMetrics("iris", run="run-1", meter_provider=collected.provider)
    history = model.fit(
        x, y, epochs=3, batch_size=32, validation_split=1 / 3, verbose=0, callbacks=[callback]
    ).history
    run = {"keras.model.name": "iris", "keras.training.run": "run-1"}
    assert collected.values("keras.training.epochs", "keras.training.run") == {"run-1": 3}
    assert collected.values("keras.training.steps", "keras.training.run") == {"run-1": 6}
    loss = collected.values("keras.training.loss", "keras.training.phase")
    assert loss == pytest.approx(
        {"train": history["loss"][-1], "validation": history["val_loss"][-1]}
    )
    metric = collected.values(
        "keras.training.metric", "keras.training.phase", "keras.training.metric.name"
    )
    assert metric == pytest.approx(
        {
            ("train", "accuracy"): history["accuracy"][-1],
            ("validation", "accuracy"): history["val_accuracy"][-1],
        }
    )
    rate = collected.values("keras.training.learning_rate", "keras.training.run")
    assert rate == pytest.approx({"run-1": 0.001})
    _, attributes, duration = collected.points("keras.training.epoch.duration")[0]
    assert attributes == run
    assert duration.count == 3


def test_evaluation_is_a_phase_of_its_own(model, data, collected):
    x, y = data
    callback = TrainingMetrics("iris", meter_provider=collected.provider)
    loss, accuracy = model.evaluate(x, y, verbose=0, callbacks=[callback])
    values = collected.values("keras.training.loss", "keras.training.phase")
    assert values == pytest.approx({"evaluation": loss})
    values = collected.values("keras.training.metric", "keras.training.phase")
    assert values == pytest.approx({"evaluation": accuracy})


def test_a_short_job_is_flushed(model, data, collected, monkeypatch):
    flushed = []
    monkeypatch.setattr(collected.provider, "force_flush", lambda: flushed.append(1))
    x, y = data
    model.fit(x, y, verbose=0, callbacks=[TrainingMetrics(meter_provider=collected.provider)])
    assert flushed == [1]


def test_a_collector_that_is_away_does_not_harm_training(model, data, collected, monkeypatch):
    def refused():
        raise ConnectionError("nobody listens")

    monkeypatch.setattr(collected.provider, "force_flush", refused)
    x, y = data
    callback = TrainingMetrics(meter_provider=collected.provider)
    assert model.fit(x, y, verbose=0, callbacks=[callback]).epoch == [0]


def test_a_loss_that_is_not_finite_is_left_out(model, data, collected):
    x, y = data
    callback = TrainingMetrics("iris", meter_provider=collected.provider)
    model.fit(x * np.nan, y, verbose=0, callbacks=[callback])
    assert collected.points("keras.training.loss") == []
    assert collected.values("keras.training.epochs", "keras.model.name") == {"iris": 1}
