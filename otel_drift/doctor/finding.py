"""One thing that was looked at: ok, wrong with what to do, or unknown.

>>> found = [ok("keras", "keras 3.12.0"), wrong("scipy", "scipy is not there", "pip install scipy")]
>>> print(as_text(found))
ok       keras 3.12.0
wrong    scipy is not there
         -> pip install scipy
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    state: Literal["ok", "wrong", "unknown"]
    subject: str
    """A word for scripts, such as ``keras`` or ``endpoint``."""
    what: str
    remedy: str = ""
    """The one thing to do where something is wrong."""


def ok(subject: str, what: str) -> Finding:
    """Say that nothing is wrong."""
    return Finding("ok", subject, _line(what))


def wrong(subject: str, what: str, remedy: str) -> Finding:
    """Say that something is wrong, and what is to be done."""
    return Finding("wrong", subject, _line(what), _line(remedy))


def unknown(subject: str, what: str, remedy: str = "") -> Finding:
    """Say that it cannot be told from here."""
    return Finding("unknown", subject, _line(what), _line(remedy))


def as_text(findings: Iterable[Finding]) -> str:
    """Give a line for each, and one more for what to do."""
    lines: list[str] = []
    for found in findings:
        lines.append(f"{found.state:<8} {found.what}")
        if found.remedy:
            lines.append(f"{'':8} -> {found.remedy}")
    return "\n".join(lines)


def as_json(findings: Iterable[Finding]) -> str:
    """Give a list of objects: state, subject, what and remedy."""
    return json.dumps([asdict(found) for found in findings], indent=2)


def _line(text: str) -> str:
    return " ".join(text.split())
