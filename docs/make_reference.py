"""Write docs/reference.md from the code: every metric, option and command.

    .venv/bin/python -m docs.make_reference

>>> series("keras.predict.duration", "histogram", "s")
'keras_predict_duration_seconds'
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from otel_drift import environment_variables
from otel_drift.cli import _parser
from otel_drift.telemetry.metric_table import DURATION, ERRORS, METRICS, P_VALUES

PAGE = Path(__file__).parent / "reference.md"
CODE = Path(environment_variables.__file__).parent


def series(name: str, kind: str, unit: str) -> str:
    """Name a metric as Prometheus does."""
    suffix = ("_seconds" if unit == "s" else "") + ("_total" if kind == "counter" else "")
    return name.replace(".", "_") + suffix


def metrics() -> Iterator[tuple[str, str, str, str]]:
    """Give name, kind, unit and meaning of every metric."""
    yield DURATION.name, "histogram", DURATION.unit, DURATION.description
    for metric in METRICS:
        yield metric.name, metric.kind, metric.unit, metric.description
    yield P_VALUES.name, "histogram", P_VALUES.unit, P_VALUES.description
    yield ERRORS[0], "counter", *ERRORS[1:]
    for call in ast.walk(ast.parse((CODE / "keras" / "callbacks.py").read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            kind = call.func.attr.removeprefix("create_")
            if kind in ("counter", "gauge", "histogram") and len(call.args) >= 3:
                name, unit, meaning = (ast.literal_eval(one) for one in call.args[:3])
                yield name, kind, unit, meaning


def options() -> Iterator[tuple[str, str]]:
    """Give each environment variable and the text that stands below it in the code."""
    text = (CODE / "environment_variables.py").read_text(encoding="utf-8")
    body = ast.parse(text).body[1:]
    for name, meaning in zip(body[::2], body[1::2], strict=True):
        if isinstance(name, ast.Assign) and isinstance(meaning, ast.Expr):
            yield ast.literal_eval(name.value), ast.literal_eval(meaning.value)


def commands() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Give each command, what it does, and its options with what they say."""
    (group,) = (
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    help_of = {action.dest: action.help or "" for action in group._choices_actions}
    for name, parser in group.choices.items():
        rows = [
            (", ".join(action.option_strings) or action.dest, action.help or "")
            for action in parser._actions
            if action.dest != "help"
        ]
        yield name, help_of[name], rows


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(' '.join(one.split()) for one in line)} |" for line in lines)


def page() -> str:
    """Write the page."""
    parts = [
        "# Metrics, options, commands",
        "Written from the code by `make generate`.",
        "## Metrics",
        "The series is the name in Prometheus, by whichever way it gets there. "
        "What they mean together stands in the [README](../README.md#metrics).",
        table(
            ("metric", "series", "kind", "unit", "what it says"),
            (
                (f"`{name}`", f"`{series(name, kind, unit)}`", kind, f"`{unit}`", meaning)
                for name, kind, unit, meaning in metrics()
            ),
        ),
        "## Options",
        "Each is also a flag of `opentelemetry-instrument` (`--keras_tolerance`), a field of the "
        "declarative file (`tolerance`), and a keyword argument in code "
        "([Into an existing stack](deployment.md#without-code)).",
        *(
            f"### `{name}`\n\n{' '.join(meaning.replace('``', '`').split())}"
            for name, meaning in options()
        ),
        "## Commands",
        *(
            f"### `otel-drift {name}`\n\n{meaning[:1].upper()}{meaning[1:]}."
            + (
                "\n\n" + table(("option", "what it is"), ((f"`{one}`", said) for one, said in rows))
                if rows
                else ""
            )
            for name, meaning, rows in commands()
        ),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
