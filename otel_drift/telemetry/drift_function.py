"""The user's own drift test: a function of inputs and outputs, run beside the predictions.

It is given what went into a prediction and what came out, and returns a p-value and a statistic,
or a result that has them by name, like SciPy's, or None where there is not enough data:

>>> def all_alike(x, y):
...     return 0.5, float(len(y))
>>> test = DriftFunction("alike", all_alike, failed=print)
>>> test.submit([1, 2, 3], [0, 0, 1])
>>> test.wait(seconds=10)
True
>>> test.take_results()
[UserTestResult(p_value=0.5, statistic=3.0)]

It runs in a thread of its own, so a slow one delays nothing: what waits is bounded, and what finds
no room is counted as ``drift_function_overflow``. Arrays are copied before they wait, since the
caller may go on writing to them.
"""

from __future__ import annotations

import atexit
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

ROOM = 64
"""Predictions that may wait for the function."""
UNREAD_RESULTS = 100_000
SECONDS_AT_EXIT = 5.0
"""How long the end of the program waits for what has been submitted."""


class UserTestResult(NamedTuple):
    """What the user's function found."""

    p_value: float
    statistic: float


class DriftFunction:
    """Run one drift function in the background.

    Parameters
    ----------
    name
        The output name under which its p-values are exported.
    function
        Takes inputs and outputs; returns ``(p_value, statistic)``, a result with such fields (as
        SciPy's have), or None.
    failed
        Called with an error type and a sentence when the function raises, returns nonsense, or
        falls behind.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Any, Any], tuple[float, float] | None],
        failed: Callable[..., None],
    ) -> None:
        self.name = name
        self._function = function
        self._failed = failed
        self.reset()
        _alive.add(self)

    def reset(self) -> None:
        """Start anew, with a thread and locks of its own: for the child of a fork."""
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Any, Any]] = deque()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._closed = False
        self._results: deque[UserTestResult] = deque(maxlen=UNREAD_RESULTS)
        self.newest: UserTestResult | None = None

    def submit(self, x: Any, y: Any) -> None:
        """Let the function see one prediction, later."""
        if len(self._waiting) >= ROOM:
            self._failed(
                "drift_function_overflow",
                f"drift function {self.name!r} is slower than the predictions: some are not tested",
                subject=self.name,
                traceback=False,
            )
            return
        entry = (_copied(x), _copied(y))
        with self._changed:
            self._waiting.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"otel_drift {self.name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread once everything submitted has been tested."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until everything submitted has been tested; False if that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def take_results(self) -> list[UserTestResult]:
        """Return the results since the last time; each is returned once."""
        taken: list[UserTestResult] = []
        while True:
            try:
                taken.append(self._results.popleft())
            except IndexError:  # none left, or another thread takes them too
                return taken

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    self._thread = None
                    return
                x, y = self._waiting.popleft()
                self._busy = True
            try:
                self._test(x, y)
            finally:
                del x, y
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _test(self, x: Any, y: Any) -> None:
        try:
            result = _checked(self._function(x, y))
        except BaseException as error:  # sys.exit() too: the thread has more to test
            what = f"drift function {self.name!r}: {_shown(error)}"
            self._failed("drift_function", what, subject=self.name)
            return
        if result is None:
            return
        self.newest = result
        self._results.append(result)


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


def _checked(found: Any) -> UserTestResult | None:
    """Read what the function returned; None where it had not enough data.

    Raises
    ------
    TypeError, ValueError
        If it is no p-value and statistic.
    """
    named = _by_name(found)
    if found is None or named == (None, None):
        return None
    p_value, statistic = (float(value) for value in named or found)
    if not 0 <= p_value <= 1:
        raise ValueError(f"p-value {p_value!r}: must be from 0 to 1")
    if not math.isfinite(statistic):
        raise ValueError(f"statistic {statistic!r}: must be finite")
    return UserTestResult(p_value, statistic)


FIELDS = (("p_value", "statistic"), ("pvalue", "statistic"), ("p_value", "test_statistic"))
"""Names of the two in a result that has names: ours, SciPy's, gangplank's."""


def _by_name(found: Any) -> tuple[Any, Any] | None:
    """Read a result by its names: SciPy's, taken as a pair, has the statistic first."""
    for p_value, statistic in FIELDS:
        if hasattr(found, p_value) and hasattr(found, statistic):
            return getattr(found, p_value), getattr(found, statistic)
    return None


def _copied(value: Any) -> Any:
    """Copy arrays and tensors, also in lists and dicts; leave everything else as it is."""
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(one) for one in value)
    if hasattr(value, "detach"):  # a torch tensor
        return value.detach().clone()
    if hasattr(value, "__array_interface__"):
        return value.copy()
    return value


_alive: weakref.WeakSet[DriftFunction] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    for test in list(_alive):
        test.wait(SECONDS_AT_EXIT)
