"""How a stream varies while nothing is wrong: learnt from a log of it.

>>> import numpy as np
>>> calm = Variation(1.0, (1.0,) * 5, np.array([0.3, 0.7]), np.array([0.3, 0.7]), 512, 40)
>>> calm.design_effect
1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

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

    def to_json(self) -> dict[str, Any]:
        """Give it as `from_json` reads it."""
        return {
            "design_effect": self.design_effect,
            "design_effects": list(self.design_effects),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "block_length": self.block_length,
            "blocks": self.blocks,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, TypeError
            If a field is missing or holds something else.
        """
        for name in ("design_effect", "design_effects", "lower", "upper", "block_length", "blocks"):
            if name not in value:
                raise ValueError(f"field {name!r} is missing")
        return cls(
            float(value["design_effect"]),
            tuple(float(one) for one in value["design_effects"]),
            np.array(value["lower"], np.float64),
            np.array(value["upper"], np.float64),
            int(value["block_length"]),
            int(value["blocks"]),
        )
