"""The options: what they are called, what is allowed, and where they come from.

In code they are keyword arguments, and a wrong one is an error that names the value and what would
be right. Without code they come from environment variables (`otel_drift.environment_variables`) or
from OpenTelemetry's declarative file, and a wrong one is one warning, and its default is used.

>>> Options.of(tolerance=0.3).tolerance
0.3
>>> Options.of(tolerance=3)
Traceback (most recent call last):
...
ValueError: tolerance=3: must be a number above 0 and below 1, like 0.2 for 20 %
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from otel_drift import environment_variables

if TYPE_CHECKING:
    from otel_drift.baselines.baseline import Baseline
    from otel_drift.outputs.decision import Decision

logger = logging.getLogger(__name__)

VARIABLE_PREFIX = "OTEL_PYTHON_KERAS_"

DriftFunction = Callable[[Any, Any], "tuple[float, float] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may choose, checked; see `otel_drift.environment_variables` for each."""

    baseline: Baseline | Mapping[str, Baseline] | Path | None = None
    """A baseline, one for each output by name, or where to find it: a file or a folder."""
    first: int | None = None
    """Take so many first predictions as the baseline (``first:10000``)."""
    model_name: str | None = None
    model_version: str | None = None
    tolerance: float = 0.2
    average_run_length: float = 10_000_000
    decision: Decision | None = None
    outputs: Callable[[Any], Any] | str | None = None
    """Turns what the model returns into labels, or a dict of labels by output name."""
    drift_function: Mapping[str, DriftFunction | str] = field(
        default_factory=dict[str, "DriftFunction | str"]
    )
    """The user's own tests by the output name that their p-values get."""
    traces: bool = True

    @classmethod
    def of(cls, **values: Any) -> Options:
        """Check options given in code; None stands for the default.

        Raises
        ------
        TypeError
            If an option is not known or of the wrong type.
        ValueError
            If a value is not allowed; names the option, the value and what is.
        """
        return cls().updated(**values)

    def updated(self, **values: Any) -> Options:
        """Like `of`, with these options for what is not given."""
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in CHECKS:
                raise TypeError(f"{name}={value!r}: not an option; there are {', '.join(CHECKS)}")
            if value is not None:
                checked.update(CHECKS[name](name, value))
        return replace(self, **checked)

    @classmethod
    def from_outside(cls, values: Mapping[str, Any], labels: Mapping[str, str]) -> Options:
        """Check options from outside the code: what is wrong is a warning, and its default used.

        Parameters
        ----------
        values
            Options as they came.
        labels
            What to call each in a warning: the variable, or the field of the file.
        """
        options = cls()
        for name, value in values.items():
            label = labels.get(name, name)
            if name not in CHECKS:
                logger.warning(
                    "%s=%r: not an option; there are %s", label, value, ", ".join(CHECKS)
                )
                continue
            try:
                options = replace(options, **CHECKS[name](label, value))
            except (TypeError, ValueError) as error:
                logger.warning("%s; the default is used", error)
        return options

    @classmethod
    def from_environment(cls) -> Options:
        """Read the environment variables."""
        labels = {name: VARIABLE_PREFIX + name.upper() for name in CHECKS}
        known = vars(environment_variables)
        values = {
            name: os.environ[variable]
            for name, variable in labels.items()
            if variable in known and os.environ.get(variable, "").strip()
        }
        return cls.from_outside(values, labels)


def _baseline(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(cast("str", value)).strip()
        if text.startswith("first:"):
            return {"baseline": None, "first": _first(name, text)}
        try:
            return {"baseline": Path(text).expanduser()}
        except RuntimeError as error:  # there is no such user
            raise ValueError(f"{name}={value!r}: must be a file or a folder: {error}") from None
    if isinstance(value, Mapping):
        outputs = cast("Mapping[Any, Any]", value)
        for output, one in outputs.items():
            if "first" in _baseline(name, one):
                raise ValueError(
                    f"{name}={one!r} of output {output!r}: must be a Baseline or a file; the first "
                    "predictions become the baseline of all outputs or of none"
                )
        return {"baseline": {str(output): one for output, one in outputs.items()}}
    from otel_drift.baselines.baseline import Baseline  # NumPy, for whoever uses us directly

    if not isinstance(value, Baseline):
        raise TypeError(
            f"{name}={value!r}: must be a Baseline, a dict of them by output name, "
            "a file, a folder, or 'first:10000'"
        )
    return {"baseline": value}


def _first(name: str, text: str) -> int:
    digits = text.removeprefix("first:").replace("_", "")
    if not digits.isdecimal() or int(digits) < 100:
        raise ValueError(
            f"{name}={text!r}: must give the number of predictions, 100 or more: 'first:10000'"
        )
    return int(digits)


def _number(name: str, value: Any, allowed: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise type_or_value_error(value)(f"{name}={value!r}: must be {allowed}") from None
    return number


def type_or_value_error(value: Any) -> type[Exception]:
    """Text that says nothing right is a wrong value; anything else is of a wrong type."""
    return ValueError if isinstance(value, str) else TypeError


def _tolerance(name: str, value: Any) -> dict[str, Any]:
    allowed = "a number above 0 and below 1, like 0.2 for 20 %"
    number = _number(name, value, allowed)
    if not 0 < number < 1:
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return {"tolerance": number}


def _average_run_length(name: str, value: Any) -> dict[str, Any]:
    allowed = "a number of predictions per false alarm, from 100 to 1e12"
    number = _number(name, value, allowed)
    if not 100 <= number <= 1e12:  # the detector's limits, which need NumPy to be imported
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return {"average_run_length": number}


def _text(name: str, value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: must be a text, like '{EXAMPLES[field]}'")
    if not value.strip():
        raise ValueError(f"{name}={value!r}: must not be empty")
    return {field: value.strip()}


EXAMPLES = {"model_name": "digits", "model_version": "7"}


def _model_name(name: str, value: Any) -> dict[str, Any]:
    return _text(name, value, "model_name")


def _model_version(name: str, value: Any) -> dict[str, Any]:
    return _text(name, value, "model_version")


def _decision(name: str, value: Any) -> dict[str, Any]:
    from otel_drift.outputs.decision import Decision  # NumPy, which options must not import

    if not isinstance(value, (Decision, str)):
        raise TypeError(f"{name}={value!r}: must be a Decision, or a text like 'threshold:0.5'")
    try:
        return {"decision": Decision.of(value)}
    except ValueError as error:
        raise ValueError(f"{name}={value!r}: {error}") from None


def _function(name: str, value: Any) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: must be a function, or 'module:function'")
    module, _, function = value.strip().partition(":")
    if not module or not function:
        raise ValueError(f"{name}={value!r}: must be written 'module:function'")
    return value.strip()


def _outputs(name: str, value: Any) -> dict[str, Any]:
    return {"outputs": _function(name, value)}


def _drift_function(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        functions = cast("Mapping[Any, Any]", value)
        return {
            "drift_function": {str(key): _function(name, one) for key, one in functions.items()}
        }
    function = _function(name, value)
    if isinstance(function, str):
        output = function.partition(":")[2]
    else:
        output = str(getattr(function, "__name__", "drift_function"))
    return {"drift_function": {"drift_function" if output == "<lambda>" else output: function}}


def _traces(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"traces": value}
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return {"traces": value.strip().lower() == "true"}
    raise type_or_value_error(value)(f"{name}={value!r}: must be true or false")


CHECKS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "baseline": _baseline,
    "model_name": _model_name,
    "model_version": _model_version,
    "tolerance": _tolerance,
    "average_run_length": _average_run_length,
    "decision": _decision,
    "outputs": _outputs,
    "drift_function": _drift_function,
    "traces": _traces,
}
"""For each option: what turns a value into fields of `Options`, or says what is wrong with it."""


@dataclass(init=False)
class Configuration:
    """The fields of ``instrumentation/development: python: keras:`` in a declarative file.

    Unknown fields are kept, so that `Options.from_outside` can name them: raising here would leave
    the program instrumented without any of the file's options.
    """

    options: dict[str, Any] | None = None

    def __init__(self, **options: Any) -> None:
        self.options = options

    @staticmethod
    def checked(values: Mapping[str, Any]) -> Options:
        """Check what the file said."""
        return Options.from_outside(values, {name: f"keras.{name}" for name in values})
