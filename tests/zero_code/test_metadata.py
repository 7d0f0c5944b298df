"""What pip and OpenTelemetry's loader read about us."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution, entry_points
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from otel_drift import KerasInstrumentor, environment_variables
from otel_drift.package import __version__, _instruments


def test_the_extra_names_what_the_instrumentor_names() -> None:
    requirements = [Requirement(text) for text in distribution("otel-drift").requires or ()]
    of_extra = [
        one
        for one in requirements
        if one.marker is not None
        and one.marker.evaluate({"extra": "instruments"})
        and not one.marker.evaluate({"extra": ""})
    ]
    expected = [Requirement(text) for text in _instruments]
    assert [(one.name, one.specifier) for one in of_extra] == [
        (one.name, one.specifier) for one in expected
    ]
    assert tuple(KerasInstrumentor().instrumentation_dependencies()) == _instruments


def test_the_oldest_versions_are_those_that_the_matrix_runs_with() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["instruments"]
    pinned = dict(re.findall(r"([a-z-]+)==(\S+)", (root / "tests/matrix.sh").read_text()))
    for requirement in map(Requirement, requirements):
        (lowest,) = [one.version for one in requirement.specifier if one.operator == ">="]
        assert Version(pinned[requirement.name]).release[:2] == Version(lowest).release[:2]


def test_entry_points_load() -> None:
    (instrumentor,) = entry_points(group="opentelemetry_instrumentor", name="keras")
    assert instrumentor.load() is KerasInstrumentor
    (variables,) = entry_points(group="opentelemetry_environment_variables", name="otel_drift")
    assert variables.load() is environment_variables


def test_the_version_is_that_of_the_package() -> None:
    assert distribution("otel-drift").version == __version__


def test_neither_an_sdk_nor_an_exporter_nor_keras_is_required() -> None:
    requirements = [Requirement(text) for text in distribution("otel-drift").requires or ()]
    required = {one.name for one in requirements if one.marker is None}
    assert required == {
        "numpy",
        "opentelemetry-api",
        "opentelemetry-instrumentation",
        "opentelemetry-semantic-conventions",
        "scipy",
        "wrapt",
    }
