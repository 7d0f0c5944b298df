"""What the tests of a backend use of otel_drift that is not public: here, and nowhere else."""

from __future__ import annotations

from typing import Any

from otel_drift.outputs.arrays import Later, read
from otel_drift.telemetry.backlog import BACKLOG


def read_later(y: Any) -> bool:
    """Whether an output that is not ready is left for a collection to read."""
    return isinstance(read(y), Later)


def work_off() -> None:
    """Do now what a thread does twice a second."""
    BACKLOG.work_off()


def record(model: Any, y: Any, times: int) -> None:
    """Record a prediction of a model that has predicted before, without the model's own work."""
    recorder = model.__dict__["_otel_drift"].recorder
    for _ in range(times):
        recorder.methods["predict"].returned(y, 0.001)
