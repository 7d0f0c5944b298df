"""The file that a model was loaded from, and the name and version that follow from it.

Most registries give every model's file the same name, and tell models apart by their folders:

>>> identity_of("models/digits.keras")
('digits', None)
>>> identity_of("models/cats/model.keras")
('cats', None)
>>> identity_of("models/dogs/7/model.keras")
('dogs', '7')
>>> identity_of("models/dogs/v1.2.keras")
('dogs', 'v1.2')
>>> identity_of("models/dogs/checkpoint-500/model.keras")
('dogs', '500')
>>> identity_of("models/resnet50.keras")
('resnet50', None)
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_drift.baselines.files import model_stem

logger = logging.getLogger(__name__)

LOADERS = (
    ("keras.src.saving.saving_lib", "load_model"),
    ("keras.src.legacy.saving.legacy_h5_format", "load_model_from_hdf5"),
)
"""Where every way of loading a model leads, looked up at each call; private, so they may move."""
PUBLIC_LOADERS = (("keras.saving", "load_model"), ("keras.models", "load_model"))

GENERIC = frozenset(
    (
        *("model", "models", "saved_model", "savedmodel", "keras_model", "tf_model", "keras"),
        *("best", "best_model", "final", "final_model", "latest", "checkpoint", "checkpoints"),
        *("weights", "export", "artifacts", "data", "output", "outputs", "snapshots"),
        *("epoch", "step", "app", "src", "srv", "opt", "home", "root", "tmp", "workspace"),
    )
)
"""Names of files and folders that any model may have, also with a number behind them."""
VERSION = re.compile(r"v?\d+([._-]\d+)*", re.IGNORECASE)
NUMBERED = re.compile(rf"([a-z_]+?)[-_.]?({VERSION.pattern})", re.IGNORECASE)


def identity_of(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Give the name and the version that a model's file and folders tell.

    The name is the first, from the file upwards, that is neither generic (``model``, ``data``) nor
    a number; the version is the first number below it, or that of the file's own folder
    (``digits/7/digits.keras``). A path of generic names alone gives the file's.
    """
    stem = model_stem(path)
    folders = [folder.name for folder in Path(os.path.abspath(path)).parents]
    version = None
    for name in (stem, *folders):
        numbered = NUMBERED.fullmatch(name)
        if VERSION.fullmatch(name):
            version = version or name
        elif numbered and numbered[1].lower() in GENERIC:
            version = version or numbered[2]
        elif name and name.lower() not in GENERIC:
            if name == stem and folders and VERSION.fullmatch(folders[0]):
                version = folders[0]
            return name, version
    return stem, version


class Loaders:
    """The functions of Keras that load models, made to tell where each came from.

    Parameters
    ----------
    loaded
        Told of each model that was loaded, with its path.
    """

    def __init__(self, loaded: Callable[[Any, str], None]) -> None:
        self._loaded = loaded
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def install(self) -> None:
        """Replace them."""
        for places in (LOADERS, PUBLIC_LOADERS):
            for module_name, name in places:
                try:
                    module = importlib.import_module(module_name)
                    original = getattr(module, name)
                except (ImportError, AttributeError):
                    continue
                replacement = self._telling(original)
                setattr(module, name, replacement)
                self._replaced.append((module, name, original, replacement))
            if self._replaced:
                return

    def remove(self) -> None:
        """Put back what is still ours."""
        for module, name, original, replacement in self._replaced:
            if getattr(module, name, None) is replacement:
                setattr(module, name, original)
        self._replaced = []

    def _telling(self, load: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(load)
        def load_and_tell(filepath: Any, *args: Any, **kwargs: Any) -> Any:
            model = load(filepath, *args, **kwargs)
            try:
                if isinstance(filepath, (str, os.PathLike)):
                    self._loaded(model, os.fspath(filepath))
            except Exception:
                logger.warning("a loaded model's file is not remembered", exc_info=True)
            return model

        return load_and_tell
