"""How much the predictions of a whole fleet depend on each other: the design effect of its ticks.

Within a tick the order of predictions is not known, so dependence cannot show there. It shows in
how the class counts of ticks differ from those of their neighbours: rows of one call are alike in
whichever replica they were predicted, and so are the clicks of a visitor who is served by many.

>>> rng = np.random.default_rng(1)
>>> dependence = TickDependence(np.full(4, 0.25))
>>> for _ in range(80):  # ticks of 100 calls; each call has 16 rows of one class
...     dependence.update(16 * np.bincount(rng.integers(0, 4, 100), minlength=4))
>>> round(dependence.measured)
16

It is measured as in the processes (`otel_drift.drift.design_effect`), in stretches of one tick
and of eight, each compared with seven neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.design_effect import (
    BEYOND,
    BLOCKS_OF_ITS_OWN,
    CELLS,
    NEIGHBOURS,
    REMEMBERED,
    SAFE,
    UNKNOWN,
    block_ratios,
    clear,
    in_cells,
)

Floats = NDArray[np.float64]

SMALLEST = 128
"""Predictions in a stretch at the least, as in the processes: smaller ticks are put together."""
STRETCHES = 2
"""Lengths of stretches: of one tick, and of eight.

Longer ones would take a day's rhythm inside the band for dependence: counts are so many in a fleet
that any wander shows."""


class TickDependence:
    """Measure the design effect of what a fleet predicts in each tick.

    Parameters
    ----------
    base
        Shares that are expected, shape (K,).
    known
        Design effect that the baseline's log or keys of units tell; None where nobody has told.
    """

    def __init__(self, base: Floats, known: float | None = None) -> None:
        self.known = known
        cells = min(CELLS, len(base))
        self._order = None if cells == len(base) else np.argsort(-base, kind="stable")
        self._stretch = np.zeros(cells)
        self._waiting: list[list[Floats]] = [[] for _ in range(STRETCHES)]
        self._ratios: list[list[Floats]] = [[] for _ in range(STRETCHES)]
        self._values = np.ones(STRETCHES)

    @property
    def measured(self) -> float:
        """The design effect as it is now: what is known of it, or more if that is clear."""
        return max(self.known or 1.0, self._found())

    @property
    def read_with(self) -> float:
        """Predictions of the next tick that are to count as one: it follows from those before."""
        if self.known is None and not self._ratios[0]:
            return UNKNOWN
        found = self._found()
        return max(self.known or 1.0, SAFE * found if found > 1 else 1.0)

    def update(self, counts: NDArray[np.int64]) -> None:
        """Take the class counts of a tick, shape (K,)."""
        self._stretch += in_cells(counts[None].astype(np.float64), self._order)[0]
        if self._stretch.sum() < SMALLEST:
            return
        part, self._stretch = self._stretch, np.zeros_like(self._stretch)
        for length, (waiting, rows) in enumerate(zip(self._waiting, self._ratios, strict=True)):
            waiting.append(part)
            if len(waiting) < NEIGHBOURS:
                return
            block = np.array(waiting)[None]
            waiting.clear()
            rows.append(block_ratios(block)[0])
            del rows[:-REMEMBERED]
            found = float(clear(_robust(np.array(rows))[None])[0])
            if length and len(rows) < BLOCKS_OF_ITS_OWN and self._values[length - 1] == 1:
                found = 1.0  # in one block of few a drift that begins looks the same
            self._values[length] = found
            part = block[0].sum(axis=0)

    def _found(self) -> float:
        expected = 1.0 if self.known is None else BEYOND * self.known
        return float(self._values[self._values > expected].max(initial=1.0))

    def state(self) -> dict[str, Any]:
        """All that it remembers, for JSON."""
        return {
            "stretch": self._stretch.tolist(),
            "waiting": [np.array(one).tolist() for one in self._waiting],
            "ratios": [np.array(one).round(4).tolist() for one in self._ratios],
            "values": self._values.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is damaged.
        """
        cells = len(self._stretch)
        stretch, values = (np.array(state[name], np.float64) for name in ("stretch", "values"))
        waiting, ratios = (
            [[_finite(row, width) for row in rows] for rows in state[name]]
            for name, width in (("waiting", cells), ("ratios", cells + 2))
        )
        if len(waiting) != STRETCHES or len(ratios) != STRETCHES or values.shape != (STRETCHES,):
            raise ValueError("dependence: another number of lengths")
        self._stretch, self._values = _finite(stretch, cells), _finite(values, STRETCHES)
        self._waiting, self._ratios = waiting, ratios


def _robust(rows: Floats) -> Floats:
    """Take the lower of two blocks: in one of them a drift may begin, which their mean would show.

    The median of more does not see it.
    """
    return rows.min(axis=0, keepdims=True) if len(rows) == 2 else rows


def _finite(values: Any, size: int) -> Floats:
    found = np.array(values, np.float64)
    if found.shape != (size,) or not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"{found.shape} numbers, ({size},) expected, finite and at least 0")
    return found
