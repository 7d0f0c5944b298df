"""The rules' files: equal to what the code writes, complete, and in step with the runbook."""

import doctest
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import prometheus
from prometheus import definitions, rule_file
from prometheus.__main__ import FILES, FOLDER
from prometheus.definitions import ALARMS, RUNBOOK, WINDOWS, Exported
from prometheus.rule_file import Alert, Record

ROOT = Path(__file__).parents[2]
EVERY_RULE = [each for file in FILES.values() for group in file.groups for each in group.rules]
every_file = pytest.mark.parametrize("name", FILES)
every_alarm = pytest.mark.parametrize("alarm", ALARMS, ids=lambda alarm: alarm.name)


def committed(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def without_layout(text: str) -> str:
    return " ".join(text.split())


@every_file
def test_the_yaml_is_what_the_code_writes(name: str) -> None:
    assert committed(name) == FILES[name].rendered(), "run: make generate"


def test_there_are_no_other_rules() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


@every_file
def test_the_yaml_says_what_the_code_says(name: str) -> None:
    """Nothing is lost or changed on the way through the writer."""
    groups = yaml.safe_load(committed(name))["groups"]
    for written, group in zip(groups, FILES[name].groups, strict=True):
        assert (written["name"], written.get("interval")) == (group.name, group.interval)
        for read, meant in zip(written["rules"], group.rules, strict=True):
            assert without_layout(read["expr"]) == without_layout(meant.expr)
            assert fields(read) == fields_of(meant)


def fields(read: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in read.items() if key != "expr"}


def fields_of(meant: Record | Alert) -> dict[str, Any]:
    if isinstance(meant, Record):
        labels = {"labels": dict(meant.labels)} if meant.labels else {}
        return {"record": meant.name, **labels}
    return {
        "alert": meant.alarm.name,
        **meant.timing,
        "labels": {"severity": meant.alarm.severity},
        "annotations": {
            "summary": without_layout(meant.summary),
            "description": without_layout(meant.description),
            "runbook_url": meant.alarm.runbook,
        },
    }


@pytest.mark.parametrize(
    "module", [prometheus, definitions, rule_file], ids=lambda module: module.__name__
)
def test_examples_in_docstrings(module: ModuleType) -> None:
    done = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted
    assert not done.failed


def test_every_record_says_what_it_is() -> None:
    said: set[str] = set()
    for each in EVERY_RULE:
        if isinstance(each, Record):
            assert each.comment or each.name in said, each.name
            said.add(each.name)


def defined() -> set[str]:
    names = (value for value in vars(definitions).values() if isinstance(value, str))
    return {name for name in names if re.fullmatch(r"(\w+):\w+:\w+", name)}


def test_what_is_defined_is_recorded_and_nothing_else() -> None:
    assert {each.name for each in EVERY_RULE if isinstance(each, Record)} == defined()
    assert [each.alarm for each in EVERY_RULE if isinstance(each, Alert)] == list(ALARMS)


def test_expressions_read_what_is_exported_or_recorded() -> None:
    histograms = {f"{name}_{part}" for name in Exported for part in ("bucket", "count", "sum")}
    known = defined() | set(Exported) | histograms
    for each in EVERY_RULE:
        plain = re.sub(r'"[^"]*"|\b(by|on|group_left) \([^)]*\)', "", each.expr)
        read = set(re.findall(r"\b(?:\w+:\w+:\w+|keras_\w+)(?!\w*!?=)", plain))
        assert read - {"keras_prediction_class"} <= known


def test_there_is_a_count_for_every_window() -> None:
    labels = [each.labels for each in EVERY_RULE if getattr(each, "name", "") == definitions.COUNT]
    assert {label["window"] for label in labels} == {window.name for window in WINDOWS}


@every_alarm
def test_the_runbook_has_a_section_and_a_row_for_each_alert(alarm: definitions.Alarm) -> None:
    assert RUNBOOK.endswith("docs/runbook.md")
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    assert f"\n## {alarm.name}\n" in text
    assert f"| [{alarm.name}](#{alarm.name.lower()}) | {alarm.severity} |" in text


def test_no_expression_sees_where_a_series_comes_from() -> None:
    for each in EVERY_RULE:
        assert not re.search(r"\b(job|instance|otel_scope_\w+)\b", each.expr)
