"""Outputs that a device has yet to deliver: counted once they are ready.

No call waits for them. Whoever collects metrics does.

>>> import numpy as np
>>> from otel_drift.outputs.arrays import Later
>>> outputs = LateOutputs()
>>> not_ready = Later(ready=lambda: False, read=lambda: np.array([2, 0]), labels=True)
>>> outputs.add(not_ready, lambda labels: print(labels))
>>> outputs.settle(collecting=False)
>>> outputs.settle(collecting=True)
[2 0]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from otel_drift.outputs.arrays import Later

ROOM = 1024
"""Outputs that may be late; beyond it the oldest is waited for."""


class LateOutputs:
    """The late outputs of one model, oldest first."""

    def __init__(self) -> None:
        self._outputs: deque[tuple[Later, Callable[[NDArray[Any]], None]]] = deque()

    def add(self, later: Later, count: Callable[[NDArray[Any]], None]) -> None:
        """Keep an output, and what counts it."""
        self._outputs.append((later, count))

    def settle(self, *, collecting: bool) -> None:
        """Count what is ready; if metrics are being collected, wait for the rest.

        Raises
        ------
        Exception
            What reading an output failed with, after all the others have been counted.
        """
        failure: Exception | None = None
        waiting: list[tuple[Later, Callable[[NDArray[Any]], None]]] = []
        for _ in range(len(self._outputs)):
            try:
                later, count = self._outputs.popleft()
            except IndexError:
                break  # another thread counts, too
            try:
                if collecting or len(self._outputs) >= ROOM or later.ready():
                    count(later.read())
                else:
                    waiting.append((later, count))
            except Exception as error:  # such as an array that the user deleted
                failure = error
        self._outputs.extendleft(reversed(waiting))
        if failure is not None:
            raise failure
