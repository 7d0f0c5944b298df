"""The real programs, on free ports, with a model that has really been trained."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.demo.stack import ROOT, Ports, Programs, Stack


@pytest.fixture(scope="session")
def programs() -> Programs:
    """The builds that this project pins: never what happens to be on PATH, never skipped."""
    built = Programs.built()
    built.check()
    return built


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train the example's model once: its file, and what the script printed."""
    folder = tmp_path_factory.mktemp("digits")
    done = subprocess.run(
        [sys.executable, ROOT / "examples/digits/train.py", "--output", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / "digits.keras", done.stdout


@pytest.fixture(scope="session")
def model(training: tuple[Path, str]) -> Path:
    return training[0]


@pytest.fixture(scope="session")
def accuracy(training: tuple[Path, str]) -> float:
    found = re.search(r"held-out accuracy (\d\.\d+)", training[1])
    assert found, training[1]
    return float(found[1])


@pytest.fixture
def stack(programs: Programs, tmp_path: Path) -> Iterator[Stack]:
    with Stack(programs, Ports.free(), tmp_path / "stack") as running:
        yield running


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Poll until what is fetched is wanted; fail with the last thing fetched."""

    def wait(
        fetch: Callable[[], Any], wanted: Callable[[Any], object] = bool, *, seconds: float = 60
    ) -> Any:
        pause = threading.Event()
        end = time.monotonic() + seconds
        while True:
            try:
                found = fetch()
            except OSError as error:
                found = error
            if not isinstance(found, OSError) and wanted(found):
                return found
            if time.monotonic() > end:
                pytest.fail(f"after {seconds:.0f} s still: {found!r}")
            pause.wait(0.2)

    return wait
