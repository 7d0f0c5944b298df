"""Calls whose predictions cannot be counted yet.

Two things are waited for, never on the caller's thread. An output that a device has yet to deliver
is counted once it is ready. A call of a torch model that records gradients may be the forward half
of a training step, and nothing in the call tells: it is counted once the model has been called
again, or has been left alone, with gradients and weights unchanged; it is dropped if they changed.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType

from numpy.typing import NDArray

from otel_drift.outputs.arrays import Later

ROOM = 1024
"""Calls that may be pending; beyond it the oldest is decided at once."""
SECONDS_UNDECIDED = 1.0
"""How long another thread leaves a call alone whose output is still in use: a backward pass may
follow."""

_ending = threading.Event()
atexit.register(_ending.set)


@dataclass(slots=True)
class PendingCall:
    """A pending call: asked for its verdict, then counted or dropped."""

    verdict: Callable[[bool], bool | None]
    """Given whether metrics are being collected: True to count, False to drop, None to wait."""
    count: Callable[[], None]


class PendingCalls:
    """The pending calls of one model, oldest first."""

    def __init__(self) -> None:
        self.calls: deque[PendingCall] = deque()

    def until_ready(self, later: Later, count: Callable[[NDArray[Any]], None]) -> None:
        """Keep an output until its device has delivered it; whoever collects waits for it."""
        self._add(
            PendingCall(
                lambda collecting: True if collecting or later.ready() else None,
                lambda: count(later.read()),
            )
        )

    def until_no_training(
        self, unchanged: Callable[[], bool], output: ReferenceType[Any], count: Callable[[], None]
    ) -> None:
        """Keep a call until it is clear that no training step came of it.

        Parameters
        ----------
        unchanged
            Whether gradients and weights are as they were when the model returned.
        output
            What the model returned: while it lives, a backward pass may follow.
        count
            Counts the call.
        """
        thread, since = threading.get_ident(), time.monotonic()

        def verdict(collecting: bool) -> bool | None:
            if not unchanged():
                return False
            decided = (
                not collecting  # the model is called again
                or threading.get_ident() == thread
                or output() is None
                or time.monotonic() - since >= SECONDS_UNDECIDED
                or _ending.is_set()
            )
            return True if decided else None

        self._add(PendingCall(verdict, count))

    def _add(self, call: PendingCall) -> None:
        self.calls.append(call)
        if len(self.calls) > ROOM:
            self.settle(collecting=True, most=1)

    def settle(self, *, collecting: bool, most: int = ROOM + 1) -> None:
        """Count or drop what can be decided.

        Parameters
        ----------
        collecting
            Whether metrics are being collected, rather than the model called again.
        most
            Decide at most so many.

        Raises
        ------
        Exception
            What reading a call failed with, after all the others have been settled.
        """
        failure: Exception | None = None
        waiting: list[PendingCall] = []
        for _ in range(min(most, len(self.calls))):
            try:
                call = self.calls.popleft()
            except IndexError:
                break  # another thread settles too
            try:
                verdict = call.verdict(collecting)
                if verdict is None:
                    waiting.append(call)
                elif verdict:
                    call.count()
            except Exception as error:  # such as an array that the user deleted
                failure = error
        self.calls.extendleft(reversed(waiting))
        if failure is not None:
            raise failure
