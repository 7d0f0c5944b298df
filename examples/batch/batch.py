"""Predict a file of images once, write the labels, and end: a batch job.

    opentelemetry-instrument python examples/batch/batch.py images.npz labels.npy

The script knows nothing of how it is watched; what it has predicted is exported when it ends.
`--in-code` shows the same in code: see `instrumented`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads slow a model down that is so small

import numpy as np

if TYPE_CHECKING:
    import keras


def main() -> None:
    arguments = _arguments()
    with np.load(arguments.images, allow_pickle=False) as arrays:
        images = arrays["x"]

    import keras  # takes seconds: a file that is not there is told at once

    model = keras.saving.load_model(arguments.model)
    if arguments.in_code:
        with instrumented(model, arguments.model):
            labels = model.predict(images, verbose=0).argmax(axis=1)
    else:
        labels = model.predict(images, verbose=0).argmax(axis=1)
    np.save(arguments.labels, labels)
    print(f"{len(labels)} labels in {arguments.labels}")


@contextmanager
def instrumented(model: keras.Model, path: Path) -> Iterator[None]:
    """Do in code what `opentelemetry-instrument` does without."""
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    import otel_drift

    provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
    otel_drift.instrument_model(
        model,
        name=path.stem,
        baseline=path.with_suffix(".baseline.json"),
        meter_provider=provider,
    )
    try:
        yield
    finally:
        provider.shutdown()  # exports what has been predicted, also where the job fails


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help=".npz file with x, as the model takes it")
    parser.add_argument("labels", type=Path, help=".npy file to write")
    parser.add_argument(
        "--model", type=Path, default=Path(".demo/digits.keras"), help="(.demo/digits.keras)"
    )
    parser.add_argument(
        "--in-code", action="store_true", help="instrument in code; metrics go to OTLP"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
