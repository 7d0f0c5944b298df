"""Keras on torch, JAX, TensorFlow and NumPy, each in a process of its own.

A process runs all checks of its backend (`checks/`), so that each backend is imported once; here
each check of each backend is a test. One process runs at a time for each of two cores.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

CHECKS = Path(__file__).with_name("checks")
BACKENDS = ("tensorflow", "jax", "torch", "numpy")
SECONDS = 540

pytestmark = pytest.mark.backends

sys.path.insert(0, str(CHECKS))
try:
    import names
finally:
    sys.path.pop(0)


def declared(module: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names of a module's checks, and the backends of each, without importing it."""
    for node in ast.parse((CHECKS / f"{module}.py").read_text()).body:
        if not isinstance(node, ast.FunctionDef) or not node.decorator_list:
            continue
        decorator = node.decorator_list[0]
        assert isinstance(decorator, ast.Call)
        said = {one.arg: ast.literal_eval(one.value) for one in decorator.keywords}
        yield node.name, said.get("backends", BACKENDS)


def every_check() -> Iterator[tuple[str, str]]:
    """Each backend and check."""
    for kind in names.KINDS:
        for entry in names.ENTRY_POINTS:
            yield from ((backend, f"{kind} by {entry}") for backend in BACKENDS)
    for module in names.MODULES:
        if module != "matrix":
            for name, backends in declared(module):
                yield from ((backend, name) for backend in backends)


ALL = sorted(every_check())


def run(backend: str) -> dict[str, Any]:
    """Run the checks of one backend."""
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    settings = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, str(CHECKS)],
        env={**settings, **quiet},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Start the processes of the backends that are asked for; give what came of each."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {spec.params.get("backend") for spec in specs if spec is not None}
    pool = ThreadPoolExecutor(max_workers=2)
    running: dict[str, Future[dict[str, Any]]] = {
        backend: pool.submit(run, backend) for backend in BACKENDS if backend in wanted
    }
    pool.shutdown(wait=False)
    return lambda backend: running[backend].result()


@pytest.mark.parametrize(("backend", "check"), ALL)
def test_backend(backend: str, check: str, results: Callable[[str], dict[str, Any]]) -> None:
    trouble = results(backend)[check]["trouble"]
    assert not trouble, trouble


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_check_is_left_out(backend: str, results: Callable[[str], dict[str, Any]]) -> None:
    assert sorted(results(backend)) == [check for one, check in ALL if one == backend]
