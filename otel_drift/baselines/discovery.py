"""Finding a model's baseline without a word from the user.

A model loaded from ``digits.keras`` has the name ``digits``, and its baseline is the file
``digits.baseline.json`` beside it. An option names another file, or a folder with a file for each
model name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_drift.baselines.baseline import Baseline, load_baselines
from otel_drift.baselines.files import SUFFIX, path_beside
from otel_drift.baselines.fingerprint import fingerprint_of

SECONDS_TO_SAVE = 600
"""A model may be saved so much later than its baseline and still be the same."""


def find_baselines(
    asked: Baseline | Mapping[str, Any] | Path | None,
    model_name: str,
    model_path: str | os.PathLike[str] | None,
) -> dict[str, Baseline]:
    """Find the baselines of a model's outputs, by output name; empty if there are none.

    Parameters
    ----------
    asked
        A baseline, one for each output by name, or where to look: a file or a folder. None looks
        beside the model.
    model_name
        What a file in a folder is called after.
    model_path
        File that the model was loaded from, beside which one is looked for.

    Raises
    ------
    FileNotFoundError
        If the file that was named is not there.
    ValueError
        If the file is broken; names file, field and value.
    """
    if isinstance(asked, Mapping):
        return {output: _one(value) for output, value in asked.items()}
    if isinstance(asked, Baseline):
        return {asked.output: asked}
    if asked is not None:
        if not asked.is_dir():
            return load_baselines(asked)
        candidate = asked / f"{model_name}{SUFFIX}"
    elif model_path is not None:
        candidate = path_beside(model_path)
    else:
        return {}
    return load_baselines(candidate) if candidate.is_file() else {}


def version_of(baselines: Mapping[str, Baseline]) -> str | None:
    """Tell baselines from others by a short text: a digest of all of a model's; None without any.

    >>> version_of({"output": Baseline.uniform(2)})
    'c3133050'
    """
    if not baselines:
        return None
    content = "".join(f"{name} {baselines[name].fingerprint}" for name in sorted(baselines))
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def outdated(
    baselines: Mapping[str, Baseline], model: Any, model_path: str | os.PathLike[str] | None
) -> str | None:
    """Say why a model's baselines are not those of this model, if that shows.

    Parameters
    ----------
    baselines
        By output name.
    model
        Compared with the fingerprint that they were saved with.
    model_path
        File of the model, for baselines without a fingerprint: they should not be older.
    """
    for baseline in baselines.values():
        if baseline.model_fingerprint is not None:
            if baseline.model_fingerprint != fingerprint_of(model):
                return f"{baseline.source} was taken from a model with other weights"
        elif model_path is not None and _is_older(baseline.source, model_path):
            return f"{baseline.source} is older than {os.fspath(model_path)}"
    return None


def _is_older(baseline_path: str, model_path: str | os.PathLike[str]) -> bool:
    if not os.path.isfile(baseline_path):
        return False  # it was made in code
    saved = os.path.getmtime(baseline_path) + SECONDS_TO_SAVE
    return os.path.getmtime(model_path) > saved


def _one(value: Baseline | str | os.PathLike[str]) -> Baseline:
    return value if isinstance(value, Baseline) else Baseline.load(value)
