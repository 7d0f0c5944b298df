"""The demonstration's programs, hurried, and the API of Prometheus as Grafana uses it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from examples.demo import prometheus, stack
from examples.demo.stack import BIN, ROOT, Ports, Process, Programs

__all__ = [
    "BIN",
    "ROOT",
    "Ports",
    "Prometheus",
    "Series",
    "Stack",
    "await_true",
    "prometheus_alone",
    "running",
    "write_history",
]

SECONDS_BETWEEN_SCRAPES = 1
SECONDS_UNTIL_A_REPLICA_IS_GONE = 5


class Series(NamedTuple):
    """One series of an answer."""

    labels: dict[str, str]
    values: list[tuple[float, float]]
    """Time and value; one of an instant query."""

    @property
    def value(self) -> float:
        """The newest value."""
        return self.values[-1][1]


class Prometheus(prometheus.Prometheus):
    """The HTTP API of a Prometheus, as far as Grafana's data source uses it."""

    def instant(self, expr: str, at: float) -> list[Series]:
        """Evaluate an expression at a time, in seconds since the epoch."""
        answer = self.get("query", query=expr, time=str(at))
        return [_series(row["metric"], [row["value"]]) for row in answer["result"]]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression over a time range."""
        between = {"start": str(start), "end": str(end), "step": str(step)}
        answer = self.get("query_range", query=expr, **between)
        return [_series(row["metric"], row["values"]) for row in answer["result"]]

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        """List the values of a label."""
        parameters = {"match[]": selector, "start": str(start), "end": str(end)}
        return self.get(f"label/{label}/values", **parameters)

    def exemplars(self, expr: str, start: float, end: float) -> list[Any]:
        """List the exemplars of the series in an expression."""
        return self.get("query_exemplars", query=expr, start=str(start), end=str(end))


def _series(labels: dict[str, str], values: Sequence[Any]) -> Series:
    return Series(labels, [(float(at), float(value)) for at, value in values])


class Stack(NamedTuple):
    """What runs."""

    prometheus: Prometheus
    otlp: str
    """Where the collector takes OTLP over HTTP."""


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Run the demonstration's stack, but scrape and forget faster.

    Parameters
    ----------
    folder
        For data and logs.
    """
    ports = Ports.free()
    hurried = stack.Stack(
        Programs.built(),
        ports,
        folder,
        seconds_between_scrapes=SECONDS_BETWEEN_SCRAPES,
        seconds_until_forgotten=SECONDS_UNTIL_A_REPLICA_IS_GONE,
    )
    with hurried as started:
        url = started.prometheus.url
        yield Stack(Prometheus(url), f"http://127.0.0.1:{ports.otlp_http}")


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    variables: Mapping[str, str] | None = None,
    *,
    ready_at: str = "",
) -> Iterator[None]:
    """Run a program, wait until it answers at a health address if one is given, and end it."""
    process = Process(log.name, command, log, variables)
    try:
        if ready_at:
            process.wait_until_ready(ready_at)
        yield
    finally:
        process.stop()


def write_history(folder: Path, openmetrics: str) -> None:
    """Write samples of the past into the data that `prometheus_alone` finds in the folder."""
    (folder / "history.txt").write_text(openmetrics)
    write = [BIN / "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run([*write, folder / "history.txt", folder / "data"], check=True)


@contextmanager
def prometheus_alone(
    folder: Path, configuration: Mapping[str, Any] | None = None, *options: str
) -> Iterator[str]:
    """Run a Prometheus with nothing around it, its data in a folder; give its address."""
    port = Ports.free().prometheus
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(configuration or {})))
    command = [
        BIN / "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={folder / 'data'}",
        *options,
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder / "log", ready_at=f"{url}/-/ready"):
        yield url


def await_true(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        pause.wait(0.8)
