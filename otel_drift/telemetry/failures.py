"""Failures of the instrumentation itself: counted always, logged once for each subject.

>>> failures = Failures()
>>> for number in range(3):
...     failures.count((("keras.model.name", "digits"),), "drift_function", f"failure {number}")
>>> failures.counts()
{((('keras.model.name', 'digits'),), 'drift_function'): 3}
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from otel_drift.telemetry.concurrent_counter import ConcurrentCounter

logger = logging.getLogger(__name__)

ERROR_TYPES = (
    "internal",
    "output",
    "baseline",
    "baseline_outdated",
    "drift_function",
    "drift_function_overflow",
    "backlog_full",
    "series_limit",
)
"""What the instrumentation can fail at; each has a series from the start, so that its first failure
is seen."""
MAXIMUM_SUBJECTS = 20
"""Subjects of a model and an error type that are logged; the counter goes on beyond them."""

Attributes = tuple[tuple[str, str], ...]
"""Attributes of a model, as pairs."""


class Failures:
    """The failures of all models that report to one meter provider."""

    def __init__(self) -> None:
        self._counters: dict[tuple[Attributes, str], ConcurrentCounter] = {}
        self._subjects: dict[tuple[Attributes, str], set[str]] = {}

    def count(
        self,
        model: Attributes,
        error_type: str,
        what: str,
        *,
        subject: str = "",
        traceback: bool = True,
    ) -> None:
        """Count a failure; log it if it is the first of its subject. Takes no lock.

        Parameters
        ----------
        model
            Attributes of the model.
        error_type
            One of `ERROR_TYPES`.
        what
            A sentence for the log; it may differ from failure to failure.
        subject
            What failed, in words that stay the same: an output, a function, a file.
        traceback
            Whether to log the exception that is being handled.
        """
        key = (model, error_type)
        self._counters.setdefault(key, ConcurrentCounter()).add(1)
        logged = self._subjects.setdefault(key, set())
        if subject not in logged and len(logged) < MAXIMUM_SUBJECTS:
            logged.add(subject)
            with suppress(Exception):  # of the program's own handlers; counted it is
                logger.warning("%s (reported once)", what, exc_info=traceback)

    def counts(self, models: Iterable[Attributes] = ()) -> dict[tuple[Attributes, str], int]:
        """Give what has been counted, with a zero for every type of these models."""
        zeros = {(model, error_type): 0 for model in models for error_type in ERROR_TYPES}
        counted = {key: counter.total() for key, counter in list(self._counters.items())}
        return {**zeros, **counted}

    def reset(self) -> None:
        """Start at 0 in the child of a fork."""
        for counter in list(self._counters.values()):
            counter.reset()
