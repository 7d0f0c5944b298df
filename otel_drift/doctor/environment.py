"""The environment of a program that is instrumented without code, as it will find it.

>>> for found in look_at_settings({"OTEL_SDK_DISABLED": "true"}):
...     print(found.state, found.what)
wrong OTEL_SDK_DISABLED is true
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from otel_drift import environment_variables
from otel_drift.doctor.endpoint import look_at_endpoint
from otel_drift.doctor.finding import Finding, ok, unknown, wrong
from otel_drift.doctor.packages import look_at_packages, version_of
from otel_drift.options import CHECKS, VARIABLE_PREFIX

DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
EXPORTER = "OTEL_METRICS_EXPORTER"


def look_at_environment(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at packages, settings, the baseline and the OTLP endpoint."""
    found = [*look_at_packages(environment), look_at_instrumentor(environment)]
    found += look_at_settings(environment)
    found += look_at_options(environment)
    if environment.get("OTEL_CONFIG_FILE", "").strip():
        what = "OTEL_CONFIG_FILE is set: its endpoint and options are not looked at"
        found.append(unknown("endpoint", what))
    else:
        found += look_at_exporter(environment)
    return found


def look_at_instrumentor(environment: Mapping[str, str]) -> Finding:
    """Look whether the instrumentor of Keras is found, and is not disabled."""
    disabled = {name.strip() for name in environment.get(DISABLED, "").split(",")}
    if disabled & {"keras", "*"}:
        remedy = f"take {' and '.join(sorted(disabled & {'keras', '*'}))} out of it"
        return wrong("instrumentor", f"{DISABLED} turns the instrumentor off", remedy)
    found = entry_points(group="opentelemetry_instrumentor", name="keras")
    ours = [one for one in found if one.value.startswith("otel_drift.")]
    if not ours:
        what = "no entry point opentelemetry_instrumentor names otel_drift's instrumentor"
        return wrong("instrumentor", what, "install otel-drift again: pip install -U otel-drift")
    return ok("instrumentor", f"the instrumentor is found: {ours[0].value}")


def look_at_settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look for what turns OpenTelemetry off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield wrong("sdk", "OTEL_SDK_DISABLED is true", "unset OTEL_SDK_DISABLED")


def look_at_options(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the values of our own variables, and read the baseline that they name."""
    known = {name for name in vars(environment_variables) if name.startswith(VARIABLE_PREFIX)}
    for variable in sorted(environment):
        value = environment[variable]
        if not variable.startswith(VARIABLE_PREFIX) or not value.strip():
            continue
        if variable not in known:
            what = f"{variable} is not known"
            yield wrong("options", what, f"unset it; there are {', '.join(sorted(known))}")
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        try:
            checked = CHECKS[name](variable, value)
        except (TypeError, ValueError) as error:
            yield wrong("options", str(error), f"correct {variable}, or unset it for the default")
            continue
        if isinstance(checked.get("baseline"), Path):
            yield from look_at_baseline(checked["baseline"])
        else:
            yield ok("options", f"{variable}={value}")


def look_at_baseline(path: Path) -> Iterator[Finding]:
    """Read a baseline, or all that are in a folder."""
    from otel_drift.baselines.baseline import load_baselines
    from otel_drift.baselines.files import SUFFIX

    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        remedy = f"save baselines there, as <model name>{SUFFIX}"
        yield wrong("baseline", f"the folder of baselines {path} has none", remedy)
    for file in files:
        try:
            outputs = load_baselines(file)
        except FileNotFoundError:
            remedy = f"correct {environment_variables.OTEL_PYTHON_KERAS_BASELINE}"
            yield wrong("baseline", f"the baseline {file} is not there", remedy)
        except (OSError, ValueError, TypeError) as error:
            yield wrong("baseline", f"the baseline {file}: {error}", "take and save it again")
        else:
            yield ok("baseline", f"the baseline {file}: {', '.join(map(repr, outputs))}")


def look_at_exporter(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what exports metrics, and where to."""
    asked = environment.get(EXPORTER, "").strip()
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if "none" in names:
        yield wrong(
            "exporter", f"{EXPORTER} is none: no metric is exported", f"set {EXPORTER}=otlp"
        )
        return
    if not names:
        if version_of("opentelemetry-distro") is None:
            what = f"{EXPORTER} is not set and opentelemetry-distro, which sets it, not installed"
            remedy = f"set {EXPORTER}=otlp, unless the program sets up a MeterProvider"
            yield unknown("exporter", what, remedy)
        names = ["otlp"]
    if "otlp" in names:
        yield look_at_endpoint(environment)
    else:
        yield unknown("endpoint", f"{EXPORTER} is {asked!r}: no OTLP endpoint is needed")
