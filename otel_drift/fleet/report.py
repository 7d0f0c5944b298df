"""The state of a fleet as a table, for ``otel-drift fleet --once``.

>>> from otel_drift.fleet.counters import Output
>>> found = Finding(
...     Output("digits", "7", "output"), 9_000, 750, 7.31, 7.0, 1.0, 3, 1, 0.0, {"4": 0.002}
... )
>>> print(table([found], {Output("pets", "", "output"): "no baseline"}))
model   version  output   predictions  in tick  evidence  state
digits  7        output         9,000      750  7.3 of 7  drift since 1970-01-01 00:00:00Z: class 4 to 0.2%
pets             output                                   not watched: no baseline
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from otel_drift.fleet.counters import Output
from otel_drift.fleet.fleet import Finding

HEADS = ("model", "version", "output", "predictions", "in tick", "evidence", "state")
NUMBERS = {3, 4}
"""Columns that are aligned on the right."""


def table(findings: Sequence[Finding], refused: Mapping[Output, str]) -> str:
    """Write a line for each output, those that are not watched last."""
    rows = [HEADS, *(_watched(found) for found in sorted(findings))]
    rows += [
        (*_names(output), "", "", "", f"not watched: {reason}")
        for output, reason in sorted(refused.items())
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _watched(found: Finding) -> tuple[str, ...]:
    return (
        *_names(found.output),
        f"{found.predictions:,}",
        f"{found.in_tick:,}",
        f"{found.evidence:.1f} of {found.threshold:.3g}",
        _state(found),
    )


def _names(output: Output) -> tuple[str, ...]:
    # A label may hold anything, a line break too.
    return tuple(one if one.isprintable() else repr(one) for one in output)


def _state(found: Finding) -> str:
    if found.onset is None:
        return "drift" if found.active else "no drift"
    since = datetime.fromtimestamp(found.onset, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    moved = ", ".join(
        f"class {name if name.isprintable() else repr(name)} to {share:.1%}"
        for name, share in found.shares.items()
    )
    return f"drift since {since}: {moved or 'several classes'}"
