"""Keras callbacks: the baseline at the end of training, and training as metrics.

.. code-block:: python

    from otel_drift import DriftBaseline, TrainingMetrics

    model.fit(
        x,
        y,
        validation_data=(x_validation, y_validation),
        callbacks=[DriftBaseline("digits.keras", x_validation), TrainingMetrics("digits")],
    )
    model.save("digits.keras")

`DriftBaseline` writes ``digits.baseline.json`` beside the model. `TrainingMetrics` reports losses,
metrics, epochs, steps and the learning rate through OpenTelemetry, and flushes when training ends,
so that a job shorter than an export interval loses nothing and needs no push gateway.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import keras
from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider

from otel_drift.baselines.baseline import baselines_from_model, save_baselines
from otel_drift.outputs.decision import Decision
from otel_drift.package import __version__
from otel_drift.telemetry.names import MODEL, SCOPE

logger = logging.getLogger(__name__)

RUN = "keras.training.run"
PHASE = "keras.training.phase"
METRIC = "keras.training.metric.name"
EPOCH_BOUNDS_SECONDS = (
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0),
)


class DriftBaseline(keras.callbacks.Callback):
    """Count what the model predicts on validation data when `fit` ends, and save it.

    Parameters
    ----------
    path
        Where the model will be saved, or the baseline file itself.
    x
        Inputs like those of production, which were not trained on; whatever `predict` takes.
    classes
        Names of the classes.
    decision
        How an output row becomes a class; by default what the output's shape suggests.

    Raises
    ------
    ValueError
        From `fit`, when it ends, if the predictions cannot be counted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        x: Any,
        *,
        classes: Iterable[str] | None = None,
        decision: Decision | str | None = None,
    ) -> None:
        super().__init__()
        self._path = path
        self._x = x
        self._classes = None if classes is None else list(classes)
        self._decision = None if decision is None else Decision.of(decision)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Predict, count and save."""
        baselines = baselines_from_model(
            _model_of(self), self._x, classes=self._classes, decision=self._decision
        )
        saved = save_baselines(baselines, self._path)
        logger.info("baseline of %s saved in %s", ", ".join(baselines), saved)


class TrainingMetrics(keras.callbacks.Callback):
    """Report training and evaluation as OpenTelemetry metrics.

    Parameters
    ----------
    name
        What ``keras.model.name`` says; the model's own name by default.
    run
        What ``keras.training.run`` says; by default the time at which the callback was made.
    meter_provider
        Instead of the global one.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        run: str | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__()
        self._name = name
        self._run = run or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._provider = meter_provider
        self._started = 0.0
        self._steps = 0
        self._training = False
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._loss = meter.create_gauge(
            "keras.training.loss", "{loss}", "Loss at the end of the last epoch or evaluation"
        )
        self._metric = meter.create_gauge(
            "keras.training.metric", "{value}", "Metrics at the end of the last epoch or evaluation"
        )
        self._rate = meter.create_gauge(
            "keras.training.learning_rate", "{rate}", "Learning rate at the end of the last epoch"
        )
        self._epochs = meter.create_counter("keras.training.epochs", "{epoch}", "Epochs trained")
        self._batches = meter.create_counter("keras.training.steps", "{step}", "Steps trained")
        self._duration = meter.create_histogram(
            "keras.training.epoch.duration",
            "s",
            "Duration of epochs, their validation included",
            explicit_bucket_boundaries_advisory=EPOCH_BOUNDS_SECONDS,
        )

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Show the counters from the start."""
        self._training = True
        self._epochs.add(0, self._attributes())
        self._batches.add(0, self._attributes())

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count a step."""
        self._steps = batch + 1  # with steps_per_execution the last of several

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Report the epoch."""
        attributes = self._attributes()
        self._duration.record(time.perf_counter() - self._started, attributes)
        self._epochs.add(1, attributes)
        self._batches.add(self._steps, attributes)
        rate = _learning_rate(_model_of(self))
        if rate is not None:
            self._rate.set(rate, attributes)
        for name, value in (logs or {}).items():
            phase = "validation" if name.startswith("val_") else "train"
            self._report(name.removeprefix("val_"), value, phase)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Push what has not been exported yet."""
        self._training = False
        self._flush()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Report `evaluate`; the validation inside `fit` is the epoch's."""
        if self._training:
            return
        for name, value in (logs or {}).items():
            self._report(name, value, "evaluation")
        self._flush()

    def _report(self, name: str, value: Any, phase: str) -> None:
        number = float(value)
        if not math.isfinite(number):
            return  # the SDK would drop it with a warning for each
        attributes = {**self._attributes(), PHASE: phase}
        if name == "loss":
            self._loss.set(number, attributes)
        elif name != "learning_rate":
            self._metric.set(number, {**attributes, METRIC: name})

    def _attributes(self) -> dict[str, str]:
        return {MODEL: self._name or str(_model_of(self).name), RUN: self._run}

    def _flush(self) -> None:
        provider: Any = self._provider or metrics.get_meter_provider()
        flush = getattr(provider, "force_flush", None)
        if flush is None:
            return  # the API without an SDK
        try:
            flush()
        except Exception:
            logger.warning("training metrics could not be flushed", exc_info=True)


def _model_of(callback: keras.callbacks.Callback) -> Any:
    return cast("Any", callback).model


def _learning_rate(model: Any) -> float | None:
    rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
    try:
        return None if rate is None else float(rate)
    except (TypeError, ValueError):
        return None
