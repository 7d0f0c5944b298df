"""`opentelemetry-instrument python predict.py`, and all that can be set about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from otel_drift import Baseline, environment_variables
from otel_drift.options import CHECKS, VARIABLE_PREFIX
from tests.zero_code.environments import APPLICATIONS, Environment, Result
from tests.zero_code.receiver import Receiver

CALLS = 15
ROWS = 3 * (40 + 1 + 7 + 64 + 33)
COUNTS = [30, 40, 30]


@pytest.fixture(scope="session")
def without(environment: Environment, model: Path) -> Any:
    """What the program prints when it is not instrumented."""
    return environment.run("predict.py", model).printed


@pytest.fixture
def program(environment: Environment, model: Path, receiver: Receiver, without: Any) -> Any:
    """Run the program instrumented; its predictions must be those it makes without us."""

    def run(*flags: str, path: Path = model, **settings: str) -> Result:
        result = environment.run(
            "predict.py", path, settings={**receiver.settings, **settings}, instrument=flags
        )
        assert result.printed["digest"] == without["digest"]
        return result

    return run


def check_complete(receiver: Receiver, truth: Any, name: str = "digits") -> None:
    """Check what is there with and without a baseline."""
    assert receiver.counts(model=name) == truth["counts"]
    methods = {"predict": CALLS // 3, "predict_on_batch": CALLS // 3, "call": CALLS // 3}
    assert receiver.series("keras.predict.duration", "keras.method", model=name) == methods
    samples = receiver.series("keras.predict.samples", "keras.method", model=name)
    assert samples == dict.fromkeys(methods, ROWS // 3)


def errors(receiver: Receiver) -> dict[str, float]:
    found = receiver.series("keras.instrumentation.errors", "error.type")
    return {name: count for name, count in found.items() if count}


def beside(model: Path, folder: Path, text: str | None = None) -> Path:
    """Give the model another home, with a baseline beside it."""
    shutil.copy(model, folder / "digits.keras")
    path = Baseline.from_counts(COUNTS, ["a", "b", "c"]).save(folder / "digits.keras")
    if text is not None:
        path.write_text(text)
    return folder / "digits.keras"


def named(truth: Any) -> Any:
    return {"counts": {"abc"[int(name)]: count for name, count in truth["counts"].items()}}


def test_finds_the_baseline_beside_the_model(
    program: Any, receiver: Receiver, model: Path, tmp_path: Path, without: Any
) -> None:
    program(path=beside(model, tmp_path))
    check_complete(receiver, named(without))
    shares = receiver.series("keras.prediction.baseline.proportion", "keras.prediction.class")
    assert shares == {"a": 0.3, "b": 0.4, "c": 0.3, "other": 0, "invalid": 0}
    assert receiver.series("keras.prediction.drift.evidence", "keras.model.output").keys() == {
        "output"
    }
    assert errors(receiver) == {}
    assert receiver.spans.count("predict digits") == CALLS // 3


def test_without_a_baseline_there_are_durations_and_counts_and_one_line(
    program: Any, receiver: Receiver, without: Any
) -> None:
    result = program()
    check_complete(receiver, without)
    assert "keras.prediction.drift.evidence" not in receiver.names()
    (line,) = result.stderr.splitlines()
    assert "OTEL_PYTHON_KERAS_BASELINE" in line


@pytest.mark.parametrize("text", ["not JSON", '{"schema_version": 99}'])
def test_a_broken_baseline_is_one_warning(
    program: Any, receiver: Receiver, model: Path, tmp_path: Path, without: Any, text: str
) -> None:
    path = beside(model, tmp_path, text)
    result = program(path=path)
    check_complete(receiver, without)
    assert len(result.warnings(str(path.with_suffix(".baseline.json")))) == 1
    assert "Traceback" not in result.stderr
    assert errors(receiver) == {"baseline": 1}


def test_the_first_predictions_as_baseline(program: Any, receiver: Receiver, without: Any) -> None:
    result = program(OTEL_PYTHON_KERAS_BASELINE="first:100")
    check_complete(receiver, without)
    assert list(receiver.series("keras.prediction.baseline.size").values()) == [100]
    assert "keras.prediction.drift.p_value" in receiver.names()  # of those that came after
    assert result.stderr == ""


def every_option(tmp_path: Path) -> dict[str, str]:
    """A value for each option that is not its default."""
    path = Baseline.from_counts([200, 100], ["rest", "first"]).save(tmp_path / "own.baseline.json")
    return {
        "baseline": str(path),
        "model_name": "renamed",
        "model_version": "7",
        "tolerance": "0.5",
        "average_run_length": "1e6",
        "decision": "label",
        "outputs": "predict:largest",
        "drift_function": "predict:mean_of_the_inputs",
        "traces": "false",
    }


@pytest.mark.parametrize("way", ["variables", "flags"])
def test_every_option(
    program: Any, receiver: Receiver, tmp_path: Path, without: Any, way: str
) -> None:
    options = every_option(tmp_path)
    assert set(options) == set(CHECKS)
    if way == "variables":
        program(**{VARIABLE_PREFIX + name.upper(): value for name, value in options.items()})
    else:
        program(*(f"--keras_{name}={value}" for name, value in options.items()))
    check_every_option(receiver, without)


def check_every_option(receiver: Receiver, without: Any) -> None:
    first = without["counts"]["0"]
    check_complete(receiver, {"counts": {"first": first, "rest": ROWS - first}}, "renamed")
    (lower,) = receiver.series("keras.prediction.baseline.lower", output="output").items()
    lower = receiver.series("keras.prediction.baseline.lower", "keras.prediction.class")
    assert lower["rest"] == pytest.approx(2 / 3 * 0.5)
    (threshold,) = receiver.series("keras.prediction.drift.threshold").values()
    assert threshold == pytest.approx(6)
    own = receiver.series("keras.prediction.drift.p_value", output="mean_of_the_inputs")
    assert list(own.values()) == [0.25]
    versions = receiver.series("keras.predict.samples", "keras.model.version")
    assert set(versions) == {"7"}
    assert receiver.spans == []
    assert errors(receiver) == {}


def test_each_option_is_documented_as_a_variable() -> None:
    documented = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert documented == {VARIABLE_PREFIX + name.upper() for name in CHECKS}


BAD = {
    "baseline": "nowhere.baseline.json",
    "tolerance": "a lot",
    "average_run_length": "5",
    "decision": "guess",
    "outputs": "predict:nothing_there",
    "drift_function": "nowhere",
    "traces": "perhaps",
}


def test_bad_values_are_one_warning_each(program: Any, receiver: Receiver, without: Any) -> None:
    result = program(**{VARIABLE_PREFIX + name.upper(): value for name, value in BAD.items()})
    check_complete(receiver, without)
    for name, value in BAD.items():
        lines = result.warnings(VARIABLE_PREFIX + name.upper(), value)
        assert len(lines) == 1, (name, result.stderr)
    assert len(result.stderr.splitlines()) == len(BAD) + 1  # and that there is no baseline
    assert receiver.spans.count("predict digits") == CALLS // 3


def declarative(receiver: Receiver, tmp_path: Path, options: dict[str, Any]) -> dict[str, str]:
    """Write OpenTelemetry's declarative file, and say where it is."""
    endpoint = receiver.settings["OTEL_EXPORTER_OTLP_ENDPOINT"]
    content = {
        "file_format": "1.0",
        "meter_provider": {
            "readers": [
                {
                    "periodic": {
                        "interval": 600_000,
                        "exporter": {"otlp_http": {"endpoint": f"{endpoint}/v1/metrics"}},
                    }
                }
            ]
        },
        "tracer_provider": {
            "processors": [
                {"simple": {"exporter": {"otlp_http": {"endpoint": f"{endpoint}/v1/traces"}}}}
            ]
        },
        "instrumentation/development": {"python": {"keras": options}},
    }
    path = tmp_path / "otel.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return {"OTEL_CONFIG_FILE": str(path)}


def test_the_declarative_file(
    program: Any, receiver: Receiver, tmp_path: Path, without: Any
) -> None:
    options: dict[str, Any] = every_option(tmp_path)
    options |= {"tolerance": 0.5, "average_run_length": 1e6, "traces": False}
    result = program(**declarative(receiver, tmp_path, options))
    check_every_option(receiver, without)
    assert result.warnings("already instrumented") == []


def test_bad_and_unknown_fields_of_the_declarative_file(
    program: Any, receiver: Receiver, tmp_path: Path, without: Any
) -> None:
    options = {"tolerance": "a lot", "traces": 3, "colour": "red", "model_name": "renamed"}
    result = program(**declarative(receiver, tmp_path, options))
    check_complete(receiver, without, "renamed")
    for name in ("tolerance", "traces", "colour"):
        assert len(result.warnings(f"keras.{name}", str(options[name]))) == 1, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "keras"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_switched_off(program: Any, receiver: Receiver, settings: dict[str, str]) -> None:
    program(**settings)
    assert not {name for name in receiver.names() if name.startswith("keras.")}
    assert receiver.spans == []


def test_a_process_without_keras_imports_nothing(
    environment: Environment, receiver: Receiver
) -> None:
    result = environment.run("without_keras.py", settings=receiver.settings, instrument=())
    modules = set(result.printed)
    assert "otel_drift.keras.instrumentor" in modules
    assert not modules & {"keras", "numpy", "scipy"}
    assert not [one for one in modules if one.startswith(("otel_drift.drift", "otel_drift.telem"))]
    assert result.stderr == ""


def test_the_applications_know_nothing_of_us() -> None:
    for path in APPLICATIONS.glob("*.py"):
        assert "otel" not in path.read_text().lower(), path
