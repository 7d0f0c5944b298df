"""Keras on torch, JAX, TensorFlow and NumPy, each in a process of its own.

`checks/` holds the tests of one backend; here they run once for each, two processes at a time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("checks")
ROOT = CHECKS.parents[2]
"""Where the processes run: `-m` makes the otel_drift that is here the one they import."""
BACKENDS = ("tensorflow", "jax", "torch", "numpy")
SECONDS = 540
TESTS_AT_LEAST = 90
"""Of each backend; NumPy, which can do the least, runs a few more."""

pytestmark = pytest.mark.backends

Ran = subprocess.CompletedProcess[str]


def run(backend: str) -> Ran:
    """Run the tests of one backend."""
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    settings = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    pytest_of_its_own = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(CHECKS)]
    options = ["--import-mode=prepend", "--timeout=90", "-p", "no:cacheprovider", "-q", str(CHECKS)]
    return subprocess.run(
        [*pytest_of_its_own, *options],
        cwd=ROOT,
        env={**settings, **quiet},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Ran]]:
    """Start the processes of the backends that are asked for; give what came of each."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {spec.params.get("backend") for spec in specs if spec is not None}
    with ThreadPoolExecutor(max_workers=2) as pool:
        running: dict[str, Future[Ran]] = {
            backend: pool.submit(run, backend) for backend in BACKENDS if backend in wanted
        }
        yield lambda backend: running[backend].result()


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend(backend: str, ran: Callable[[str], Ran]) -> None:
    """All of its tests pass; what fails is shown in full."""
    result = ran(backend)
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None, result.stdout
    print(f"{backend}: {result.stdout.splitlines()[-1]}")
    assert int(passed[1]) >= TESTS_AT_LEAST
