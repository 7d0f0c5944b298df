"""Finding a model's baseline without a word from the user.

A model loaded from ``digits.keras`` has the name ``digits``, and its baseline is the file
``digits.baseline.json`` beside it. An option names another file, or a folder with a file for each
model name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from otel_drift.baseline import SUFFIX, Baseline, load_baselines, path_beside
from otel_drift.config import Options


def find_baselines(
    options: Options, model_name: str, model_path: str | os.PathLike[str] | None
) -> dict[str, Baseline]:
    """Find the baselines of a model's outputs, by output name; empty if there are none.

    Parameters
    ----------
    options
        Whose `baseline` says where to look.
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
    asked = options.baseline
    if isinstance(asked, Mapping):
        return {output: _one(value) for output, value in asked.items()}
    if isinstance(asked, Baseline):
        return {asked.output: asked}
    if asked is not None:
        if not asked.is_dir():
            return load_baselines(asked)
        candidate = asked / f"{model_name}{SUFFIX}"
    elif model_path is not None and options.first is None:
        candidate = path_beside(model_path)
    else:
        return {}
    return load_baselines(candidate) if candidate.is_file() else {}


def _one(value: Baseline | str | os.PathLike[str]) -> Baseline:
    return value if isinstance(value, Baseline) else Baseline.load(value)
