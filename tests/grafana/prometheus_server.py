"""A collector and a Prometheus on free ports, which take what a test exports and answer queries."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".tools" / "bin"
SECONDS_TO_START = 60.0
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


class Prometheus:
    """The HTTP API of a Prometheus, as far as Grafana's data source uses it.

    Parameters
    ----------
    url
        Where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def instant(self, expr: str, at: float) -> list[Series]:
        """Evaluate an expression at a time, in seconds since the epoch."""
        answer = self._get("query", {"query": expr, "time": at})
        return [_series(row["metric"], [row["value"]]) for row in answer["result"]]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression over a time range."""
        answer = self._get("query_range", {"query": expr, "start": start, "end": end, "step": step})
        return [_series(row["metric"], row["values"]) for row in answer["result"]]

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        """List the values of a label."""
        parameters = {"match[]": selector, "start": start, "end": end}
        return self._get(f"label/{label}/values", parameters)

    def exemplars(self, expr: str, start: float, end: float) -> list[Any]:
        """List the exemplars of the series in an expression."""
        return self._get("query_exemplars", {"query": expr, "start": start, "end": end})

    def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        body = urllib.parse.urlencode(parameters).encode()
        url = f"{self.url}/api/v1/{path}"
        request = urllib.request.Request(url, body)
        if path.startswith("label/"):
            request = urllib.request.Request(f"{url}?{body.decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.read().decode()}: {parameters}") from error


def _series(labels: dict[str, str], values: Sequence[Any]) -> Series:
    return Series(labels, [(float(at), float(value)) for at, value in values])


class Stack(NamedTuple):
    """What runs."""

    prometheus: Prometheus
    otlp: str
    """Where the collector takes OTLP over HTTP."""


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Run a collector and a Prometheus with the project's configuration and rules.

    Parameters
    ----------
    folder
        For data and logs.
    """
    otlp, exported, health, web = free_ports(4)
    collector = {
        "OTELCOL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{free_ports(1)[0]}",
        "OTELCOL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{otlp}",
        "OTELCOL_PROMETHEUS_ENDPOINT": f"127.0.0.1:{exported}",
        "OTELCOL_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
        "OTELCOL_METRIC_EXPIRATION": f"{SECONDS_UNTIL_A_REPLICA_IS_GONE}s",
    }
    configuration = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    configuration["global"] = {
        "scrape_interval": f"{SECONDS_BETWEEN_SCRAPES}s",
        "evaluation_interval": f"{SECONDS_BETWEEN_SCRAPES}s",
    }
    configuration["rule_files"] = [str(ROOT / "prometheus/rules/*.yml")]
    del configuration["alerting"]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{exported}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with ExitStack() as programs:
        programs.enter_context(
            running(
                [BIN / "otelcol", "--config", ROOT / "collector/config.yaml"],
                folder / "otelcol.log",
                collector,
            )
        )
        programs.enter_context(
            running(
                [
                    BIN / "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--web.listen-address=127.0.0.1:{web}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    "--enable-feature=exemplar-storage",
                ],
                folder / "prometheus.log",
            )
        )
        await_answer(f"http://127.0.0.1:{health}/")
        await_answer(f"http://127.0.0.1:{web}/-/ready")
        yield Stack(Prometheus(f"http://127.0.0.1:{web}"), f"http://127.0.0.1:{otlp}")


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def await_answer(url: str) -> None:
    """Wait until a server answers."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    await_true(answers, f"{url} answers", SECONDS_TO_START)


def await_true(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        pause.wait(0.8)


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
