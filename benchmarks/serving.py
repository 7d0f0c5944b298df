"""What the clients of a model server feel when its predictions are watched.

    python benchmarks/serving.py            # a quarter of an hour; writes results/serving.md
    python benchmarks/serving.py --quick    # two minutes, prints only

Servers of FastAPI and uvicorn, each a process of its own with the same Keras model of three dense
layers: one without otel_drift, one with, one with spans too, and a second one without, which says
what the measuring itself is good for. Clients of our own keep a few connections open, and there are
two loads:

- *steady*: requests come at random times (Poisson), so many a second as make about 10,000
  predictions. Each is timed from when it was due, whether or not a connection was free.
- *saturated*: each connection sends its next request when the one before has been answered. The
  server never rests, so that whatever else it does is felt by its clients in full.

The servers take turns in blocks of a second or two, in an order that is shuffled anew each time,
and those that do not have their turn are stopped (SIGSTOP): what a server does beside its requests,
such as counting, collecting and exporting, it can only do while it is measured. Its clock goes on,
so that what is due twice a second is due once more in each block: rather too much is measured than
too little. Metrics are collected every few seconds of a server's own turns and sent by OTLP over
HTTP to a receiver on this machine that answers and forgets; so are spans.

Given are the quantiles over all requests of a server, and their ratio to those of the first server
without. Its interval, with 95 % confidence, comes of drawing whole rounds anew (bootstrap): what
one block meets, all its requests do.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "serving.md"
SERVERS = ("without", "with", "with spans", "without again")
BACKENDS = ("torch", "jax", "tensorflow")
ROWS, FEATURES, CLASSES = 32, 64, 10
CONNECTIONS = 4
LOADS = {"steady": 312.5, "saturated": None}
"""Requests a second; None for as many as are answered."""
REQUESTS_A_BLOCK = {"steady": 625, "saturated": 2_000}
WARM_UP = 400
COLLECT_SECONDS = 5.0
QUANTILES = (0.5, 0.99, 0.999)
DRAWS = 1_000
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}


def serve(kind: str, receiver: str) -> None:
    """Be one of the servers; print the port."""
    import socket

    import keras
    import uvicorn

    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    layers = [dense(64, "relu"), dense(64, "relu"), dense(CLASSES, "softmax")]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers])
    if "out" not in kind:
        watch(model, receiver, spans="spans" in kind)
    application = FastAPI()

    @application.post("/")
    async def predict(request: Request) -> list[int]:
        x = np.frombuffer(await request.body(), "float32").reshape(-1, FEATURES)
        # Here, and not in a pool of threads: Keras on JAX cannot predict twice at a time.
        return model.predict_on_batch(x).argmax(1).tolist()

    # Asyncio turns Nagle's algorithm off where a socket says that it speaks TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False)).run(
        sockets=[listening]
    )


def watch(model: Any, receiver: str, *, spans: bool) -> None:
    """Do what a program does that watches its model."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from otel_drift import Baseline, instrument_model

    # The clock goes on while a server is stopped: so many seconds of its own.
    milliseconds = 1e3 * COLLECT_SECONDS * len(SERVERS)
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=receiver + "/v1/metrics"), milliseconds
    )
    tracers = TracerProvider()
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=receiver + "/v1/traces"))
    )
    sample = np.random.default_rng(2).normal(size=(10_000, FEATURES)).astype("float32")
    instrument_model(
        model,
        name="served",
        baseline=Baseline.from_predictions(model.predict(sample, verbose=0)),
        meter_provider=MeterProvider([reader]),
        tracer_provider=tracers,
        traces=spans,
    )


class Forgetting(BaseHTTPRequestHandler):
    """Answer what is exported, and forget it."""

    protocol_version = "HTTP/1.1"
    received = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Forgetting.received += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[str]:
    """Give the address of a receiver of OTLP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetting)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Served:
    """A server in a process of its own, which is stopped while others have their turn."""

    def __init__(self, kind: str, backend: str, receiver: str) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, "--receiver", receiver],
            env={
                **settings,
                **QUIET,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": os.pathsep.join(paths),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = 0

    def wait(self) -> None:
        """Wait until it listens, and stop it."""
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.stop()

    def stop(self) -> None:
        """Keep it from doing anything."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


async def client(port: int, due: Iterator[float | None], body: bytes) -> list[float]:
    """Send requests on one connection, each when it is due; give their seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    message, took = head.encode() + body, list[float]()
    for at in due:
        start = perf_counter()
        if at is not None and start < at:
            await asyncio.sleep(at - start)
            start = perf_counter()  # that it wakes late is no fault of the server
        elif at is not None:
            start = at
        writer.write(message)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took.append(perf_counter() - start)
    writer.close()
    await writer.wait_closed()
    return took


async def load(port: int, requests: int, rate: float | None, seed: int) -> list[float]:
    """Send requests on several connections, so many a second; give their seconds."""
    rng = np.random.default_rng(seed)
    x = np.random.default_rng(1).normal(size=(ROWS, FEATURES)).astype("float32")
    gaps = [None] * requests if rate is None else rng.exponential(1 / rate, requests)
    begin = perf_counter()
    times = gaps if rate is None else (begin + np.cumsum(gaps)).tolist()
    due: Iterator[float | None] = iter(times)  # whichever connection is free takes the next
    clients = (client(port, due, x.tobytes()) for _ in range(CONNECTIONS))
    answered = await asyncio.gather(*clients)
    return [seconds for one in answered for seconds in one]


def measure(backend: str, rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """Give the milliseconds of each server's requests under each load, block by block."""
    found = {name: {kind: list[list[float]]() for kind in SERVERS} for name in LOADS}
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        servers: dict[str, Served] = {}
        for kind in SERVERS:
            servers[kind] = Served(kind, backend, receiver)
            stack.callback(servers[kind].close)
        for server in servers.values():
            server.wait()
        order, shuffle = list(SERVERS), random.Random(1).shuffle
        # One load after the other: what one has left to do is not done under the other.
        for name, turn in itertools.product(LOADS, range(rounds + 1)):
            requests = REQUESTS_A_BLOCK[name] if turn else WARM_UP
            shuffle(order)
            for kind in order:
                servers[kind].go_on()
                block = asyncio.run(load(servers[kind].port, requests, LOADS[name], turn))
                servers[kind].stop()
                if turn:
                    found[name][kind].append([1e3 * seconds for seconds in block])
        assert Forgetting.received, "nothing was exported"
    return found


def rows(of: str, blocks: dict[str, list[list[float]]]) -> list[str]:
    """Give the lines of one backend and load: quantiles, and ratios with their intervals."""
    taken = {kind: np.array(one) for kind, one in blocks.items()}
    first = taken[SERVERS[0]]
    random_rounds = np.random.default_rng(1).integers(0, len(first), (DRAWS, len(first)))
    base = np.quantile(first, QUANTILES)
    drawn_base = np.array([np.quantile(first[draw], QUANTILES) for draw in random_rounds])
    lines: list[str] = []
    for kind, one in taken.items():
        quantiles = np.quantile(one, QUANTILES)
        drawn = np.array([np.quantile(one[draw], QUANTILES) for draw in random_rounds])
        low, high = np.quantile(drawn / drawn_base, (0.025, 0.975), axis=0)
        cells = [f"{value:.2f}" for value in quantiles]
        if kind != SERVERS[0]:
            cells += [
                f"{ratio:.3f} ({least:.3f} to {most:.3f})"
                for ratio, least, most in zip(quantiles / base, low, high, strict=True)
            ]
        else:
            cells += [""] * len(QUANTILES)
        lines.append(f"| {of} | {kind} | {one.size:,} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure each backend and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="JAX, few rounds, print only")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS)
    parser.add_argument("--rounds", type=int, help="blocks of each server")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--receiver", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.receiver)
        return
    whole = not (options.quick or options.backends or options.rounds)
    rounds = options.rounds or (4 if options.quick else 14)
    lines = [
        "# What the clients of a server feel",
        "",
        "Command: `python benchmarks/serving.py`. Milliseconds of a request of "
        f"{ROWS} rows, {CONNECTIONS} connections, {rounds} blocks of each load "
        f"for each server; ratios with 95 % intervals. {os.cpu_count()} processors, Python "
        f"{platform.python_version()}. Its docstring says how it is measured.",
        "",
        "| backend | load | otel_drift | requests | p50 | p99 | p99.9 | p50, ratio | p99, ratio "
        "| p99.9, ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for backend in options.backends or (["jax"] if options.quick else BACKENDS):
        for name, blocks in measure(backend, rounds).items():
            lines += rows(f"{backend} | {name}", blocks)
        print("\n".join(lines[-2 * len(SERVERS) :]), file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if whole:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
