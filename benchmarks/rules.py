"""How long a real Prometheus takes to evaluate each group of the project's rules.

    python -m benchmarks.rules            # half an hour; needs the built Prometheus
    python -m benchmarks.rules --warm 60 --shapes 0 2 --slowest 8

Fleets of several shapes are scraped every 5 s from one page, and the rules are evaluated every 5 s,
until the windows of 5 minutes are full. Then each group's newest evaluation is read every 5 s; the
median counts. Prints a table, and with --slowest the slowest rules. The committed table is in
benchmarks/results/rules.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from tests.grafana.prometheus_server import ROOT, Prometheus, prometheus_alone

SECONDS = 5
"""Between scrapes and between evaluations."""
READINGS = 8
WARM_SECONDS = 320.0
"""Until the windows of 5 minutes are full."""


class Shape(NamedTuple):
    """A fleet."""

    models: int
    replicas: int
    """Of each model."""
    classes: int
    """Of each model, beside `other` and `invalid`."""

    def __str__(self) -> str:
        return f"{self.models} models x {self.replicas} replicas x {self.classes} classes"

    def page(self, seconds: float) -> Iterator[str]:
        """Write what all replicas export; each class is predicted ten times a second."""
        share = 1 / self.classes
        for model in range(self.models):
            for replica in range(self.replicas):
                of = (
                    f'{{keras_model_name="m{model}",keras_model_output="output",replica="{replica}"'
                )
                for number in range(self.classes + 2):
                    rest = number - self.classes
                    name = ("other", "invalid")[rest] if rest >= 0 else f"c{number}"
                    known = share if rest < 0 else 0
                    series = f'{of},keras_prediction_class="{name}"}}'
                    count = int(10 * seconds) if rest < 0 else 0
                    yield f"keras_predictions_total{series} {count}\n"
                    yield f"keras_prediction_baseline_proportion{series} {known}\n"
                    yield f"keras_prediction_baseline_lower{series} {0.8 * known}\n"
                    yield f"keras_prediction_baseline_upper{series} {1.2 * known or 0.001}\n"
                for gauge, value in (("evidence", 3), ("threshold", 7), ("active", 0)):
                    yield f"keras_prediction_drift_{gauge}{of}}} {value}\n"


SHAPES = (Shape(1, 1_000, 10), Shape(1, 200, 100), Shape(200, 1, 12), Shape(1, 4_000, 10))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=float, default=WARM_SECONDS, help="seconds")
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)))
    parser.add_argument("--slowest", type=int, default=0, help="rules to print")
    options = parser.parse_args()
    print(f"Seconds an evaluation, median of {READINGS}; windows filled for {options.warm:.0f} s;")
    print(f"{os.cpu_count()} cores, which the server of the page shares.\n")
    print("| fleet | series scraped | group | seconds |\n|---|---:|---|---:|")
    for number in options.shapes:
        measure(SHAPES[number], options.warm, options.slowest)
    return 0


def measure(shape: Shape, warm: float, slowest: int) -> None:
    """Print a row for each group."""
    series = sum(1 for _ in shape.page(0))
    pause = threading.Event()
    with tempfile.TemporaryDirectory() as name, scraping(shape, Path(name)) as server:
        pause.wait(warm)
        groups: dict[str, list[float]] = defaultdict(list)
        rules: dict[str, list[float]] = defaultdict(list)
        for _ in range(READINGS):
            pause.wait(SECONDS)
            for group in server.get("rules")["groups"]:
                groups[group["name"]].append(group["evaluationTime"])
                for place, rule in enumerate(group["rules"]):
                    which = f"{group['name']} {place} {rule['name']} {rule.get('labels', '')}"
                    rules[which].append(rule["evaluationTime"])
                    if rule["health"] == "err":
                        raise RuntimeError(f"{which}: {rule['lastError']}")
        for group, seconds in groups.items():
            print(
                f"| {shape} | {series:,} | {group} | {statistics.median(seconds):.3f} |", flush=True
            )
        medians = sorted(((statistics.median(each), rule) for rule, each in rules.items()))
        for median, rule in medians[::-1][:slowest]:
            print(f"    {median:.4f} {rule}", file=sys.stderr, flush=True)


@contextmanager
def scraping(shape: Shape, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with the project's rules that scrapes the fleet."""
    begin = time.monotonic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write("".join(shape.page(time.monotonic() - begin)).encode())

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    page = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=page.serve_forever, daemon=True)
    thread.start()
    every = f"{SECONDS}s"
    target = {"targets": [f"127.0.0.1:{page.server_address[1]}"]}
    configuration = {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [str(ROOT / "prometheus/rules/*.yml")],
        "scrape_configs": [{"job_name": "fleet", "static_configs": [target]}],
    }
    try:
        with prometheus_alone(folder, configuration) as url:
            yield Prometheus(url)
    finally:
        page.shutdown()
        page.server_close()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
