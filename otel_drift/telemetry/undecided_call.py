"""A call of a torch model that may turn out to be training.

A call that records gradients may be the forward half of a training step, and nothing in the call
tells. It is counted once the model has been called again, or has been left alone, with gradients
and weights unchanged; it is dropped if they changed. Nothing waits on the caller's thread.

>>> import weakref
>>> class Sign:
...     def __init__(self, step):
...         self.step, self.output = step, lambda: None
...
...     def unchanged(self):
...         return self.step == 7
...
...     def precedes(self, later):
...         return self.step == later.step
>>> undecided = Undecided()
>>> undecided.follow(Sign(3), lambda: print("counted"))  # the first: nothing is known of it yet
>>> undecided.follow(Sign(3), lambda: print("dropped"))  # no step between the two
counted
>>> undecided.follow(Sign(7), lambda: print("counted at last"))
>>> undecided.decide()  # read from the thread that called: it has gone on
counted at last
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

SECONDS_UNDECIDED = 1.0
"""How long another thread leaves a call alone whose output is still in use: a backward pass may
follow."""

_ending = threading.Event()
atexit.register(_ending.set)


class PossibleStep(Protocol):
    """The sign of a training step: gradients and weights as they were when a model returned."""

    output: Callable[[], Any]
    """Gives what the model returned while it lives: so long a backward pass may follow."""

    def unchanged(self) -> bool:
        """Whether they still are so."""
        ...

    def precedes(self, later: Self) -> bool:
        """Whether they still were so when a later call returned."""
        ...


class _Call(NamedTuple):
    sign: PossibleStep
    predicted: Callable[[], None]
    thread: int
    since: float


class Undecided:
    """The newest call of a model, as long as it is undecided."""

    __slots__ = ("_call",)

    def __init__(self) -> None:
        self._call: _Call | None = None

    def follow(
        self,
        sign: PossibleStep,
        predicted: Callable[[], None],
        thread: int | None = None,
        since: float | None = None,
    ) -> None:
        """Keep a call, and decide the one before it.

        Parameters
        ----------
        sign
            Of a training step that may come of it.
        predicted
            Called if it was a prediction.
        thread, since
            Who called, and when that returned (``time.monotonic``): this thread, now, if None.
        """
        before = self._call
        self._call = _Call(
            sign,
            predicted,
            threading.get_ident() if thread is None else thread,
            time.monotonic() if since is None else since,
        )
        if before is not None and before.sign.precedes(sign):
            before.predicted()

    def end(self, sign: PossibleStep, unchanged: bool) -> None:
        """Decide the call of a sign, as a later call of another kind found it."""
        call = self._call
        if call is not None and call.sign is sign:
            self._call = None
            if unchanged:
                call.predicted()

    def decide(self) -> None:
        """Decide the call if its model has been left alone, without another call."""
        call = self._call
        if call is None:
            return
        if not call.sign.unchanged():
            self._call = None
        elif (
            threading.get_ident() == call.thread
            or call.sign.output() is None
            or time.monotonic() - call.since >= SECONDS_UNDECIDED
            or _ending.is_set()
        ):
            self._call = None
            call.predicted()
