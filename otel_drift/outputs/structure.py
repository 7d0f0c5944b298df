"""The arrays of a (nested) model output, and their names.

>>> [name for name, _ in leaves({"kind": 1, "box": [2, 3]})]
['kind', 'box.0', 'box.1']
>>> [name for name, _ in leaves("one array")]
['output']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np


def leaves(output: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Name the arrays of a (nested) model output by where they stand in it.

    A single array is named ``output``, the parts of a list by their index, those of a dict by
    their key, deeper ones by the path with dots.
    """
    if isinstance(output, Mapping):
        items: Any = cast("Mapping[Any, Any]", output).items()
    elif isinstance(output, (list, tuple)):
        items = enumerate(cast("Sequence[Any]", output))
    else:
        yield path or "output", output
        return
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def parts(y: Any) -> list[tuple[str, Any]]:
    """Name the arrays of an output; a plain list of labels is one array, not a list of outputs."""
    items = cast("list[Any]", y)
    a_list = isinstance(y, (list, tuple)) and len(items) > 0
    if a_list and isinstance(items[0], (str, int, float, np.generic)):
        return [("output", np.asarray(items))]
    return list(leaves(items))
