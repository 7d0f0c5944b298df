"""The file of a model's baselines: where it lies, and its JSON, whole or not at all.

>>> path_beside("models/digits.keras").name
'digits.baseline.json'
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

SUFFIX = ".baseline.json"
MODEL_SUFFIXES = (".weights.h5", ".keras", ".h5", ".hdf5")


def model_stem(model_path: str | os.PathLike[str]) -> str:
    """Give the name of a model file without its suffix: ``digits`` of ``digits.keras``."""
    name = Path(model_path).name
    for suffix in MODEL_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def path_beside(model_path: str | os.PathLike[str]) -> Path:
    """Where the baseline of a model file lies: ``digits.keras`` has ``digits.baseline.json``."""
    return Path(model_path).with_name(model_stem(model_path) + SUFFIX)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Mapping[str, Any]:
    """Read the JSON object that a file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds something else; names the file.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such baseline file") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not a JSON file that can be read: {error}") from error
    return json_object(content, path, "the file")


def json_object(value: Any, path: Path, what: str) -> Mapping[str, Any]:
    """Give a JSON object as it is.

    Raises
    ------
    ValueError
        If it is none; names the file, what it should be, and the value.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {what} is {shortened(value)}: must be a JSON object")
    return cast("Mapping[str, Any]", value)


def shortened(value: object) -> str:
    """Show a value in an error, 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
