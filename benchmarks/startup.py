"""What otel_drift adds to the start of a program that does not import Keras, in milliseconds.

    python benchmarks/startup.py > benchmarks/results/startup.txt

`opentelemetry-instrument python -c pass`, with our instrumentor and with it disabled, in turns, so
that each pair meets the same state of the machine. Given are medians of the elapsed and of the
processor time of each, and of the differences within pairs. Takes a minute.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}
SETTINGS = {
    "without": {**QUIET, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "keras"},
    "with": QUIET,
}


def start(settings: dict[str, str]) -> tuple[float, float]:
    """Run a program that does nothing; give the elapsed and the processor time in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    at = perf_counter()
    command = [str(INSTRUMENT), sys.executable, "-c", "pass"]
    subprocess.run(command, env={**os.environ, **settings}, check=True)
    elapsed = perf_counter() - at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1e3 * elapsed, 1e3 * busy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    order = random.Random(1)  # which of a pair goes first
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for settings in SETTINGS.values():
        start(settings)  # once for the disk's cache
    for _ in range(pairs):
        for name in order.sample(list(SETTINGS), 2):
            found[name].append(start(SETTINGS[name]))
    print(f"{pairs} pairs, medians in milliseconds")
    print(f"{'':<12}{'without':>10}{'with':>10}{'added':>10}{'ratio':>9}")
    for column, title in enumerate(("elapsed", "processor")):
        without = [pair[column] for pair in found["without"]]
        with_us = [pair[column] for pair in found["with"]]
        added = statistics.median(b - a for a, b in zip(without, with_us, strict=True))
        ratio = statistics.median(b / a for a, b in zip(without, with_us, strict=True))
        middle = (statistics.median(without), statistics.median(with_us))
        print(f"{title:<12}{middle[0]:>10.0f}{middle[1]:>10.0f}{added:>10.1f}{ratio:>9.3f}")


if __name__ == "__main__":
    main()
