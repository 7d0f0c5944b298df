"""Python environments of a few packages, made in a second: links into the one that tests run in.

They are real: an environment sees the packages it was given, and no others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
APPLICATIONS = Path(__file__).with_name("applications")
TELEMETRY = (
    "opentelemetry-configuration",
    "opentelemetry-distro",
    "opentelemetry-exporter-otlp-proto-http",
    "pyyaml",
    "jsonschema",
)
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
SECONDS = 240


@dataclass
class Result:
    """What a program printed."""

    stdout: str
    stderr: str

    @cached_property
    def printed(self) -> Any:
        """The JSON of its last line."""
        return json.loads(self.stdout.splitlines()[-1])

    def warnings(self, *parts: str) -> list[str]:
        """Lines on standard error that hold all of some texts."""
        lines = self.stderr.splitlines()
        return [line for line in lines if all(part in line for part in parts)]


@dataclass
class Environment:
    """A virtual environment, and how to run programs in it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(
        self,
        program: str | Path,
        *arguments: object,
        settings: dict[str, str] | None = None,
        instrument: tuple[str, ...] | None = None,
    ) -> Result:
        """Run a program to its end, which must be a good one.

        Parameters
        ----------
        program
            A file, or the name of one of the applications here.
        *arguments
            Of the program.
        settings
            Environment variables.
        instrument
            Run it with ``opentelemetry-instrument``, given these flags.
        """
        path = program if isinstance(program, Path) else APPLICATIONS / program
        command = [str(self.python), str(path), *map(str, arguments)]
        if instrument is not None:
            command = [str(INSTRUMENT), *instrument, *command]
        done = subprocess.run(
            command,
            env=self.environ(settings),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return Result(done.stdout, done.stderr)

    def environ(self, settings: dict[str, str] | None = None) -> dict[str, str]:
        """Give the environment variables of a program here: nobody else's OTel or Python's."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "PYTHON", "KERAS_"))
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{inherited.get('PATH', '')}"
        own = {"PATH": path, "PYTHONUNBUFFERED": "1"}
        return {**inherited, **own, **self.settings, **(settings or {})}


def application(folder: Path) -> Environment:
    """Make an environment with Keras on torch: neither needs SciPy, so there is none."""
    made = _empty(folder, KERAS_BACKEND="torch")
    link(made, _with_requirements(["keras", "torch"]))
    return made


def instrumented(folder: Path, *more: str) -> Environment:
    """Make one with Keras on NumPy (which uses parts of JAX), OpenTelemetry and otel_drift."""
    made = _empty(folder, KERAS_BACKEND="numpy")
    link(made, _with_requirements(["keras", "jax", "otel-drift", *TELEMETRY, *more]))
    target = _site_packages(made)
    if not (target / "otel_drift").exists():  # installed in place: only its metadata is there
        (target / "otel_drift").symlink_to(ROOT / "otel_drift")
    return made


def injected(folder: Path) -> Path:
    """Make the folder that the Kubernetes operator puts on PYTHONPATH: OpenTelemetry and we.

    otel_drift comes as it is published, a wheel, installed without its requirements.
    """
    link(folder, _with_requirements([*TELEMETRY, "wrapt"]))
    run = subprocess.run
    build = ["-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    run(
        [sys.executable, *build, "--wheel-dir", folder.parent, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.parent.glob("*.whl")
    install = ["-m", "pip", "install", "--no-index", "--no-deps", "--quiet", "--target", folder]
    run([sys.executable, *install, wheel], check=True, capture_output=True)
    return folder


def link(where: Environment | Path, distributions: list[Distribution]) -> None:
    """Link what some distributions have installed, with what Python has compiled of it."""
    target = where if isinstance(where, Path) else _site_packages(where)
    for one in distributions:
        for file in one.files or ():
            top = Path(one.locate_file(file.parts[0]))
            whole = (top / "__init__.py").exists() or top.suffix == ".libs"
            source = top if whole else Path(one.locate_file(file))
            place = target / (file.parts[0] if whole else file)
            if file.parts[0] != ".." and not place.exists():  # scripts lie outside
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(source)


def _empty(folder: Path, **settings: str) -> Environment:
    venv.create(folder, symlinks=True, with_pip=False)
    return Environment(folder, settings)


def _site_packages(environment: Environment) -> Path:
    (found,) = environment.folder.glob("lib/python*/site-packages")
    return found


def _with_requirements(names: list[str]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # wanted on other systems only
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return list(found.values())
