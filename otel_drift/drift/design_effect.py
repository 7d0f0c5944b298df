"""How much predictions depend on each other: the design effect.

It is the variance of class counts over what independent predictions would have. Rows of one call,
frames of one video or the clicks of one visitor are alike, so that n of them say as much about the
shares as n / (design effect) independent ones.

>>> import numpy as np
>>> from otel_drift.drift.chunks import chunk_counts
>>> rng = np.random.default_rng(1)
>>> alike = np.repeat(rng.integers(0, 4, 400), 32)  # calls of 32 rows, each call of one class
>>> live = LiveDesignEffect(np.full(4, 0.25))
>>> read_with = live.update(chunk_counts(alike, 4))
>>> round(live.measured)
31

It is measured in stretches of several lengths, each compared with seven neighbours, so that a slow
change of the shares does not look like dependence. What is not clearly above 1 counts as 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import CHUNK
from otel_drift.drift.dispersion import CELLS, RecentBlocks, in_cells

Floats = NDArray[np.float64]

PARTS = 4
"""Parts of a stretch: chunks of the shortest, else stretches of the next shorter length."""
LENGTHS = 4
"""Lengths of stretches: 4, 16, 64 and 256 chunks."""
BLOCKS_OF_ITS_OWN = 5
"""Blocks before a length is believed that shorter ones do not bear out."""

UNKNOWN = float(CHUNK)
"""Assumed before the first block where no log has told: all rows of a chunk are alike."""
SAFE = 1.25
"""Times the measured design effect is what chunks are read with: units may differ in size."""
BEYOND = 1.5
"""Times the log's design effect from which on the live one is believed instead."""


class LiveDesignEffect:
    """Measure the design effect of a stream as it goes.

    Parameters
    ----------
    base
        Shares that are expected, shape (K,): the commonest classes are looked at.
    of_log
        Design effects that a log had, of each length of stretches that it was long enough for;
        None where there was no log.
    least
        Design effect that chunks are read with at the least.
    """

    def __init__(
        self, base: Floats, of_log: Sequence[float] | None = None, least: float = 1.0
    ) -> None:
        cells = min(CELLS, len(base))
        self._order = None if cells == len(base) else np.argsort(-base, kind="stable")
        self._least = least
        self._before = 1.0 if of_log is not None else UNKNOWN
        self._expected = np.ones(LENGTHS)
        if of_log is not None:
            self._expected[:] = math.inf
            self._expected[: len(of_log)] = BEYOND * np.array(of_log)
        self._values = np.ones(LENGTHS)
        self._stretches = [RecentBlocks(PARTS, cells) for _ in range(LENGTHS)]

    def __copy__(self) -> LiveDesignEffect:
        return copy.deepcopy(self)  # one that shares arrays would go on with this one

    @property
    def measured(self) -> float:
        """The design effect as it is now: what the log had, or more if that is clear.

        Without a log it is 1 where there is no clear dependence.
        """
        found = np.where(self._values > self._expected, self._values, 1.0)
        return max(self._least, float(found.max()))

    @property
    def beyond(self) -> bool:
        """Whether it is far larger than the log's, or than 1 where there was no log."""
        return self.measured > BEYOND * self._least

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it remembers, by name."""
        found: dict[str, NDArray[Any]] = {"design_effects": self._values}
        for length, stretches in enumerate(self._stretches):
            found |= {f"stretch_{length}_{name}": one for name, one in stretches.arrays().items()}
        return found

    def update(self, counts: Floats, worth: Floats | float = 1.0) -> Floats:
        """Take chunks, and give the design effect that each is to be read with.

        Parameters
        ----------
        counts
            Class counts of chunks, shape (T, K), none empty.
        worth
            What a prediction of each counts as already, shape (T,).

        Returns
        -------
        shape (T,), at least 1. That of a chunk follows from the chunks before it alone.
        """
        chunks, parts = len(counts), in_cells(counts, self._order)
        at_first = self._before * np.broadcast_to(worth, chunks)
        shortest = self._stretches[0]
        if shortest.wait(parts):  # no block is complete: nothing new
            now = np.full(chunks, self._now()) if shortest.blocks else at_first
            return np.maximum(now, self._least)
        values = np.tile(self._values, (chunks + 1, 1))
        known, ends = shortest.blocks > 0, np.arange(1, chunks + 1)
        started = 0
        for length, stretches in enumerate(self._stretches):
            before = stretches.blocks
            blocks, ends, found, *_ = stretches.update(parts, ends)
            if not len(blocks):
                break
            if length == 0:
                started = 0 if known else int(ends[0])
            elif few := max(0, BLOCKS_OF_ITS_OWN - 1 - before):
                # In one block of few a drift that begins looks the same; not in shorter stretches.
                found[:few][values[ends[:few], length - 1] == 1] = 1.0
            values[ends[0] :, length] = np.repeat(found, np.diff(ends, append=chunks + 1))
            parts = blocks.reshape(-1, blocks.shape[2])
            ends = np.repeat(ends, blocks.shape[1])
        self._values[:] = values[-1]
        largest = np.where(values > self._expected, SAFE * values, 1.0).max(axis=1)[:-1]
        largest[:started] = at_first[:started]
        return np.maximum(largest, self._least)

    def _now(self) -> float:
        """Give the design effect that the next chunk is read with, from the first block on."""
        larger = self._values > self._expected
        return SAFE * float(self._values[larger].max(initial=1.0 / SAFE))
