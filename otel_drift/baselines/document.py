"""The JSON document that holds the baselines of one model, an entry for each output.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "pets.baseline.json"
...     write_document(path, [Entry("output", ["cat", "dog"], None, [120, 80])], None)
...     read_document(path).entries[0].counts
[120, 80]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from otel_drift.baselines.files import json_object, read_json, shortened, write_json
from otel_drift.outputs.decision import Decision
from otel_drift.package import __version__

SCHEMA_VERSION = 2
"""Version 2 added ``variation``."""
READABLE_VERSIONS = (1, 2)


class Entry(NamedTuple):
    """What is kept of one output; counts or proportions, as they stand in the file."""

    output: str
    classes: list[str]
    decision: Decision | None
    counts: Any
    proportions: Any = None
    variation: Any = None
    """How a log varied, as JSON."""


class Document(NamedTuple):
    """What a file holds."""

    model_fingerprint: str | None
    entries: list[Entry]


def write_document(path: Path, entries: Sequence[Entry], model_fingerprint: str | None) -> None:
    """Write a file, whole or not at all."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_fingerprint": model_fingerprint,
        "versions": _versions(),
        "outputs": {entry.output: _to_json(entry) for entry in entries},
    }
    write_json(content, path)


def read_document(path: Path) -> Document:
    """Read a file; numbers are left as they are, for whoever makes baselines of them to check.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a baseline file of a known schema version; names file, field and value.
    """
    content = read_json(path)
    version = content.get("schema_version")
    if version not in READABLE_VERSIONS:
        raise ValueError(
            f"{path}: field 'schema_version' is {version!r}: this version of otel_drift "
            f"({__version__}) reads {' and '.join(map(str, READABLE_VERSIONS))}"
        )
    outputs = json_object(content.get("outputs"), path, "field 'outputs'")
    if not outputs:
        raise ValueError(f"{path}: field 'outputs' is empty: it must name at least one output")
    fingerprint = content.get("model_fingerprint")
    entries = [_from_json(path, output, entry) for output, entry in outputs.items()]
    return Document(fingerprint and str(fingerprint), entries)


def _from_json(path: Path, output: str, value: Any) -> Entry:
    entry = json_object(value, path, f"field 'outputs.{output}'")
    where = f"{path}: field 'outputs.{output}."
    classes: Any = entry.get("classes")
    if not isinstance(classes, list) or not all(
        isinstance(one, str) for one in cast("list[Any]", classes)
    ):
        raise ValueError(
            f"{where}classes' is {shortened(entry.get('classes'))}: must be a list of names"
        )
    decision = None
    if entry.get("decision") is not None:
        raw = json_object(entry["decision"], path, f"field 'outputs.{output}.decision'")
        try:
            decision = Decision.from_json(raw)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}decision': {error}") from error
    counts, proportions = entry.get("counts"), entry.get("proportions")
    if counts is None and proportions is None:
        raise ValueError(f"{where}counts' is missing: an output needs 'counts' or 'proportions'")
    variation = entry.get("variation")
    if variation is not None:
        variation = json_object(variation, path, f"field 'outputs.{output}.variation'")
    return Entry(output, cast("list[str]", classes), decision, counts, proportions, variation)


def _to_json(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"classes": entry.classes}
    if entry.counts is not None:
        found |= {"size": sum(entry.counts), "counts": entry.counts}
    else:
        found |= {"size": None, "proportions": entry.proportions}
    if entry.decision is not None:
        found["decision"] = entry.decision.to_json()
    if entry.variation is not None:
        found["variation"] = entry.variation
    return found


def _versions() -> dict[str, str]:
    found = {"otel_drift": __version__, "numpy": np.__version__}
    keras = sys.modules.get("keras")
    if keras is not None:
        found["keras"] = str(getattr(keras, "__version__", "unknown"))
    return found
