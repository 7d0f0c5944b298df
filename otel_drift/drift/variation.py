"""How a stream varies while nothing is wrong: learnt from a log of it.

>>> import numpy as np
>>> calm = Variation(1.0, (1.0,) * 5, np.array([0.3, 0.7]), np.array([0.3, 0.7]), 512, 40)
>>> calm.design_effect
1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALL_LENGTHS = (2, 8, 32, 128, 512, 2_048)
"""Rows from which on calls are compared with each other, up to the next."""


@dataclass(frozen=True)
class CallVariation:
    """Dependence within calls, and what is left of it between them.

    Attributes
    ----------
    correlations
        Intra-class correlation of the rows of calls, of each length in
        `CALL_LENGTHS`; NaN where the log had too few such calls.
    design_effect, design_effects
        As of `Variation`, but between calls: of predictions that count as what their call leaves
        them worth.
    worth_one
        Predictions that say as much as one independent one, on average over the log; at least 1.

    Raises
    ------
    ValueError
        If a design effect is below 1, or a correlation not between 0 and 1.
    """

    correlations: tuple[float, ...]
    design_effect: float
    design_effects: tuple[float, ...]
    worth_one: float

    def __post_init__(self) -> None:
        _check_design_effects(self.design_effect, *self.design_effects, self.worth_one)
        for value in self.correlations:
            if not (math.isnan(value) or 0 <= value <= 1):
                raise ValueError(f"correlation {value!r}: must be a number from 0 to 1")
        if len(self.correlations) != len(CALL_LENGTHS):
            raise ValueError(f"{len(self.correlations)} correlations: must be {len(CALL_LENGTHS)}")

    def to_json(self) -> dict[str, Any]:
        """Give it as `from_json` reads it."""
        known = [None if math.isnan(value) else value for value in self.correlations]
        return {**asdict(self), "correlations": known}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, TypeError
            If a field is missing or holds something else.
        """
        _check_fields(value, cls)
        return cls(
            tuple(math.nan if one is None else float(one) for one in value["correlations"]),
            float(value["design_effect"]),
            tuple(float(one) for one in value["design_effects"]),
            float(value["worth_one"]),
        )


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
    calls
        Where the log told which predictions were of one call.

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
    calls: CallVariation | None = None

    def __post_init__(self) -> None:
        _check_design_effects(self.design_effect, *self.design_effects)
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

    @property
    def worth_one(self) -> float:
        """Predictions that say as much as one independent one, on average over the log."""
        return self.design_effect if self.calls is None else self.calls.worth_one

    def to_json(self) -> dict[str, Any]:
        """Give it as `from_json` reads it."""
        return {
            "design_effect": self.design_effect,
            "design_effects": list(self.design_effects),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "block_length": self.block_length,
            "blocks": self.blocks,
            "calls": self.calls and self.calls.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, TypeError
            If a field is missing or holds something else.
        """
        _check_fields({"calls": None, **value}, cls)
        calls = value.get("calls")
        return cls(
            float(value["design_effect"]),
            tuple(float(one) for one in value["design_effects"]),
            np.array(value["lower"], np.float64),
            np.array(value["upper"], np.float64),
            int(value["block_length"]),
            int(value["blocks"]),
            None if calls is None else CallVariation.from_json(calls),
        )


def _check_design_effects(*values: float) -> None:
    for value in values:
        if not 1 <= value < math.inf:
            raise ValueError(f"design effect {value!r}: must be a number from 1")


def _check_fields(value: Mapping[str, Any], of: type[Any]) -> None:
    for field in fields(of):
        if field.name not in value:
            raise ValueError(f"field {field.name!r} is missing")
