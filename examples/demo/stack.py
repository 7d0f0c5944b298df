"""Collector, Prometheus, Alertmanager and a webhook: real programs on ports of 127.0.0.1.

    with Stack(Programs.found(), Ports(), Path(".demo/stack")) as stack:
        print(stack.prometheus.value("up"))

They run with the project's own configuration files, in which only the ports are replaced. What
was started is stopped when the block is left, however that comes about; on Linux also when this
process is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import yaml

from examples.demo.prometheus import Prometheus
from examples.demo.webhook import Webhook

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".tools" / "bin"
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 10.0


class StackError(Exception):
    """The stack cannot be started, or one of its programs has ended."""


@dataclass(frozen=True)
class Ports:
    """Every port that is opened, all on 127.0.0.1."""

    otlp_grpc: int = 4317
    otlp_http: int = 4318
    collector_metrics: int = 8889
    collector_health: int = 13133
    prometheus: int = 9090
    alertmanager: int = 9093
    webhook: int = 9095

    @classmethod
    def free(cls) -> Ports:
        """Pick ports that nobody uses at the moment."""
        names = [field.name for field in fields(cls)]
        with contextlib.ExitStack() as opened:
            # All are held open until the last is picked, or one could be picked twice.
            sockets = [opened.enter_context(socket.socket()) for _ in names]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return cls(
                **{name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
            )

    def check(self) -> None:
        """Raise a StackError that names the port and its option if one is in use or twice there."""
        seen: dict[int, str] = {}
        for name, port in asdict(self).items():
            option = option_of(name)
            if port in seen:
                raise StackError(f"port {port} is given twice: by {seen[port]} and {option}")
            seen[port] = option
            if _in_use(port):
                raise StackError(
                    f"port {port} ({name.replace('_', ' ')}) is in use: stop what uses it, or take "
                    f"another with {option} PORT (make demo {name.upper()}_PORT=PORT)"
                )


def option_of(name: str) -> str:
    """Name the command-line option that moves a port."""
    return f"--{name.replace('_', '-')}-port"


def _in_use(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@dataclass(frozen=True)
class Programs:
    """Paths of the programs."""

    otelcol: Path
    prometheus: Path
    alertmanager: Path

    @classmethod
    def built(cls) -> Programs:
        """Take the versions that this project pins and `make tools` builds."""
        return cls(*(BIN / field.name for field in fields(cls)))

    @classmethod
    def found(cls, **given: str | None) -> Programs:
        """Take those that are given, else usable ones on PATH, else those that were built."""
        return cls(
            **{
                name: Path(given.get(name) or _on_path(name) or path)
                for name, path in asdict(cls.built()).items()
            }
        )

    def check(self) -> None:
        """Raise a StackError if one is not there."""
        for name, path in asdict(self).items():
            if not os.access(path, os.X_OK):
                raise StackError(f"{path}: there is no {name}: build it with make setup")


def _on_path(name: str) -> str:
    """Ask scripts/find, which tries out whether a program on PATH can be used here."""
    found = subprocess.run(
        [ROOT / "scripts" / "find", name], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


class Stack:
    """Run the programs while a `with` block lasts.

    Parameters
    ----------
    programs
        What to run.
    ports
        Where.
    folder
        For configurations, data and logs; data of an earlier run are removed.
    otlp_receiver
        Whether Prometheus also takes OTLP itself (version 3 and later only).
    scraped
        Further addresses that Prometheus scrapes, by job name.
    seconds_between_scrapes
        Also between evaluations of the rules; None stands for what prometheus.yml says.
    seconds_until_forgotten
        How long the collector gives the last values of a process that has ended; None stands for
        what its configuration says.
    start_timestamps
        Whether Prometheus has a counter begin with 0 when its process began to count (version 3).

    Raises
    ------
    StackError
        If a program is missing, a port is in use, or a program does not become ready.
    """

    def __init__(
        self,
        programs: Programs,
        ports: Ports,
        folder: Path,
        *,
        otlp_receiver: bool = False,
        scraped: Mapping[str, str] | None = None,
        seconds_between_scrapes: int | None = None,
        seconds_until_forgotten: int | None = None,
        start_timestamps: bool = False,
    ) -> None:
        self.programs = programs
        self.ports = ports
        self.folder = folder.resolve()
        self.otlp_receiver = otlp_receiver
        self._scraped = dict(scraped or {})
        self._seconds_between_scrapes = seconds_between_scrapes
        self._seconds_until_forgotten = seconds_until_forgotten
        self._start_timestamps = start_timestamps
        self._running: list[Process] = []
        self._exit = contextlib.ExitStack()
        self.prometheus = Prometheus(f"http://127.0.0.1:{ports.prometheus}")

    def __enter__(self) -> Self:
        self.programs.check()
        self.ports.check()
        with contextlib.ExitStack() as started:
            self._start(started)
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def addresses(self) -> dict[str, str]:
        """What a person can open."""
        return {
            "Prometheus": self.prometheus.url,
            "alerts": f"{self.prometheus.url}/api/v1/alerts",
            "Alertmanager": f"http://127.0.0.1:{self.ports.alertmanager}",
            "collector's metrics": f"http://127.0.0.1:{self.ports.collector_metrics}/metrics",
            "OTLP (gRPC)": f"http://127.0.0.1:{self.ports.otlp_grpc}",
            "logs": str(self.folder / "logs"),
        }

    def check(self) -> None:
        """Raise a StackError if one of the programs has ended."""
        for process in self._running:
            process.check()

    def run(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start one more program, which is stopped before the others."""
        process = Process(name, command, self.folder / "logs" / f"{name}.log", environment)
        self._running.append(process)
        self._exit.callback(self._end, process)
        return process

    def _end(self, process: Process) -> None:
        self._running.remove(process)
        process.stop()

    def _start(self, started: contextlib.ExitStack) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        started.enter_context(_only_user_of(self.folder))
        for name in ("prometheus", "alertmanager"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._exit = started
        self.webhook = started.enter_context(Webhook(self.ports.webhook))
        health = {
            self._start_collector(): f"http://127.0.0.1:{self.ports.collector_health}/",
            self._start_alertmanager(): f"http://127.0.0.1:{self.ports.alertmanager}/-/ready",
            self._start_prometheus(): f"{self.prometheus.url}/-/ready",
        }
        for process, url in health.items():
            process.wait_until_ready(url)

    def _start_collector(self) -> Process:
        forgotten = self._seconds_until_forgotten
        return self.run(
            "otelcol",
            [self.programs.otelcol, "--config", ROOT / "collector" / "config.yaml"],
            {
                "OTELCOL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{self.ports.otlp_grpc}",
                "OTELCOL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{self.ports.otlp_http}",
                "OTELCOL_PROMETHEUS_ENDPOINT": f"127.0.0.1:{self.ports.collector_metrics}",
                "OTELCOL_HEALTH_ENDPOINT": f"127.0.0.1:{self.ports.collector_health}",
                **({} if forgotten is None else {"OTELCOL_METRIC_EXPIRATION": f"{forgotten}s"}),
            },
        )

    def _start_alertmanager(self) -> Process:
        config = _load("alertmanager.yml")
        for receiver in config["receivers"]:
            for webhook in receiver.get("webhook_configs", []):
                webhook["url"] = f"http://127.0.0.1:{self.ports.webhook}/"
        address = f"127.0.0.1:{self.ports.alertmanager}"
        return self.run(
            "alertmanager",
            [
                self.programs.alertmanager,
                f"--config.file={self._write('alertmanager.yml', config)}",
                f"--storage.path={self.folder / 'alertmanager'}",
                f"--web.listen-address={address}",
                f"--web.external-url=http://{address}",
                "--cluster.listen-address=",
            ],
        )

    def _start_prometheus(self) -> Process:
        options = [
            f"--config.file={self._write('prometheus.yml', self._prometheus_config())}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.ports.prometheus}",
            f"--web.external-url={self.prometheus.url}",
            "--enable-feature=exemplar-storage",
        ]
        if self._start_timestamps:
            options.append("--enable-feature=created-timestamp-zero-ingestion")
        if self.otlp_receiver:
            options.append("--web.enable-otlp-receiver")
        return self.run("prometheus", [self.programs.prometheus, *options])

    def _prometheus_config(self) -> dict[str, Any]:
        config = _load("prometheus.yml")
        if self._seconds_between_scrapes is not None:
            interval = f"{self._seconds_between_scrapes}s"
            config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
        config["rule_files"] = [str(ROOT / "prometheus" / one) for one in config["rule_files"]]
        for alertmanager in config["alerting"]["alertmanagers"]:
            alertmanager["static_configs"] = [{"targets": [f"127.0.0.1:{self.ports.alertmanager}"]}]
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{self.ports.collector_metrics}"]}]
        config["scrape_configs"] += [
            {"job_name": name, "static_configs": [{"targets": [address]}]}
            for name, address in self._scraped.items()
        ]
        return config

    def _write(self, name: str, config: Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        return path


@contextlib.contextmanager
def _only_user_of(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(f"{folder} is in use by another run: stop that one first") from None
        yield


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "prometheus" / name).read_text(encoding="utf-8"))


class Process:
    """A program in a session of its own, so that Ctrl-C reaches it only through us.

    Its output goes to a log file.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._popen.pid

    def check(self) -> None:
        """Raise a StackError with the end of its log if it has ended."""
        status = self._popen.poll()
        if status is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-8:]
            raise StackError(
                f"{self.name} has ended (exit status {status}); the end of {self.log}:\n"
                + "\n".join(f"  {line}" for line in last)
            )

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit status; a StackError if that takes longer."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StackError(f"{self.name} has not ended within {seconds:.0f} s") from None

    def wait_until_ready(self, url: str) -> None:
        """Wait until it answers at a health address."""
        pause = threading.Event()
        end = time.monotonic() + SECONDS_TO_START
        while not _answers(url):
            self.check()
            if time.monotonic() > end:
                raise StackError(
                    f"{self.name} is not ready after {SECONDS_TO_START:.0f} s ({url}); "
                    f"its log is {self.log}"
                )
            pause.wait(0.1)
        self.check()

    def stop(self) -> None:
        """End it and whatever it has started: asked first, then killed."""
        if self._popen.poll() is not None:
            return  # its id may be somebody else's by now
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(SECONDS_TO_STOP)
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have Linux end this process when its parent is killed and cannot do it.

    Runs between fork and exec: a system call and nothing else.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
