"""Injection as the Kubernetes operator does it: a folder on PYTHONPATH, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from otel_drift import Baseline
from tests.zero_code.environments import Environment, injected
from tests.zero_code.receiver import Receiver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return injected(tmp_path_factory.mktemp("injected") / "instrumentation")


@pytest.fixture
def settings(folder: Path, receiver: Receiver) -> dict[str, str]:
    """What the operator sets."""
    start = folder / "opentelemetry" / "instrumentation" / "auto_instrumentation"
    return {**receiver.settings, "PYTHONPATH": f"{start}:{folder}"}


def test_the_folder_brings_neither_numpy_nor_scipy_nor_keras(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert "otel_drift" in names
    assert not names & {"numpy", "scipy", "keras"}


def test_a_program_in_an_environment_without_us(
    bare: Environment, model: Path, settings: dict[str, str], receiver: Receiver, tmp_path: Path
) -> None:
    shutil.copy(model, tmp_path / "digits.keras")
    Baseline.from_counts([30, 40, 30]).save(tmp_path / "digits.keras")
    without: Any = bare.run("predict.py", tmp_path / "digits.keras").printed
    result = bare.run("predict.py", tmp_path / "digits.keras", settings=settings)
    assert result.printed == without
    assert without["scipy"] is False
    assert receiver.counts(model="digits") == without["counts"]
    assert {"keras.prediction.drift.evidence", "keras.prediction.drift.p_value"} <= receiver.names()
    assert sum(receiver.series("keras.instrumentation.errors").values()) == 0
    assert result.stderr == ""


def test_a_program_without_keras(
    bare: Environment, settings: dict[str, str], receiver: Receiver
) -> None:
    result = bare.run("without_keras.py", settings=settings)
    modules = set(result.printed)
    assert "otel_drift.keras.instrumentor" in modules
    assert not modules & {"keras", "numpy", "scipy"}
    assert result.stderr == ""
