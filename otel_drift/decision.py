"""How a row of a model's output becomes a class label.

>>> Decision.parse("threshold:0.7")
Decision(kind='threshold', threshold=0.7, edges=())
>>> Decision.parse("argmax").kind
'argmax'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

Kind = Literal["argmax", "threshold", "multilabel", "bins", "label"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Decision:
    """How a row of a model's output becomes a class label.

    Parameters
    ----------
    kind
        ``argmax``: the last axis holds one score a class, the largest wins; every position of the
        axes before it is a prediction. ``threshold``: one score a row, class 1 from the threshold
        on. ``multilabel``: the last axis holds one score a label, each label a prediction of its
        own with two classes. ``bins``: one value a row, the class is the bin it falls into.
        ``label``: the values are labels already.
    threshold
        Score from which ``threshold`` and ``multilabel`` decide for class 1.
    edges
        Inner edges of the bins, ascending: ``len(edges) + 1`` classes; a value equal to an edge
        belongs to the bin above it.

    Raises
    ------
    ValueError
        If the kind is unknown, the threshold is not finite, or the edges are missing or do not
        ascend.
    """

    kind: Kind
    threshold: float = 0.5
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"decision kind {self.kind!r}: must be one of {', '.join(KINDS)}")
        if not math.isfinite(self.threshold):
            raise ValueError(f"decision threshold {self.threshold!r}: must be a finite number")
        if self.kind == "bins":
            if not self.edges:
                raise ValueError("decision edges (): bins need at least one inner edge")
            if not all(map(math.isfinite, self.edges)):
                raise ValueError(f"decision edges {self.edges!r}: must be finite")
            if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
                raise ValueError(f"decision edges {self.edges!r}: must ascend")

    @classmethod
    def parse(cls, text: str) -> Decision:
        """Read ``argmax``, ``label``, or ``threshold`` or ``multilabel`` with ``:SCORE``.

        Raises
        ------
        ValueError
            If it is none of these. Bins are not written by hand: they come from a baseline.
        """
        kind, _, score = text.partition(":")
        if kind not in ("argmax", "label", "threshold", "multilabel"):
            raise ValueError(
                f"decision {text!r}: must be argmax, label, threshold:SCORE or multilabel:SCORE"
            )
        if score and kind in ("argmax", "label"):
            raise ValueError(f"decision {text!r}: {kind} takes no score")
        try:
            return cls(cast("Kind", kind), float(score or 0.5))
        except ValueError:
            raise ValueError(f"decision {text!r}: the score must be a finite number") from None
