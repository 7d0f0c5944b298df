"""Predict digits without end: for a while as the baseline expects, then with drift.

    opentelemetry-instrument python examples/digits/drift.py --undrifted 60 --drift drop:0

The script knows nothing of how it is watched. `--in-code` and `--prometheus-port` show the same
in code: see `instrument`.

Each batch holds 1 to 200 images, drawn at random from those the baseline was counted on. Drift is
a change of how often each digit is sent:

    drop:0          0 is never sent
    scale:3:0.5     half as many 3 as before
    swap:3:5:0.05   of all images 5 % show a 5 instead of a 3
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads slow a model down that is so small

import numpy as np
from images import Half, load_images
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

SECONDS_BEHIND = 1.0
"""A stream that is further behind its rate than this does not try to catch up."""


class Phase(NamedTuple):
    """A stretch of the stream; it ends with whichever comes first."""

    name: str
    shares: NDArray[np.float64]
    """Share of each class among the images sent, shape (K,)."""
    seconds: float
    predictions: int | None


class Progress:
    """What has been sent and predicted so far, told on the terminal and in a log.

    The log has a line of JSON ten times a second: `time` in seconds since the epoch, `phase`,
    `predictions`. The last one, of the phase `ended`, also has `counts`: the predictions of each
    class as the model returned them, counted here and by nobody else.
    """

    def __init__(self, classes: int, log: Path | None) -> None:
        self.predictions = 0
        self.counts = np.zeros(classes, dtype=np.int64)
        self._log: TextIO | None = log.open("w", encoding="utf-8") if log else None
        self._terminal = sys.stdout.isatty()
        self._logged = self._shown = 0.0
        self._shown_predictions = 0

    def starts(self, phase: str) -> None:
        """Tell that a phase is about to send its first image."""
        self._write({"phase": phase})
        self._show(phase)

    def add(self, phase: str, labels: NDArray[np.int64]) -> None:
        """Count the predictions of one batch."""
        self.predictions += len(labels)
        self.counts += np.bincount(labels, minlength=len(self.counts))
        now = time.time()
        if now - self._logged >= 0.1:
            self._write({"phase": phase})
        if now - self._shown >= (1 if self._terminal else 10):
            self._show(phase)

    def ended(self) -> None:
        """Tell the end."""
        counts = {str(k): int(count) for k, count in enumerate(self.counts)}
        self._write({"phase": "ended", "counts": counts})
        if self._log:
            self._log.close()
        if self._terminal:
            print()
        print(f"predictions {self.predictions:,}")
        print("predicted   " + "  ".join(f"{k}: {count:,}" for k, count in counts.items()))

    def _write(self, record: dict[str, Any]) -> None:
        self._logged = time.time()
        if self._log:
            print(
                json.dumps({"time": self._logged, "predictions": self.predictions, **record}),
                file=self._log,
                flush=True,
            )

    def _show(self, phase: str) -> None:
        now = time.time()
        rate = (self.predictions - self._shown_predictions) / (now - self._shown)
        self._shown, self._shown_predictions = now, self.predictions
        line = f"{phase:9}  {self.predictions:>11,} predictions  {rate:>8,.0f}/s"
        print(
            f"\r{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True
        )


def main() -> None:
    arguments = _arguments()
    images = load_images(arguments.dataset)
    path = arguments.model or Path(".demo") / f"{images.name}.keras"
    if not path.is_file():
        raise SystemExit(f"{path}: no such model: make it with python examples/digits/train.py")
    shares = np.bincount(images.held_out.y) / len(images.held_out.y)
    drifted = drifted_shares(arguments.drift, shares)

    import keras  # takes seconds: mistakes on the command line are told at once

    model = keras.saving.load_model(path)
    if arguments.in_code or arguments.prometheus_port is not None:
        instrument(model, path, arguments.prometheus_port)

    undrifted_limit, drifted_limit = arguments.predictions or (None, None)
    if arguments.predictions:
        arguments.undrifted = arguments.drifted = float("inf")
    phases = (
        Phase("undrifted", shares, arguments.undrifted, undrifted_limit),
        Phase("drifted", drifted, arguments.drifted, drifted_limit),
    )
    stop = _stopped_by_signals()
    progress = Progress(len(shares), arguments.report)
    random = np.random.default_rng(arguments.seed)
    pace = Pace(arguments.rate, stop)
    for phase in phases:
        if phase.predictions == 0 or phase.seconds == 0:
            continue
        progress.starts(phase.name)
        for batch in batches(images.held_out, phase, arguments.batch_size, random, stop):
            labels = model.predict_on_batch(batch).argmax(axis=1)
            progress.add(phase.name, labels)
            pace.keep(len(labels))
        if stop.is_set():
            break
    progress.ended()


def instrument(model: keras.Model, path: Path, prometheus_port: int | None) -> None:
    """Do in code what `opentelemetry-instrument` does without.

    Only this function knows of OpenTelemetry: where metrics go is the program's choice, and what
    is recorded is otel_drift's.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    import otel_drift

    if prometheus_port is None:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    else:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import start_http_server

        reader = PrometheusMetricReader()
        try:
            start_http_server(prometheus_port, addr="127.0.0.1")
        except OSError as error:
            raise SystemExit(f"--prometheus-port {prometheus_port}: {error}") from error
    otel_drift.instrument_model(
        model,
        name=path.stem,
        baseline=path.with_suffix(".baseline.json"),
        meter_provider=MeterProvider(metric_readers=[reader]),
    )


def drifted_shares(drift: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Work out the shares of the classes under a drift.

    Raises
    ------
    SystemExit
        If the drift makes no sense; says what does.
    """
    kind, *parts = drift.split(":")
    new = shares.copy()
    try:
        if kind == "drop":
            (digit,) = parts
            new[_digit(digit, shares)] = 0
        elif kind == "scale":
            digit, factor = parts
            new[_digit(digit, shares)] *= float(factor)
        elif kind == "swap":
            source, target, share = parts
            new[_digit(source, shares)] -= float(share)
            new[_digit(target, shares)] += float(share)
        else:
            raise ValueError(f"{kind!r}: must be drop, scale or swap")
        if not (np.isfinite(new).all() and new.min() >= 0 and new.sum() > 0):
            raise ValueError("leaves a class with a share below 0")
    except (ValueError, IndexError) as error:
        raise SystemExit(
            f"--drift {drift}: {error} (examples: drop:0, scale:3:0.5, swap:3:5:0.05)"
        ) from error
    return new / new.sum()


def _digit(text: str, shares: NDArray[np.float64]) -> int:
    digit = int(text)
    if not 0 <= digit < len(shares):
        raise ValueError(f"there is no class {digit}: they are 0 to {len(shares) - 1}")
    return digit


def batches(
    half: Half, phase: Phase, largest: int, random: np.random.Generator, stop: threading.Event
) -> Iterator[NDArray[np.float32]]:
    """Yield batches of 1 to `largest` random images until the phase is over."""
    weights = (phase.shares / np.bincount(half.y))[half.y]
    cumulated = np.cumsum(weights)
    cumulated /= cumulated[-1]
    end = time.monotonic() + phase.seconds
    left = phase.predictions
    while not stop.is_set() and time.monotonic() < end and left != 0:
        size = int(random.integers(1, largest + 1))
        if left is not None:
            size = min(size, left)
            left -= size
        yield half.x[np.searchsorted(cumulated, random.random(size), side="right")]


class Pace:
    """Wait so that there are so many predictions a second; 0 stands for as many as there can be."""

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._rate = rate
        self._stop = stop
        self._due = time.monotonic()

    def keep(self, predictions: int) -> None:
        """Wait until the next predictions are due."""
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._due = max(self._due, now - SECONDS_BEHIND) + predictions / self._rate
        self._stop.wait(max(0.0, self._due - now))


def _stopped_by_signals() -> threading.Event:
    """End in order on Ctrl-C and SIGTERM: the last predictions are still exported."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    return stop


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", default="digits", help="digits (default), mnist, or FILE.npz with x and y")
    add("--model", type=Path, help=".keras file (.demo/digits.keras)")
    add("--drift", default="drop:0", help="drop:0 (default), scale:3:0.5, swap:3:5:0.05")
    add("--undrifted", type=float, default=900, metavar="SECONDS", help="before the drift (900)")
    add(
        "--drifted",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="with the drift (until stopped)",
    )
    add(
        "--predictions",
        type=int,
        nargs=2,
        metavar=("UNDRIFTED", "DRIFTED"),
        help="exactly so many, instead of seconds",
    )
    add("--rate", type=float, default=2000, help="predictions a second (2000); 0: flat out")
    add("--batch-size", type=int, default=200, help="largest batch (200)")
    add("--seed", type=int, default=1)
    add("--report", type=Path, metavar="FILE", help="write progress and final class counts as JSON")
    add("--in-code", action="store_true", help="instrument in code; metrics go to OTLP")
    add(
        "--prometheus-port",
        type=int,
        metavar="PORT",
        help="instrument in code; metrics are served on 127.0.0.1:PORT, without a collector",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
