"""A training job that is over before its first export is seen in Prometheus, without a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.example import zero_code_command, zero_code_environment
from examples.demo.stack import Stack

pytestmark = pytest.mark.pipeline

JOB = """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
from otel_drift import DriftBaseline, TrainingMetrics

x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
y = (x.sum(axis=1) > 0).astype(int)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    x, y, epochs=4, batch_size=16, validation_data=(x, y), verbose=0,
    callbacks=[DriftBaseline("job.keras", x), TrainingMetrics("job", run="first")],
).history
model.save("job.keras")
loss = model.evaluate(x, y, verbose=0, callbacks=[TrainingMetrics("job", run="first")])[0]
print(history["loss"][-1], history["val_loss"][-1], loss)
"""


def test_a_short_job_loses_nothing(
    stack: Stack, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    script = tmp_path / "job.py"
    script.write_text(JOB)
    environment = zero_code_environment(f"http://127.0.0.1:{stack.ports.otlp_grpc}")
    environment["OTEL_METRIC_EXPORT_INTERVAL"] = "3600000"
    done = subprocess.run(
        [*zero_code_command()[:1], sys.executable, script],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    train, validation, evaluation = map(float, done.stdout.split()[-3:])

    query = 'keras_training_loss{keras_model_name="job",keras_training_run="first"}'
    losses = eventually(
        lambda: stack.prometheus.by("keras_training_phase", query), lambda found: len(found) == 3
    )
    assert losses == pytest.approx(
        {"train": train, "validation": validation, "evaluation": evaluation}
    )
    assert stack.prometheus.value("keras_training_epochs_total") == 4
    assert stack.prometheus.value("keras_training_steps_total") == 16
    assert stack.prometheus.value("keras_training_epoch_duration_seconds_count") == 4
    assert stack.prometheus.value("keras_training_learning_rate") == pytest.approx(0.001)
    # Neither validation nor evaluation nor the baseline's own predictions are the program's.
    assert stack.prometheus.query("keras_predict_samples_total") == []
    assert (tmp_path / "job.baseline.json").exists()
