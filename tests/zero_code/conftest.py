"""Programs that know nothing of otel_drift, instrumented from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zero_code.environments import Environment, application, instrumented
from tests.zero_code.receiver import Receiver

collect_ignore = ["applications"]


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Keras on torch and what they need: no SciPy, and nothing of OpenTelemetry."""
    return application(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Keras, OpenTelemetry and otel_drift, installed side by side."""
    return instrumented(tmp_path_factory.mktemp("instrumented"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Something that takes OTLP on a free port of this machine."""
    with Receiver() as running:
        yield running


@pytest.fixture(scope="session")
def model(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's file, with no baseline beside it."""
    path = tmp_path_factory.mktemp("model") / "digits.keras"
    environment.run("make_model.py", path)
    return path
