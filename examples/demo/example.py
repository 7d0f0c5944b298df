"""The instrumented example: `examples/digits/drift.py`, zero-code, and what its log says."""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_right
from pathlib import Path
from typing import TextIO

from examples.demo.stack import ROOT, Process, Stack, StackError

EXPORT_INTERVAL_MILLISECONDS = 5000


class Example:
    """Start the example inside a stack, as anybody would: the script knows nothing of it.

    Parameters
    ----------
    stack
        Takes what it exports.
    model
        The `.keras` file.
    arguments
        With `undrifted`, `drift` and `rate`, as of `drift.py`.
    """

    def __init__(self, stack: Stack, model: Path, arguments: argparse.Namespace) -> None:
        self.drift: str = arguments.drift
        self.predictions = 0
        self.drifted_at: float | None = None
        """Time of the first drifted prediction, in seconds since the epoch."""
        self._times: list[float] = []
        self._totals: list[int] = []
        log = stack.folder / "logs" / "predictions.jsonl"
        log.unlink(missing_ok=True)
        self._log = log
        self._file: TextIO | None = None
        self.process: Process = stack.run(
            "example",
            [
                *zero_code_command(),
                ROOT / "examples/digits/drift.py",
                *("--model", model),
                *("--undrifted", str(arguments.undrifted)),
                *("--drift", arguments.drift),
                *("--rate", str(arguments.rate)),
                *("--report", log),
            ],
            zero_code_environment(f"http://127.0.0.1:{stack.ports.otlp_grpc}"),
        )

    def update(self) -> None:
        """Read what the example has logged since the last time."""
        if self._file is None:
            if not self._log.exists():
                return
            self._file = self._log.open(encoding="utf-8")
        for text in self._file:
            if not text.endswith("\n"):  # half a line: taken with the other half
                self._file.seek(self._file.tell() - len(text))
                break
            record = json.loads(text)
            self.predictions = record["predictions"]
            self._times.append(record["time"])
            self._totals.append(record["predictions"])
            if record["phase"] == "drifted" and self.drifted_at is None:
                self.drifted_at = record["time"]

    def drifted_predictions(self, until: float) -> int:
        """Count predictions from the first drifted one to a time, to a tenth of a second."""
        if self.drifted_at is None:
            return 0
        at = [
            self._totals[bisect_right(self._times, when) - 1] for when in (until, self.drifted_at)
        ]
        return at[0] - at[1]


def zero_code_command() -> list[str | Path]:
    """`opentelemetry-instrument python`, of this environment."""
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    if not launcher.exists():
        raise StackError(f"{launcher} is not installed: pip install otel-drift[examples]")
    return [launcher, sys.executable]


def zero_code_environment(endpoint: str) -> dict[str, str]:
    """Where the metrics go, and how often."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_METRIC_EXPORT_INTERVAL": str(EXPORT_INTERVAL_MILLISECONDS),
        "OTEL_SERVICE_NAME": "digits-example",
    }
