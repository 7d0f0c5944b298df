"""What the examples share: digits to predict, and a stream from which one disappears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from otel_drift.telemetry.recorder import ModelRecorder


class Digits(NamedTuple):
    """8 x 8 images as rows of 64 values from 0 to 1, and which digit each shows."""

    x_train: NDArray[np.float32]
    x_test: NDArray[np.float32]
    y_train: NDArray[np.int64]
    y_test: NDArray[np.int64]


def digits() -> Digits:
    """Split the digits that scikit-learn ships."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return Digits(*train_test_split(x, y, test_size=0.5, random_state=1, stratify=y))


def stream(data: Digits, batches: int, lost: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Draw batches of 1 to 200 held-out images, without the digit `lost`."""
    random = np.random.default_rng(1)
    x = data.x_test if lost is None else data.x_test[data.y_test != lost]
    for size in random.integers(1, 201, size=batches):
        yield x[random.integers(0, len(x), size=size)]


def start_metrics() -> None:
    """Start OpenTelemetry's SDK where nobody has: without one nothing is recorded."""
    if not isinstance(metrics.get_meter_provider(), MeterProvider):
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def report(recorder: ModelRecorder, when: str) -> None:
    """Have what was recorded collected, and print what the monitor knows."""
    provider = metrics.get_meter_provider()
    if isinstance(provider, MeterProvider):
        provider.force_flush()
    _, monitor = recorder.monitors()[0]
    snapshot = monitor.snapshot()
    print(
        f"{when}: {snapshot.predictions:,} predictions, evidence 10^{snapshot.evidence:.1f}, "
        f"{'DRIFT' if snapshot.active else 'no drift'}"
    )
    if snapshot.active and snapshot.last_alarm is not None:
        moved = ", ".join(
            f"class {one.name} from {one.baseline:.1%} to about {one.share:.1%}"
            for one in snapshot.last_alarm.moved
        )
        print(f"  moved: {moved}")
