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

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.design_effect import BEYOND, BLOCKS_OF_ITS_OWN, SAFE, UNKNOWN
from otel_drift.drift.dispersion import CELLS, RecentBlocks, in_cells

Floats = NDArray[np.float64]

SMALLEST = 128
"""Predictions in a stretch at the least, as in the processes: smaller ticks are put together."""
LENGTHS = 2
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
        self._stretches = [RecentBlocks(1, cells) for _ in range(LENGTHS)]
        self._values = np.ones(LENGTHS)

    @property
    def measured(self) -> float:
        """The design effect as it is now: what is known of it, or more if that is clear."""
        return max(self.known or 1.0, self._found())

    @property
    def read_with(self) -> float:
        """Predictions of the next tick that are to count as one: it follows from those before."""
        if self.known is None and not self._stretches[0].blocks:
            return UNKNOWN
        found = self._found()
        return max(self.known or 1.0, SAFE * found if found > 1 else 1.0)

    def update(self, counts: NDArray[np.int64]) -> None:
        """Take the class counts of a tick, shape (K,)."""
        self._stretch += in_cells(counts[None].astype(np.float64), self._order)[0]
        if self._stretch.sum() < SMALLEST:
            return
        part, self._stretch = self._stretch[None], np.zeros_like(self._stretch)
        for length, stretches in enumerate(self._stretches):
            if stretches.wait(part):
                return
            blocks, _, found, *_ = stretches.update(part, np.zeros(1, np.int64))
            self._values[length] = self._believed(length, float(found[-1]), stretches.blocks)
            part = blocks[0].sum(axis=0, keepdims=True)

    def _believed(self, length: int, found: float, blocks: int) -> float:
        """Take no drift that begins for dependence: in one block of few it looks the same."""
        if length and blocks < BLOCKS_OF_ITS_OWN and self._values[length - 1] == 1:
            return 1.0
        # The median of two is their mean; that of more does not see one of them.
        return min(found, float(self._values[length])) if blocks == 2 else found

    def _found(self) -> float:
        expected = 1.0 if self.known is None else BEYOND * self.known
        return float(self._values[self._values > expected].max(initial=1.0))

    def state(self) -> str:
        """All that it remembers, as text."""
        data = b"".join(one.astype(one.dtype.newbyteorder("<")).tobytes() for one in self._arrays())
        return base64.b85encode(zlib.compress(data)).decode()

    def restore(self, state: str) -> None:
        """Go on from a `state`.

        Raises
        ------
        TypeError, ValueError
            If it is damaged, or of other classes.
        """
        arrays = self._arrays()
        size = sum(one.nbytes for one in arrays)
        try:
            data = zlib.decompressobj().decompress(base64.b85decode(state), size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes, {size} expected")
        start = 0
        for one in arrays:
            found = np.frombuffer(data, one.dtype.newbyteorder("<"), one.size, start)
            if not np.isfinite(found).all():
                raise ValueError("a number that is not finite")
            one[...] = found.reshape(one.shape)
            start += one.nbytes

    def _arrays(self) -> list[NDArray[Any]]:
        of_stretches = [one for some in self._stretches for one in some.arrays().values()]
        return [self._stretch, self._values, *of_stretches]
