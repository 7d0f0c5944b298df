"""Options: errors in code, warnings outside it; the same words in both."""

import logging
import math
from pathlib import Path

import pytest

from otel_drift import Baseline, environment_variables
from otel_drift.drift.sequential import MAXIMUM_AVERAGE_RUN_LENGTH, MINIMUM_AVERAGE_RUN_LENGTH
from otel_drift.options import CHECKS, Configuration, Options
from otel_drift.outputs.decision import Threshold

WRONG = {
    "tolerance": [
        (0, ValueError),
        (1, ValueError),
        ("wide", ValueError),
        (None.__class__, TypeError),
        (math.nan, ValueError),
        (True, TypeError),
    ],
    "average_run_length": [
        (99, ValueError),
        (math.inf, ValueError),
        ("1e", ValueError),
        ([], TypeError),
    ],
    "baseline": [
        ("first:few", ValueError),
        ("first:99", ValueError),
        (5, TypeError),
        ({"output": 5}, TypeError),
        ({"output": "first:1000"}, ValueError),
    ],
    "model_name": [("  ", ValueError), (7, TypeError)],
    "model_version": [("  ", ValueError), (7, TypeError)],
    "decision": [
        ("guess", ValueError),
        ("argmax:0.5", ValueError),
        ("threshold:high", ValueError),
        (5, TypeError),
    ],
    "outputs": [("function", ValueError), (5, TypeError)],
    "drift_function": [("module:", ValueError), (5, TypeError), ({"mmd": 5}, TypeError)],
    "traces": [("maybe", ValueError), (2, TypeError)],
}
CASES = [(name, value, error) for name, cases in WRONG.items() for value, error in cases]


@pytest.mark.parametrize(("name", "value", "error"), CASES)
def test_wrong_values_in_code_name_the_option_and_the_value(name, value, error):
    with pytest.raises(error) as caught:
        Options.of(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert "must" in message or "takes no score" in message
    assert (repr(value) in message) or isinstance(value, dict)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value, _ in CASES if isinstance(value, str)]
)
def test_wrong_variables_are_one_warning_and_the_default(name, value, monkeypatch, caplog):
    variable = f"OTEL_PYTHON_KERAS_{name.upper()}"
    monkeypatch.setenv(variable, value)
    options = Options.from_environment()
    if not value.strip():
        assert caplog.records == []  # an empty variable is as good as none
        return
    assert getattr(options, name) == getattr(Options(), name)
    warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert variable in warnings[0].getMessage()
    assert repr(value) in warnings[0].getMessage()


def test_right_values_from_variables(monkeypatch):
    values = {
        "BASELINE": "/models",
        "MODEL_NAME": "digits",
        "TOLERANCE": "0.3",
        "AVERAGE_RUN_LENGTH": "1e8",
        "DECISION": "threshold:0.7",
        "OUTPUTS": "app:labels",
        "DRIFT_FUNCTION": "app:mmd",
        "TRACES": "False",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"OTEL_PYTHON_KERAS_{name}", value)
    assert Options.from_environment() == Options(
        baseline=Path("/models"),
        model_name="digits",
        tolerance=0.3,
        average_run_length=1e8,
        decision=Threshold(0.7),
        outputs="app:labels",
        drift_function={"mmd": "app:mmd"},
        traces=False,
    )
    monkeypatch.setenv("OTEL_PYTHON_KERAS_BASELINE", "first:10_000")
    assert Options.from_environment().first == 10_000
    assert Options.from_environment().baseline is None


def test_every_option_is_a_documented_variable_and_no_variable_is_without_one():
    variables = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert variables == {f"OTEL_PYTHON_KERAS_{name.upper()}" for name in CHECKS}
    for name in variables:
        assert getattr(environment_variables, name) == name


def test_options_that_do_not_exist_are_named():
    with pytest.raises(TypeError, match=r"tolerence=0\.3: not an option; there are baseline,"):
        Options.of(tolerence=0.3)


def test_a_file_keeps_what_is_right_and_warns_of_the_rest(caplog):
    written = Configuration(tolerance="abc", average_run_length=5_000, colour="red")
    options = Configuration.checked(written.options)
    assert options.tolerance == 0.2
    assert options.average_run_length == 5_000
    messages = [one.getMessage() for one in caplog.records]
    assert len(messages) == 2
    assert "keras.tolerance='abc'" in messages[0]
    assert "keras.colour='red': not an option" in messages[1]


def test_drift_functions_get_the_name_that_the_user_gives():
    def mmd(x, y):
        return None

    assert Options.of(drift_function=mmd).drift_function == {"mmd": mmd}
    assert Options.of(drift_function={"pixels": mmd}).drift_function == {"pixels": mmd}
    assert [*Options.of(drift_function=lambda x, y: None).drift_function] == ["drift_function"]


def test_limits_are_the_detectors():
    for length in (MINIMUM_AVERAGE_RUN_LENGTH, MAXIMUM_AVERAGE_RUN_LENGTH):
        assert Options.of(average_run_length=length).average_run_length == length
    for length in (MINIMUM_AVERAGE_RUN_LENGTH * 0.99, MAXIMUM_AVERAGE_RUN_LENGTH * 1.01):
        with pytest.raises(ValueError, match="from 100 to 1e12"):
            Options.of(average_run_length=length)


def test_baselines_of_every_form():
    baseline = Baseline.uniform(2)
    assert Options.of(baseline=baseline).baseline is baseline
    assert Options.of(baseline={"a": baseline}).baseline == {"a": baseline}
    assert Options.of(baseline="~/x.json").baseline == Path("~/x.json").expanduser()
