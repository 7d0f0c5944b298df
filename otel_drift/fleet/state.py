"""The file in which the fleet's detector keeps what it knows between two runs.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     file = StateFile(Path(folder) / "fleet.json")
...     file.write({"tick": 15.0})
...     file.read()
{'tick': 15.0}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast


class StateFile:
    """A JSON file that is there as a whole, old or new, whenever the machine stops."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file.

        Raises
        ------
        OSError
            If it cannot be written; the old one is then still there.
        """
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self) -> dict[str, Any] | None:
        """Give what was written, or None if there is no file.

        Raises
        ------
        ValueError
            If it holds something else.
        OSError
            If it cannot be read.
        """
        try:
            content: Any = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{self.path}: not a state of otel-drift fleet: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{self.path}: not a state of otel-drift fleet")
        return cast("dict[str, Any]", content)
