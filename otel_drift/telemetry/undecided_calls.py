"""Calls of a torch model that may turn out to be training.

A call that records gradients may be the forward half of a training step, and nothing in the call
tells. It is counted once the model has been called again, or has been left alone, with gradients
and weights unchanged; it is dropped if they changed. Nothing waits on the caller's thread.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from weakref import ReferenceType

SECONDS_UNDECIDED = 1.0
"""How long another thread leaves a call alone whose output is still in use: a backward pass may
follow."""

_ending = threading.Event()
atexit.register(_ending.set)


class PossibleStep(Protocol):
    """The sign of a training step, which may come of a call that looked like a prediction."""

    output: ReferenceType[Any]
    """What the model returned: while it lives, a backward pass may follow."""

    def unchanged(self) -> bool:
        """Whether gradients and weights are as they were when the model returned."""
        ...


class _Undecided(NamedTuple):
    step: PossibleStep
    predicted: Callable[[], None]
    thread: int
    since: float


class UndecidedCalls:
    """The undecided calls of one model, oldest first."""

    def __init__(self) -> None:
        self.calls: deque[_Undecided] = deque()

    def add(self, step: PossibleStep, predicted: Callable[[], None]) -> None:
        """Keep a call until it is clear that no training step came of it.

        Parameters
        ----------
        step
            The sign of a training step.
        predicted
            Called if it was a prediction.
        """
        self.calls.append(_Undecided(step, predicted, threading.get_ident(), time.monotonic()))

    def decide(self, *, collecting: bool) -> None:
        """Count or drop what can be decided.

        Parameters
        ----------
        collecting
            Whether metrics are being collected, rather than the model called again.
        """
        waiting: list[_Undecided] = []
        for _ in range(len(self.calls)):
            try:
                call = self.calls.popleft()
            except IndexError:
                break  # another thread decides, too
            if not call.step.unchanged():
                continue
            if collecting and not _left_alone(call):
                waiting.append(call)
            else:
                call.predicted()
        self.calls.extendleft(reversed(waiting))


def _left_alone(call: _Undecided) -> bool:
    """Whether no backward pass is to be expected, although the model was not called again."""
    return (
        threading.get_ident() == call.thread
        or call.step.output() is None
        or time.monotonic() - call.since >= SECONDS_UNDECIDED
        or _ending.is_set()
    )
