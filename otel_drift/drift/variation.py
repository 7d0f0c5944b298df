"""How a stream varies while nothing is wrong: learnt from a log of it.

>>> import numpy as np
>>> calm = Variation(1.0, (1.0,) * 5, np.array([0.3, 0.7]), np.array([0.3, 0.7]), 512, 40)
>>> calm.design_effect
1.0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Variation:
    """Dependence of predictions on each other, and how far shares move by themselves.

    Attributes
    ----------
    design_effect
        Predictions that say as much about the shares as one independent one; at least 1.
    design_effects
        The same as measured in stretches of each length that
        `otel_drift.drift.design_effect.LiveDesignEffect` looks at: what the live stream is held
        against.
    lower, upper
        Hull of the shares of the log's blocks, noise taken off, shape (K,).
    block_length
        Predictions in a block.
    blocks
        Number of blocks.

    Raises
    ------
    ValueError
        If a design effect is below 1, an edge is not between 0 and 1, or the hull is empty.
    """

    design_effect: float
    design_effects: tuple[float, ...]
    lower: Floats
    upper: Floats
    block_length: int
    blocks: int

    def __post_init__(self) -> None:
        for value in (self.design_effect, *self.design_effects):
            if not 1 <= value < np.inf:
                raise ValueError(f"design effect {value!r}: must be a number from 1")
        for edge in (self.lower, self.upper):
            if not ((edge >= 0) & (edge <= 1)).all():
                raise ValueError(f"hull {edge.tolist()!r}: must be shares from 0 to 1")
            edge.flags.writeable = False
        if not (
            len(self.lower) == len(self.upper)
            and (self.lower <= self.upper).all()
            and self.lower.sum() <= 1 + 1e-9
            and self.upper.sum() >= 1 - 1e-9
        ):
            raise ValueError("hull: lower edges must lie below upper ones, with a sum of 1 between")
