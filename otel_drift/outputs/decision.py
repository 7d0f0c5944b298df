"""How a row of a model's output becomes a class label: a class for each way of deciding.

>>> import numpy as np
>>> scores = np.array([[0.1, 0.9], [0.8, 0.2], [np.nan, 0.5]], dtype="float32")
>>> Argmax().labels(scores)[0].tolist()
[1, 0, -1]
>>> Decision.parse("threshold:0.7").labels(np.array([[0.2], [0.7]]))[0].tolist()
[0, 1]

A row that cannot be decided (NaN, infinity) is `INVALID`; it is counted as the class ``invalid``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import as_labels
from otel_drift.drift.reference import INVALID

Labels = NDArray[np.integer[Any]]


class Decision(ABC):
    """How a row of a model's output becomes a class label.

    `Argmax`, `Threshold`, `MultiLabel`, `Bins` and `WholeLabels` are the ways there are;
    `Decision.parse` reads them from text.
    """

    kind: ClassVar[str]
    """What it is called in options and in baseline files."""
    on_device: ClassVar[bool] = False
    """Whether an accelerator may decide (by argmax), so that only labels need be copied."""

    @abstractmethod
    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Turn an output array into labels, in row order: an array for each series.

        Parameters
        ----------
        values
            What the model returned, rows first.

        Raises
        ------
        ValueError
            If the array has not the shape or type that the decision needs.
        """

    @abstractmethod
    def class_count(self, values: NDArray[Any]) -> int:
        """Give the number of classes of each series; 0 where such an array does not tell."""

    def series(self, output: str, values: NDArray[Any]) -> tuple[str, ...]:
        """Name the series of labels that an output gives: one, unless its labels are separate."""
        return (output,)

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Whether an array can be of the same output as the first one, of shape `first`."""
        return values.ndim == len(first)

    def to_json(self) -> dict[str, Any]:
        """Give what a baseline file holds of it."""
        return {"kind": self.kind}

    @staticmethod
    def parse(text: str) -> Decision:
        """Read ``argmax``, ``label``, or ``threshold`` or ``multilabel`` with ``:SCORE``.

        Raises
        ------
        ValueError
            If it is none of these. Bins are not written by hand: they come from a baseline.
        """
        kind, _, score = text.strip().partition(":")
        if kind not in ("argmax", "label", "threshold", "multilabel"):
            raise ValueError(
                f"decision {text!r}: must be argmax, label, threshold:SCORE or multilabel:SCORE"
            )
        if kind in ("argmax", "label"):
            if score:
                raise ValueError(f"decision {text!r}: {kind} takes no score")
            return KINDS[kind]()
        try:
            return Decision.from_json({"kind": kind, "threshold": float(score or 0.5)})
        except ValueError:
            raise ValueError(f"decision {text!r}: the score must be a finite number") from None

    @staticmethod
    def of(value: Decision | str) -> Decision:
        """Give a decision as it is, or parse it.

        Raises
        ------
        TypeError
            If it is neither a decision nor text.
        ValueError
            If the text is none of those that `parse` reads.
        """
        if isinstance(value, Decision):
            return value
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"decision {value!r}: must be a Decision, or a text like 'threshold:0.5'"
            )
        return Decision.parse(value)

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Decision:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            If the kind is unknown, the threshold is not finite, or the edges are missing or do not
            ascend.
        """
        kind = entry.get("kind", "argmax")
        if kind not in KINDS:
            raise ValueError(f"decision kind {kind!r}: must be one of {', '.join(KINDS)}")
        if kind == "bins":
            return Bins(tuple(float(edge) for edge in entry.get("edges", ())))
        if kind in ("threshold", "multilabel"):
            score = float(entry.get("threshold", 0.5))
            return Threshold(score) if kind == "threshold" else MultiLabel(score)
        return KINDS[kind]()


@dataclass(frozen=True)
class Argmax(Decision):
    """The last axis holds a score for each class, and the largest wins.

    Shape (n, K), or (n, ..., K) where every position of the axes between is a prediction.
    """

    kind = "argmax"
    on_device = True

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Give the place of the largest score of each row."""
        if values.ndim != 2:
            if values.ndim < 2:
                raise ValueError(f"output of shape {values.shape}: argmax needs (rows, classes)")
            values = values.reshape(-1, values.shape[-1])
        if values.shape[1] < 2:
            raise ValueError(f"output of shape {values.shape}: argmax needs at least 2 classes")
        # The methods, not the functions of the same name, which cost 1.5 microseconds more.
        labels: Labels = values.argmax(1)
        if values.dtype.kind in "iub":
            return [labels]
        if values.dtype.kind not in "fV":
            raise ValueError(f"output of type {values.dtype}: scores must be real numbers")
        # A sum of squares is NaN or infinite if any value is: the cheapest exact first look.
        if not math.isfinite(float(np.vdot(values, values))):
            labels = _mark_invalid(labels, values)
        return [labels]

    def class_count(self, values: NDArray[Any]) -> int:
        """Give the length of the last axis."""
        return int(values.shape[-1])

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Whether there are as many axes, and as many classes."""
        return values.ndim == len(first) and values.shape[-1] == first[-1]


@dataclass(frozen=True)
class Threshold(Decision):
    """A score for each row, shape (n,) or (n, 1); class 1 from the threshold on, else class 0."""

    score: float = 0.5

    kind = "threshold"

    def __post_init__(self) -> None:
        _check_finite(self.score)

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Give 1 for each row whose score is at least the threshold."""
        column = _column(values, self.kind)
        return [_mark_invalid((column >= self.score).astype(np.int8), column)]

    def class_count(self, values: NDArray[Any]) -> int:
        """Give 2."""
        return 2

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Leave it to `labels`, which refuses other shapes."""
        return True

    def to_json(self) -> dict[str, Any]:
        """Give kind and threshold."""
        return {"kind": self.kind, "threshold": self.score}


@dataclass(frozen=True)
class MultiLabel(Decision):
    """A score for each of K labels, shape (n, K); each label is a series of its own of 0 and 1."""

    score: float = 0.5

    kind = "multilabel"

    def __post_init__(self) -> None:
        _check_finite(self.score)

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Give an array of 0 and 1 for each of the K labels."""
        if values.ndim != 2:
            raise ValueError(f"output of shape {values.shape}: a multi-label output has 2 axes")
        each = Threshold(self.score)
        return [each.labels(values[:, column])[0] for column in range(values.shape[1])]

    def class_count(self, values: NDArray[Any]) -> int:
        """Give 2."""
        return 2

    def series(self, output: str, values: NDArray[Any]) -> tuple[str, ...]:
        """Name a series for each label."""
        return tuple(f"{output}.{column}" for column in range(values.shape[-1]))

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Whether there are as many axes, and as many labels."""
        return values.ndim == len(first) and values.shape[-1] == first[-1]

    def to_json(self) -> dict[str, Any]:
        """Give kind and threshold."""
        return {"kind": self.kind, "threshold": self.score}


@dataclass(frozen=True)
class Bins(Decision):
    """A value for each row, shape (n,) or (n, 1); the class is the bin that it falls into.

    Parameters
    ----------
    edges
        Inner edges of the bins, ascending: ``len(edges) + 1`` classes; a value equal to an edge
        belongs to the bin above it.
    """

    edges: tuple[float, ...]

    kind = "bins"

    def __post_init__(self) -> None:
        if not self.edges:
            raise ValueError("decision edges (): bins need at least one inner edge")
        if not all(map(math.isfinite, self.edges)):
            raise ValueError(f"decision edges {self.edges!r}: must be finite")
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"decision edges {self.edges!r}: must ascend")

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.asarray(self.edges)

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Give the bin of each value."""
        # In double precision: the edges are, and rounding them to a half float moves rows.
        column = _column(values, self.kind).astype(np.float64)
        return [_mark_invalid(np.searchsorted(self._edges, column, side="right"), column)]

    def class_count(self, values: NDArray[Any]) -> int:
        """Give the number of bins."""
        return len(self.edges) + 1

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Leave it to `labels`, which refuses other shapes."""
        return True

    def to_json(self) -> dict[str, Any]:
        """Give kind and edges."""
        return {"kind": self.kind, "edges": list(self.edges)}


@dataclass(frozen=True)
class WholeLabels(Decision):
    """The values are labels already: whole numbers, each a prediction, of any shape."""

    kind = "label"

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Give the values as they are; what is not finite and whole is `INVALID`."""
        return [as_labels(values)]

    def class_count(self, values: NDArray[Any]) -> int:
        """Give 0: labels do not tell how many classes there are."""
        return 0

    def fits(self, values: NDArray[Any], first: tuple[int, ...]) -> bool:
        """Whether there are as many axes; one of length 1 at the end does not count."""
        return _axes(values.shape) == _axes(first)


KINDS: dict[str, type[Any]] = {
    one.kind: one for one in (Argmax, Threshold, MultiLabel, Bins, WholeLabels)
}


def _axes(shape: tuple[int, ...]) -> int:
    return max(1, len(shape) - (shape[-1:] == (1,)))


def _check_finite(score: float) -> None:
    if not math.isfinite(score):
        raise ValueError(f"decision threshold {score!r}: must be a finite number")


def _column(values: NDArray[Any], kind: str) -> NDArray[Any]:
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"output of shape {values.shape}: {kind} needs (rows,) or (rows, 1)")
    return values


def _mark_invalid(labels: Labels, values: NDArray[Any]) -> Labels:
    finite = np.isfinite(values.astype(np.float32) if values.dtype.kind == "V" else values)
    if values.ndim == 2:
        finite = finite.all(axis=1)
    if finite.all():
        return labels
    return cast("Labels", np.where(finite, labels, INVALID))
