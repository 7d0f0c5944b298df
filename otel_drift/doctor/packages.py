"""Which packages are there, by their metadata: no framework is imported.

>>> look_at_package("otel-drift-that-is-nowhere >= 1", "pip install it")
Finding(state='wrong', subject='otel-drift-that-is-nowhere',
    what='otel-drift-that-is-nowhere is not installed', remedy='pip install it')
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.dependencies import get_dependency_conflicts

from otel_drift.doctor.endpoint import protocol_of
from otel_drift.doctor.finding import Finding, ok, unknown, wrong
from otel_drift.package import __version__, _instruments  # pyright: ignore[reportPrivateUsage]

EXPORTERS = {
    "grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "http/protobuf": "opentelemetry-exporter-otlp-proto-http",
}
BACKENDS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"),
    "torch": ("torch",),
    "jax": ("jax",),
    "numpy": ("numpy",),
    "openvino": ("openvino",),
}
"""The packages of which one brings it."""
PROGRAM = "opentelemetry-instrument"
INJECTED = "opentelemetry/instrumentation/auto_instrumentation"
"""The folder that the operator, and the program itself, put first in PYTHONPATH."""


def look_at_packages(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what a program that is instrumented without code needs."""
    yield ok("otel-drift", f"otel-drift {__version__}, Python {sys.version.split()[0]}")
    for requirement in _instruments:
        yield look_at_package(requirement, f"pip install '{requirement.replace(' ', '')}'")
    yield look_at_backend(environment)
    yield look_at_package("opentelemetry-api >= 1.35", "pip install -U opentelemetry-api")
    yield look_at_package("opentelemetry-sdk >= 1.35", "pip install -U 'otel-drift[otlp]'")
    exporter = EXPORTERS.get(protocol_of(environment))
    if exporter is not None:
        yield look_at_package(f"{exporter} >= 1.35", f"pip install -U {exporter}")
    if version_of("scipy") is None:
        what = "scipy is not installed: limits are within a few per cent"
        yield unknown("scipy", what, "pip install scipy, for exact ones")
    else:
        yield look_at_package("scipy >= 1.11", "pip install -U scipy")
    yield look_at_program(environment)


def look_at_package(requirement: str, remedy: str) -> Finding:
    """Look whether a package is there in a version that will do."""
    name = requirement.split(maxsplit=1)[0]
    found = version_of(name)
    if found is None:
        return wrong(name, f"{name} is not installed", remedy)
    if get_dependency_conflicts([requirement]) is not None:
        return wrong(name, f"{name} {found}: must be {requirement.removeprefix(name)}", remedy)
    return ok(name, f"{name} {found}")


def look_at_backend(environment: Mapping[str, str]) -> Finding:
    """Look which backend Keras will take, as Keras does: the variable, the file, TensorFlow."""
    file = Path(environment.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "keras.json"
    backend, where = environment.get("KERAS_BACKEND", ""), "KERAS_BACKEND"
    if not backend:
        backend, where = _backend_in(file), str(file)
    if not backend:
        backend, where = "tensorflow", "Keras's default"
    if backend not in BACKENDS:
        remedy = f"set KERAS_BACKEND to one of {', '.join(BACKENDS)}"
        return wrong("backend", f"backend {backend!r} ({where}) is none of Keras's", remedy)
    versions = [found for name in BACKENDS[backend] if (found := version_of(name))]
    if not versions:
        remedy = f"pip install {backend}, or set KERAS_BACKEND to what is installed"
        return wrong("backend", f"backend {backend} ({where}) is not installed", remedy)
    return ok("backend", f"backend {backend} {versions[0]} ({where})")


def look_at_program(environment: Mapping[str, str]) -> Finding:
    """Look whether what instruments without code is there, and belongs to this Python."""
    if INJECTED in environment.get("PYTHONPATH", ""):
        return ok(PROGRAM, "instrumented by PYTHONPATH, as OpenTelemetry's operator does")
    if Path(sys.executable).with_name(PROGRAM).exists():
        return ok(PROGRAM, f"{PROGRAM} is there")
    elsewhere = shutil.which(PROGRAM)
    if elsewhere is None:
        remedy = "pip install -U opentelemetry-instrumentation"
        return wrong(PROGRAM, f"{PROGRAM} is not there", remedy)
    what = f"{PROGRAM} is {elsewhere}, not beside {sys.executable}"
    return unknown(PROGRAM, what, "if it is of another environment, no package of this one is seen")


def version_of(name: str) -> str | None:
    """Give the version of a package that is installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _backend_in(file: Path) -> str:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        return str(content.get("backend", ""))
    except (OSError, ValueError, AttributeError):  # Keras passes over it too
        return ""
