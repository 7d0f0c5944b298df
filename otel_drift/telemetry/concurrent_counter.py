"""A sum that any number of threads add to, exactly, without waiting for each other.

>>> counter = ConcurrentCounter()
>>> counter.add(3)
>>> counter.add(4)
>>> counter.total()
7
"""

from __future__ import annotations

import threading
from collections import deque

PENDING = 4096


class ConcurrentCounter:
    """Add from many threads; the adding itself is one append to a lock-free deque."""

    __slots__ = ("_lock", "_pending", "_total")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start at 0 with a lock of its own: for the child of a fork."""
        self._lock = threading.Lock()
        self._pending: deque[int] = deque()
        self._total = 0

    def add(self, number: int) -> None:
        """Add a whole number."""
        self._pending.append(number)
        if len(self._pending) >= PENDING and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def total(self) -> int:
        """Return the sum of everything added."""
        with self._lock:
            self._settle()
            return self._total

    def take(self) -> int:
        """Return the sum and start at 0."""
        with self._lock:
            self._settle()
            taken, self._total = self._total, 0
            return taken

    def _settle(self) -> None:
        while True:
            try:
                self._total += self._pending.popleft()
            except IndexError:
                return
