"""Jobs that predict once and end: all that they predict is counted, and drift is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.demo.example import zero_code_command
from examples.demo.stack import ROOT, Ports, Programs, Stack
from otel_drift.fleet.counters import grown_by

pytestmark = pytest.mark.pipeline

BATCH = ROOT / "examples/batch/batch.py"
COUNTER = 'keras_predictions_total{keras_model_name="digits"}'


@pytest.fixture(scope="session")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Images that the baseline was counted on, and what they show."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images / digits.images.max()).astype(np.float32)[..., np.newaxis]
    return x, digits.target


class Jobs:
    """One after the other; the truth is in the labels that they wrote."""

    def __init__(self, stack: Stack, model: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
        self.counts = np.zeros(10, dtype=int)
        self._stack, self._model = stack, model
        self._x, self._y = images
        self._random = np.random.default_rng(7)
        self._runs = 0

    def run(
        self, size: int, *, without: int | None = None, in_code: bool = False, **settings: str
    ) -> None:
        self._runs += 1
        name = f"job-{self._runs}"
        (pool,) = np.nonzero(self._y != without)
        x, labels = (self._stack.folder / f"{name}.{end}" for end in ("npz", "npy"))
        np.savez(x, x=self._x[self._random.choice(pool, size)])
        command = [*zero_code_command()[1:], BATCH, x, labels, "--model", self._model]
        job = self._stack.run(
            name,
            [*command, "--in-code"] if in_code else [*zero_code_command()[:1], *command],
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._stack.ports.otlp_grpc}",
                "OTEL_SERVICE_NAME": "nightly",
                **settings,
            },
        )
        assert job.wait(120) == 0, job.log.read_text()
        self.counts += np.bincount(np.load(labels), minlength=10)

    @property
    def truth(self) -> dict[str, float]:
        return {**{str(k): n for k, n in enumerate(self.counts)}, "other": 0, "invalid": 0}


def by_class(stack: Stack, expression: str) -> dict[str, float]:
    summed = f"sum by (keras_prediction_class) ({expression})"
    return stack.prometheus.by("keras_prediction_class", summed)


def test_every_run_is_counted_and_the_drifted_one_alarms(
    stack: Stack,
    model: Path,
    images: tuple[np.ndarray, np.ndarray],
    eventually: Callable[..., Any],
) -> None:
    jobs = Jobs(stack, model, images)
    jobs.run(1_500)
    jobs.run(1)
    jobs.run(2_500, in_code=True)
    eventually(lambda: by_class(stack, f"last_over_time({COUNTER}[1h])"), jobs.truth.__eq__)
    assert stack.prometheus.value(f"count(count by (instance) ({COUNTER}))") == 3
    assert stack.webhook.deliveries == []

    jobs.run(5_000, without=0)
    told = stack.webhook.wait_for(lambda one: one.firing("DriftDetected"), seconds=60)
    assert told is not None
    (sent,) = told.firing("DriftDetected")
    assert sent["labels"]["keras_model_name"] == "digits"
    eventually(lambda: by_class(stack, f"last_over_time({COUNTER}[1h])"), jobs.truth.__eq__)
    # What the page warns of: a counter that is first seen with all it will ever have.
    assert sum(by_class(stack, f"increase({COUNTER}[1h])").values()) == 0


def test_with_start_timestamps_a_run_is_an_increase(
    programs: Programs,
    model: Path,
    images: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    with Stack(programs, Ports.free(), tmp_path / "stack", start_timestamps=True) as stack:
        jobs = Jobs(stack, model, images)
        jobs.run(1_500)
        jobs.run(5_000, without=0)
        # As the fleet's detector asks: nothing is extrapolated.
        grown = eventually(
            lambda: {
                one.labels["keras_prediction_class"]: one.value
                for one in stack.prometheus.query(grown_by(600))
            },
            lambda found: sum(found.values()) >= jobs.counts.sum(),
        )
        assert grown == jobs.truth
        # The windowed rules see the run too.
        assert stack.webhook.wait_for(
            lambda one: one.firing("PredictionDistributionShifted"), seconds=90
        )


def test_with_delta_temporality_runs_add_up_to_one_series(
    stack: Stack,
    model: Path,
    images: tuple[np.ndarray, np.ndarray],
    eventually: Callable[..., Any],
) -> None:
    jobs = Jobs(stack, model, images)
    settings = {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=nightly",
    }
    for size in (1_500, 700, 2_500):
        jobs.run(size, **settings)
        eventually(lambda: by_class(stack, COUNTER), jobs.truth.__eq__)
    assert stack.prometheus.value(f"count(count by (instance) ({COUNTER}))") == 1
    assert stack.prometheus.value(f"sum(increase({COUNTER}[1h])) > 0")
