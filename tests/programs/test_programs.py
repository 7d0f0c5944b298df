"""Programs written without us in mind: right counts, and outputs unchanged to the last bit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.zero_code.environments import INSTRUMENT, Environment, instrumented
from tests.zero_code.receiver import Receiver

APPLICATIONS = Path(__file__).with_name("applications")
SECONDS = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    return instrumented(folder, "torch", "tensorflow", "fastapi", "uvicorn")


def on(environment: Environment, backend: str) -> Environment:
    return replace(environment, settings={"KERAS_BACKEND": backend})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def both(
    environment: Environment, receiver: Receiver, program: str, *arguments: Path
) -> tuple[Any, dict[str, np.ndarray]]:
    """Run a program without us and with us: what it printed and wrote must be equal."""
    *others, written = arguments
    without = environment.run(APPLICATIONS / program, *others, written)
    before = written.read_bytes()
    written.unlink()
    run = environment.run
    result = run(
        APPLICATIONS / program, *others, written, settings=receiver.settings, instrument=()
    )
    assert result.stdout == without.stdout
    with np.load(written) as arrays, np.load(_copy(before, written)) as expected:
        assert arrays.files == expected.files
        for name in arrays.files:
            assert arrays[name].dtype == expected[name].dtype
            assert arrays[name].tobytes() == expected[name].tobytes()
        return result.printed, {name: arrays[name] for name in arrays.files}


def _copy(content: bytes, beside: Path) -> Path:
    path = beside.with_suffix(".before.npz")
    path.write_bytes(content)
    return path


def counted(labels: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(labels, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def check_no_errors(receiver: Receiver) -> None:
    assert sum(receiver.series("keras.instrumentation.errors").values()) == 0


def test_a_functional_model_with_two_outputs(
    environment: Environment, receiver: Receiver, tmp_path: Path
) -> None:
    printed, y = both(on(environment, "torch"), receiver, "two_outputs.py", tmp_path / "scores.npz")
    urgent = counted((y["priorities"][:, 0] >= 0.5).astype(int))
    assert receiver.counts(model="tickets", output="priority") == urgent
    assert urgent["1"] == printed["urgent"]
    departments = counted(y["departments"].argmax(axis=1))
    assert receiver.counts(model="tickets", output="department") == departments
    durations = receiver.series("keras.predict.duration", "keras.method")
    assert durations == {"predict": 4, "predict_on_batch": 4}
    check_no_errors(receiver)


def test_a_subclassed_model_with_its_own_predict_step(
    environment: Environment, receiver: Receiver, tmp_path: Path
) -> None:
    """Its `predict_step` calls the model three times for each batch; each row counts once."""
    files = (tmp_path / "mean.keras", tmp_path / "y.npz")
    _, y = both(on(environment, "tensorflow"), receiver, "own_predict_step.py", *files)
    assert receiver.counts(model="mean") == counted(y["scores"].argmax(axis=1))
    assert receiver.series("keras.predict.duration", "keras.method") == {"predict": 3}
    assert receiver.series("keras.predict.samples", "keras.method")["predict"] == 678
    check_no_errors(receiver)


@contextmanager
def serving(
    environment: Environment, model: Path, settings: dict[str, str], command: tuple[str, ...]
) -> Iterator[str]:
    """Run the service with two workers until the block ends, then end it as a supervisor does."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    process = subprocess.Popen(
        [
            *command,
            *(str(environment.python), "-m", "uvicorn", "service:app", "--workers", "2"),
            *("--host", "127.0.0.1", "--port", str(port), "--app-dir", str(APPLICATIONS)),
        ],
        env=environment.environ({"MODEL": str(model), **settings}),
        cwd=environment.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) in (0, -signal.SIGTERM)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _answers(url: str, requests: list[Any]) -> list[Any]:
    """Send requests, four at a time, each on a connection of its own: both workers serve."""

    def ask(rows: Any) -> Any:
        answer = httpx.post(f"{url}/predict", json={"rows": rows.tolist()}, timeout=SECONDS)
        return answer.raise_for_status().json()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, requests))


def _wait_for_both_workers(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    workers: set[int] = set()
    while len(workers) < 2:
        assert time.monotonic() < deadline, workers
        try:
            workers.add(httpx.get(f"{url}/health", timeout=SECONDS).json()["worker"])
        except httpx.TransportError:
            os.sched_yield()


def test_a_web_service_with_two_workers(
    environment: Environment, receiver: Receiver, tmp_path: Path
) -> None:
    model = tmp_path / "digits.keras"
    environment.run(Path(__file__).parents[1] / "zero_code/applications/make_model.py", model)
    random = np.random.default_rng(5)
    requests = [4 * random.normal(size=(n, 4)).astype("float32") for n in [1, 17, 64, 3] * 15]
    # uvicorn ends its workers by a signal, past Python's end: what counts must be sent before it.
    exporting = {**receiver.settings, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}

    def calls() -> float:
        return sum(receiver.series("keras.predict.duration").values())

    with serving(environment, model, {}, ()) as url:
        _wait_for_both_workers(url)
        without = _answers(url, requests)
    with serving(environment, model, exporting, (str(INSTRUMENT),)) as url:
        _wait_for_both_workers(url)
        answers = _answers(url, requests)
        receiver.wait_for(lambda: calls() >= len(requests), SECONDS)
    scores = [np.array(answer["scores"]) for answer in answers]
    for one, other in zip(scores, without, strict=True):
        assert one.tobytes() == np.array(other["scores"]).tobytes()

    assert len({answer["worker"] for answer in answers}) == 2
    assert receiver.counts(model="digits") == counted(np.concatenate(scores).argmax(axis=1))
    assert calls() == len(requests)
    assert len(receiver.instances("keras.predict.duration")) == 2
    check_no_errors(receiver)


def test_the_programs_know_nothing_of_us() -> None:
    for path in APPLICATIONS.glob("*.py"):
        assert "otel" not in path.read_text().lower(), path
