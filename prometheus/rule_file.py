"""Rules, groups of rules and files of groups, and how they are written as YAML.

People copy rules, so the YAML is written to be read: expressions keep their lines, and every
rule that has something to say has it as a comment above it.

>>> up = Record("job:up:sum", "Targets that answer.", "sum by (job) (up)")
>>> print(File("Targets.", (Group("targets", (up,), interval="1m"),)).rendered(), end="")
# Written by `make generate` from the Python in prometheus/: change it there.
#
# Targets.
<BLANKLINE>
groups:
  - name: targets
    interval: 1m
    rules:
      # Targets that answer.
      - record: job:up:sum
        expr: sum by (job) (up)
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Protocol

import yaml

from prometheus.definitions import Alarm

ORIGIN = "Written by `make generate` from the Python in prometheus/: change it there."
WIDTH = 110
"""Of a line with a comment."""


class Rule(Protocol):
    """A record or an alert."""

    @property
    def comment(self) -> str:
        """What is written above it; nothing if empty."""
        ...

    def lines(self) -> Iterator[str]:
        """Give the lines of its YAML, the first without its dash."""
        ...


@dataclass(frozen=True)
class Record:
    """A recording rule.

    Parameters
    ----------
    name
        What it records.
    comment
        What that is, and why it is computed in this way. Empty where the rule before has said it.
    expr
        May be indented as a whole.
    labels
        What it adds to what it records.
    """

    name: str
    comment: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Give the lines of its YAML, the first without its dash."""
        yield f"record: {self.name}"
        yield from _text("expr", cleandoc(self.expr), "|")
        yield from _mapping("labels", self.labels)


@dataclass(frozen=True)
class Alert:
    """An alerting rule.

    Parameters
    ----------
    alarm
        Its name and severity, and where the runbook has it.
    comment
        Why it is as it is; may be empty.
    expr
        What must have a value.
    summary, description
        Its text, a template; line breaks count as spaces.
    timing
        `for` and `keep_firing_for`.
    """

    alarm: Alarm
    comment: str
    expr: str
    summary: str
    description: str
    timing: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Give the lines of its YAML, the first without its dash."""
        yield f"alert: {self.alarm.name}"
        yield from _text("expr", cleandoc(self.expr), "|")
        for name, duration in self.timing.items():
            yield f"{name}: {duration}"
        yield from _mapping("labels", {"severity": self.alarm.severity})
        yield "annotations:"
        for name in ("summary", "description"):
            for line in _text(name, cleandoc(getattr(self, name)), ">-", always=True):
                yield f"  {line}"
        yield f"  runbook_url: {self.alarm.runbook}"


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after another.

    Parameters
    ----------
    name
        Its name.
    rules
        In the order of evaluation: a rule sees what those before it have just recorded.
    comment
        What is written above it.
    interval
        How often; None stands for what Prometheus is configured with.
    """

    name: str
    rules: Sequence[Rule]
    comment: str = ""
    interval: str | None = None

    def lines(self) -> Iterator[str]:
        """Give the lines of its YAML."""
        yield from _comment(self.comment)
        yield f"- name: {self.name}"
        if self.interval is not None:
            yield f"  interval: {self.interval}"
        yield "  rules:"
        for number, rule in enumerate(self.rules):
            if number and rule.comment:
                yield ""
            for line in _comment(rule.comment):
                yield f"    {line}"
            for place, line in enumerate(rule.lines()):
                yield f"    {'  ' if place else '- '}{line}"


@dataclass(frozen=True)
class File:
    """A file of rules.

    Parameters
    ----------
    comment
        Its manual.
    groups
        What it holds.
    """

    comment: str
    groups: Sequence[Group]

    def rendered(self) -> str:
        """Give its text."""
        lines = [*_comment(f"{ORIGIN}\n\n{cleandoc(self.comment)}"), "", "groups:"]
        for number, group in enumerate(self.groups):
            if number:
                lines.append("")
            lines += [f"  {line}" for line in group.lines()]
        return "".join(f"{line.rstrip()}\n" for line in lines)


def _comment(text: str) -> Iterator[str]:
    """Wrap paragraphs; lines that are indented are kept as they are."""
    for number, paragraph in enumerate(cleandoc(text).split("\n\n") if text else ()):
        if number:
            yield "#"
        kept = any(line.startswith(" ") for line in paragraph.splitlines())
        lines = paragraph.splitlines() if kept else textwrap.wrap(paragraph, WIDTH)
        yield from (f"# {line}" for line in lines)


def _mapping(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if not values:
        return
    yield f"{name}:"
    for line in yaml.safe_dump(dict(values), sort_keys=False).splitlines():
        yield f"  {line}"


def _text(name: str, text: str, style: str, *, always: bool = False) -> Iterator[str]:
    """Write a text: behind its name if it is one line that YAML reads as it is, else as a block."""
    plain = f"{name}: {text}"
    if not always and "\n" not in text and yaml.safe_load(plain) == {name: text}:
        yield plain
        return
    yield f"{name}: {style}"
    for line in text.splitlines():
        yield f"  {line}"
