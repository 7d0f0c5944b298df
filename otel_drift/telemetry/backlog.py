"""The calls that are yet to be counted, of all models of the process.

A call appends one small entry and goes on: it takes no lock and works nothing out. A thread of its
own, and whoever collects metrics, work the entries off, in slices between which they let go of the
interpreter. So a prediction waits for no more than a slice, and each is counted once:

>>> class Method:
...     def take(self, found, seconds, context):
...         print("counted", found, "after", seconds, "s")
...
...     def works(self, at_leisure):
...         return iter(())
...
...     def full(self):
...         print("the caller had to help")
>>> backlog = Backlog()
>>> backlog.add((Method(), "3 rows", 0.25, None))
>>> backlog.work_off()
counted 3 rows after 0.25 s

Only where calls come faster than they are counted, until `MOST_CALLS` or `MOST_BYTES` wait, does a
caller help: it counts the oldest few, which is reported as ``backlog_full``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import Context

MOST_CALLS = 40_000
"""Calls that may wait: of few rows, and so of up to 0.8 kB, they hold 32 MB at most."""
MOST_BYTES = 32_000_000
"""What the labels of larger calls, and the contexts of sampled spans, may hold besides."""
CONTEXT_BYTES = 4_000
"""About what a context holds: a span that has ended, with its attributes."""
HELP = 8
"""Calls that a caller counts where too many wait."""

SECONDS_BETWEEN = 0.5
"""How often the thread looks."""
SECONDS_UNUSED = 5.0
"""How long without a call until it sleeps."""
SLICE_SECONDS = 0.00012
"""How long entries are taken before the interpreter is let go."""
PAUSE_SECONDS = 0.00005
"""Shortest sleep between slices: a thread that waits for the interpreter wakes up and has it."""
REST, LONGEST_REST_SECONDS = 4.0, 0.01
"""Sleep of the thread, in times of the slice before, and at most: so that no call meets two, and
those of a while share what counting costs instead of a few having it all."""
MANY_CALLS = 10_000
"""Calls that wait from which on the thread does not rest."""
SECONDS_TO_WAIT = 5.0
"""How long a collection waits for another thread's slice: ever so much longer than one takes."""
SECONDS_TO_HELP = 0.05
"""How long a caller does, which may have interrupted that slice itself, in a signal handler."""


class Counted(Protocol):
    """The method of a model that was called."""

    def take(self, found: Any, seconds: float | None, context: Context | None) -> None:
        """Count a call: never raises."""
        ...

    def works(self, *, at_leisure: bool) -> Iterator[None]:
        """Work out what has been counted, a piece a step: never raises.

        At leisure only what is worth while.
        """
        ...

    def full(self) -> None:
        """Report that a caller had to help."""
        ...


Call = tuple[Counted, Any, float | None, Context | None]
"""The method that was called, what it gave, how many seconds it took (None: it is not timed), and
the context it ran in, where there is one."""


def pause(worked: float = 0.0) -> None:
    """Let the other threads run, after slices of so many seconds in which they had to wait."""
    time.sleep(min(LONGEST_REST_SECONDS, max(PAUSE_SECONDS, REST * worked)))


class Backlog:
    """Entries of calls, oldest first."""

    __slots__ = ("_lock", "_starting", "_thread", "_wake", "bytes", "calls", "most")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start empty, without a thread: in the child of a fork."""
        self.calls: deque[Call] = deque()
        """Whoever appends compares its length with `most`, and calls `attend` where it is more."""
        self.most = 0
        """Calls that may wait; 0 while the thread sleeps, so that the next call wakes it."""
        self.bytes = 0
        """About what the larger entries hold. It may miss some under threads: it is a bound."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._starting = threading.Lock()

    def add(self, call: Call) -> None:
        """Append an entry. The caller's path does the same in place."""
        self.calls.append(call)
        if len(self.calls) > self.most:
            self.attend(call[0])

    def add_large(self, call: Call, size: int) -> None:
        """Append an entry of so many bytes."""
        self.calls.append(call)
        self.bytes += size
        if len(self.calls) > self.most or self.bytes > MOST_BYTES:
            self.attend(call[0])

    def attend(self, method: Counted) -> None:
        """Wake the thread; where it does not get along, help it."""
        if self.most == 0:
            self._start()
        elif len(self.calls) > self.most or self.bytes > MOST_BYTES:
            method.full()
            _, touched = self._slice(HELP, SECONDS_TO_HELP)
            for one in touched:
                for _ in one.works(at_leisure=True):
                    pass

    def work_off(self, *, at_leisure: bool = False) -> None:
        """Count everything that waits: never raises, and holds no lock for longer than a slice.

        Parameters
        ----------
        at_leisure
            Whether nobody waits for it, so that it may rest in between.
        """
        left = len(self.calls)  # not what comes in the meantime, or it might never end
        touched: dict[Counted, None] = {}
        while True:
            begun = time.thread_time()
            taken, methods = self._slice(max(1, left), SECONDS_TO_WAIT)
            touched.update(methods)
            left -= taken
            if left <= 0 or not taken:
                break
            self._let_others(begun, at_leisure)
        for method in touched:
            begun = time.thread_time()
            for _ in method.works(at_leisure=at_leisure):
                self._let_others(begun, at_leisure)
                begun = time.thread_time()

    def _let_others(self, begun: float, at_leisure: bool) -> None:
        """Let other threads run after a slice, given the processor time when it began."""
        rests = at_leisure and len(self.calls) < MANY_CALLS
        pause(time.thread_time() - begun if rests else 0.0)

    @contextmanager
    def still(self) -> Generator[None]:
        """Let nobody count calls meanwhile."""
        locked = self._lock.acquire(timeout=SECONDS_TO_WAIT)
        token = otel_context.attach(Context())
        try:
            yield
        finally:
            otel_context.detach(token)
            if locked:
                self._lock.release()

    def _slice(self, most: int, patience: float) -> tuple[int, dict[Counted, None]]:
        """Take the oldest entries for `SLICE_SECONDS`; give how many, and of which methods.

        Waits for a slice of another thread, so that what that has taken is counted, too. With a
        limit, because the durations are recorded by an SDK that is not ours.
        """
        touched: dict[Counted, None] = {}
        taken = 0
        if not self._lock.acquire(timeout=patience):
            return taken, touched
        # Not in the context of whoever collects: a span of that is not the span of the call.
        token = otel_context.attach(Context())
        try:
            end = time.perf_counter() + SLICE_SECONDS
            while taken < most and (taken == 0 or time.perf_counter() < end):
                method, found, seconds, context = self.calls.popleft()
                touched[method] = None
                method.take(found, seconds, context)
                taken += 1
        except IndexError:
            self.bytes = 0  # nothing waits any longer
        finally:
            otel_context.detach(token)
            self._lock.release()
        return taken, touched

    def _start(self) -> None:
        self.most = MOST_CALLS
        self._wake.set()
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                self._thread = threading.Thread(target=self._run, name="otel_drift", daemon=True)
                self._thread.start()
            except RuntimeError:  # there is no thread to be had: collections and callers count
                self._thread = None
            finally:
                self._starting.release()

    def _run(self) -> None:
        used = time.monotonic()
        while True:
            time.sleep(SECONDS_BETWEEN)
            if self.calls:
                used = time.monotonic()
                self.work_off(at_leisure=True)
            elif time.monotonic() - used > SECONDS_UNUSED:
                self._wake.clear()
                self.most = 0
                if not self.calls:  # what comes from now on sees that the thread sleeps
                    self._wake.wait()
                self.most = MOST_CALLS
                used = time.monotonic()


BACKLOG = Backlog()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BACKLOG.reset)
