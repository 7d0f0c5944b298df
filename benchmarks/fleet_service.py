"""What one fleet's detector costs: processor time of it and of Prometheus, and memory.

    python benchmarks/fleet_service.py             # five minutes; needs the built Prometheus

A history of ten minutes is written into a real Prometheus and read tick by tick: a thousand models
of one replica each, and one model of a thousand replicas, of ten classes each. Writes
benchmarks/results/fleet_service.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from examples.demo.stack import BIN
from otel_drift import Baseline
from otel_drift.fleet.fleet import Fleet
from otel_drift.fleet.prometheus_api import PrometheusApi
from otel_drift.fleet.reference import exported_reference
from otel_drift.fleet.service import Service
from otel_drift.fleet.state import StateFile
from tests.grafana.prometheus_server import prometheus_alone

RESULTS = Path(__file__).parent / "results" / "fleet_service.md"
TICK, SAMPLES, PER_SECOND = 15.0, 34, 10
FLEETS = {"1,000 models, 1 replica each": (1_000, 1), "1 model, 1,000 replicas": (1, 1_000)}
REFERENCE = exported_reference(Baseline.from_counts(np.full(10, 1_000)))


def lines(models: int, replicas: int, begin: float) -> Iterator[str]:
    rng = np.random.default_rng(1)
    times = [f"{begin + TICK * at + 7:.3f}" for at in range(SAMPLES)]
    names = REFERENCE.classes
    yield "# TYPE keras_predictions counter"
    for model, replica in np.ndindex(models, replicas):
        new = rng.multinomial(int(PER_SECOND * TICK), np.full(10, 0.1), SAMPLES)
        grown = np.pad(np.cumsum(new, axis=0), ((0, 0), (0, 2)))
        for k, name in enumerate(names):
            series = f"keras_predictions_total{{{labels(model, replica, name)}}}"
            yield from (f"{series} {grown[at, k]} {times[at]}" for at in range(SAMPLES))
    for gauge in ("proportion", "lower", "upper"):
        values = getattr(REFERENCE, "proportions" if gauge == "proportion" else gauge)
        yield f"# TYPE keras_prediction_baseline_{gauge} gauge"
        for model, replica in np.ndindex(models, replicas):
            for name, value in zip(names, values.tolist(), strict=True):
                series = f"keras_prediction_baseline_{gauge}{{{labels(model, replica, name)}}}"
                yield from (f"{series} {value!r} {at}" for at in times)
    yield "# EOF"


def labels(model: int, replica: int, name: str) -> str:
    return (
        f'keras_model_name="m{model}",keras_model_version="7",keras_model_output="output",'
        f'keras_prediction_class="{name}",instance="{replica}"'
    )


def read_all(url: str, begin: float, folder: Path) -> dict[str, float]:
    """Run in a process of its own: what the service alone costs."""
    service = Service(PrometheusApi(url), Fleet(), state=StateFile(folder / "state.json"))
    first = math.ceil(begin / TICK) * TICK + TICK
    service.read(first)  # makes the detectors
    used, asked = time.process_time(), processor_of(url)
    for at in range(1, SAMPLES - 1):
        service.read(first + TICK * at)
    ticks = SAMPLES - 2
    return {
        "predictions": sum(service.fleet.predictions.values()),
        "processor": (time.process_time() - used) / ticks,
        "prometheus": (processor_of(url) - asked) / ticks,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "state": (folder / "state.json").stat().st_size / 1e6,
    }


def processor_of(url: str) -> float:
    """Seconds of processor time that Prometheus has used."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    (found,) = re.findall(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    return float(found)


def measured(models: int, replicas: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = math.floor((time.time() - SAMPLES * TICK) / 60) * 60.0
        with (folder / "history.txt").open("w") as file:
            file.writelines(f"{line}\n" for line in lines(models, replicas, begin))
        write = [BIN / "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
        subprocess.run([*write, folder / "history.txt", folder / "data"], check=True)
        with prometheus_alone(folder) as url:
            alone = [sys.executable, __file__, "--read", url, str(begin), str(folder)]
            done = subprocess.run(alone, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        url, begin, folder = options.read
        print(json.dumps(read_all(url, float(begin), Path(folder))))
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    table = [
        "| fleet | predictions | processor, s a tick | of a core | memory, MB | state, MB "
        "| Prometheus for it, s a tick |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (models, replicas) in FLEETS.items():
        found = measured(models, replicas)
        table.append(
            f"| {name} | {found['predictions']:,} | {found['processor']:.2f} "
            f"| {found['processor'] / TICK:.1%} | {found['memory']:.0f} | {found['state']:.1f} "
            f"| {found['prometheus']:.2f} |"
        )
        print(table[-1], flush=True)
    text = "\n".join(
        (
            "# What one fleet's detector costs",
            "",
            f"Command: `python benchmarks/fleet_service.py`. Python {platform.python_version()}, "
            f"NumPy {np.__version__}, real Prometheus, ticks of 15 s, ten classes,",
            f"{PER_SECOND} predictions a second and replica, state saved every five minutes.",
            "",
            *table,
            "",
        )
    )
    RESULTS.write_text(text)
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
