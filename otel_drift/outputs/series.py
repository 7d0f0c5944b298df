"""The series that the outputs of one model go to, whoever reads them.

What a model returns and what is handed over are read in ways of their own, but counted together:
once a series counts one number of classes, what does not fit goes to one under a name of its own,
and nothing takes its place.

>>> series = SeriesOfModel({}, start=lambda name, classes: print(name, classes))
>>> series.started("output", 3)
output 3
>>> series.started("output", 2)
output (2 classes) 2
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from otel_drift.outputs.interpretation import Series, expected_series


class SeriesOfModel:
    """The series of one model.

    Parameters
    ----------
    prepared
        Those that have a baseline, by name.
    start
        Prepares another, given its name and number of classes; None where there are no others.
    """

    def __init__(
        self, prepared: Mapping[str, Series], start: Callable[[str, int], Series] | None
    ) -> None:
        self._prepared = dict(prepared)
        self._single = len(prepared) == 1
        self._start = start
        self._counted: dict[str, int] = {}
        """Classes of each series that an output goes to; 0 where it is one with a baseline."""
        self.reset()

    def reset(self) -> None:
        """Make the lock anew in the child of a fork."""
        self.settling = threading.Lock()
        """Held by whoever settles which series an output goes to."""

    def expected(self, output: str, only: bool) -> dict[str, Series]:
        """Find what was prepared for an output, as `expected_series` does."""
        return expected_series(output, only and self._single, self._prepared)

    def take(self, names: Iterable[str]) -> None:
        """Give series with a baseline to an output that fits them."""
        self._counted.update(dict.fromkeys(names, 0))

    def leave(self, names: Iterable[str]) -> None:
        """Give up series with a baseline that the first output did not fit."""
        for name in names:  # it is counted without: no other output is tested by it
            if name not in self._counted:
                self._prepared.pop(name, None)

    def started(self, name: str, classes: int) -> Series | None:
        """Give a series without a baseline; None where there can be none.

        It has that name, or one of its own if another number of classes is counted under it.
        """
        if classes == 0 or self._start is None:
            return None  # labels without the names of their classes
        if self._counted.setdefault(name, classes) != classes:
            name = f"{name} ({classes} classes)"
        return self._start(name, classes)
