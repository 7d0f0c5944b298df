"""From what a model returns to class labels.

A prediction is watched as a stream of class labels. Which label a row of a model's output stands
for is decided by a `~otel_drift.decision.Decision`: the largest score, a threshold, the bin that a
regressed value falls into, or the value itself where the output already is a label.

>>> import numpy as np
>>> from otel_drift.decision import Decision
>>> scores = np.array([[0.1, 0.9], [0.8, 0.2], [np.nan, 0.5]], dtype="float32")
>>> labels_of(scores, Decision("argmax")).tolist()
[1, 0, -1]
>>> labels_of(np.array([[0.2], [0.7]]), Decision("threshold", threshold=0.5)).tolist()
[0, 1]

A row that cannot be decided (NaN, infinity) is `INVALID`; it is counted as the class ``invalid``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from otel_drift.decision import Decision

Labels = NDArray[np.integer[Any]]

INVALID = -1
"""Label of a row that holds NaN or infinity, or that lies outside the known classes."""
OTHER = -2
"""Label of a row whose class the baseline does not name."""


def leaves(output: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Name the arrays of a (nested) model output by where they stand in it.

    A single array is named ``output``, the parts of a list by their index, those of a dict by
    their key, deeper ones by the path with dots.

    >>> [name for name, _ in leaves({"kind": 1, "box": [2, 3]})]
    ['kind', 'box.0', 'box.1']
    >>> [name for name, _ in leaves("one array")]
    ['output']
    """
    if isinstance(output, Mapping):
        items: Any = cast("Mapping[Any, Any]", output).items()
    elif isinstance(output, (list, tuple)):
        items = enumerate(cast("Sequence[Any]", output))
    else:
        yield path or "output", output
        return
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def labels_of(values: NDArray[Any], decision: Decision) -> Labels:
    """Turn an output array into labels, one a prediction, in row order.

    Parameters
    ----------
    values
        ``argmax``: shape (n, K) or (n, ..., K). ``threshold`` and ``bins``: (n,) or (n, 1).
        ``label``: any shape of numbers.
    decision
        How to decide; not ``multilabel``, whose labels `label_columns` gives one by one.

    Returns
    -------
    labels
        Shape (predictions,); ``INVALID`` for a row with NaN or infinity.

    Raises
    ------
    ValueError
        If the array has not the shape that the decision needs.
    """
    if decision.kind == "argmax":
        return _argmax(values)
    if decision.kind == "label":
        return _whole_labels(values)
    column = _column(values, decision.kind)
    if decision.kind == "bins":
        # In double precision: the edges are, and rounding them to a half float moves rows.
        column = column.astype(np.float64)
        labels = np.searchsorted(np.asarray(decision.edges), column, side="right")
    else:
        labels = (column >= decision.threshold).astype(np.int8)
    return _mark_invalid(labels, column)


def label_columns(values: NDArray[Any], threshold: float) -> list[Labels]:
    """Turn a multi-label output (n, K) into one array of 0/1 labels for each of its K columns."""
    if values.ndim != 2:
        raise ValueError(f"output of shape {values.shape}: a multi-label output has 2 axes")
    decision = Decision("threshold", threshold=threshold)
    return [labels_of(values[:, column], decision) for column in range(values.shape[1])]


def _argmax(values: NDArray[Any]) -> Labels:
    if values.ndim != 2:
        if values.ndim < 2:
            raise ValueError(f"output of shape {values.shape}: argmax needs (rows, classes)")
        values = values.reshape(-1, values.shape[-1])
    if values.shape[1] < 2:
        raise ValueError(f"output of shape {values.shape}: argmax needs at least 2 classes")
    # The methods, not the functions of the same name, which cost 1.5 microseconds more.
    labels: Labels = values.argmax(1)
    if values.dtype.kind in "iub":
        return labels
    if values.dtype.kind not in "fV":
        raise ValueError(f"output of type {values.dtype}: scores must be real numbers")
    # A sum of squares is NaN or infinite if any value is: the cheapest exact first look.
    if not math.isfinite(float(np.vdot(values, values))):
        labels = _mark_invalid(labels, values)
    return labels


def _mark_invalid(labels: Labels, values: NDArray[Any]) -> Labels:
    finite = np.isfinite(values.astype(np.float32) if values.dtype.kind == "V" else values)
    if values.ndim == 2:
        finite = finite.all(axis=1)
    if finite.all():
        return labels
    return np.where(finite, labels, INVALID)


def _column(values: NDArray[Any], kind: str) -> NDArray[Any]:
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"output of shape {values.shape}: {kind} needs (rows,) or (rows, 1)")
    return values


def _whole_labels(values: NDArray[Any]) -> Labels:
    flat = values.reshape(-1)
    if flat.dtype.kind in "iub":
        return flat.astype(np.int64)
    if flat.dtype.kind not in "fV":
        raise ValueError(f"labels of type {flat.dtype}: must be whole numbers")
    number = flat.astype(np.float64)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(number) & (number == np.floor(number)) & (np.abs(number) < 2**62)
    return np.where(whole, number, INVALID).astype(np.int64)


def guessed_decision(values: NDArray[Any], activation: str | None) -> Decision | None:
    """How to read an output where nobody said: only what leaves no doubt, else None.

    Parameters
    ----------
    values
        The first output array that was seen.
    activation
        Name of the activation that made it, if known.

    Notes
    -----
    Softmax, or rows of probabilities that sum to 1, are scores by class. Sigmoid is class 1 against
    class 0 in one column, and a label of its own in each of several. A linear output may be logits
    or a regression: nobody can tell from outside.
    """
    columns = values.shape[-1] if values.ndim >= 2 else 1
    if activation == "sigmoid":
        return Decision("threshold") if columns == 1 else Decision("multilabel")
    if columns >= 2 and (activation in ("softmax", "log_softmax") or _probabilities(values)):
        return Decision("argmax")
    return None


def activation_of(model: Any, output: str, values: NDArray[Any]) -> str | None:
    """Name of the activation behind one output of a model, if it shows.

    A model with a graph shows it. Of a subclassed one only the order of the layers is known: its
    last is taken for what makes its only output where size and range agree with that.
    """
    symbolic = symbolic_outputs(model)
    if symbolic:
        history = getattr(symbolic.get(output), "_keras_history", None)
        return _activation(getattr(history, "operation", None))
    if output != "output":
        return None
    layers = getattr(model, "layers", None) or [None]
    units = getattr(layers[-1], "units", None)
    if values.ndim != 2 or units != values.shape[1] or not _within_0_and_1(values):
        return None
    activation = _activation(layers[-1])
    return activation if activation == "sigmoid" else None  # softmax shows in the values


def _activation(layer: Any) -> str | None:
    activation = getattr(layer, "activation", None)
    if activation is None and type(layer).__name__ in ("Softmax", "Sigmoid"):
        return type(layer).__name__.lower()
    return getattr(activation, "__name__", None)


def symbolic_outputs(model: Any) -> dict[str, Any]:
    """Symbolic tensor of each output by name, of a model with a graph; else empty."""
    try:
        return dict(leaves(model.output))
    except (AttributeError, ValueError):
        outputs = getattr(model, "outputs", None)  # a Sequential has no `output`
        return {"output": outputs[0]} if outputs else {}


def shapes_of(model: Any) -> dict[str, tuple[int | None, ...]]:
    """Shape of each output of a built model by name; empty where it does not tell."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in symbolic_outputs(model).items()
        if hasattr(tensor, "shape")
    }


def undecidable(values: NDArray[Any]) -> bool:
    """Whether an array holds no row from which it could be told how to read it."""
    return values.size == 0 or (
        values.dtype.kind in "fV" and not np.isfinite(values.astype(np.float64)).any()
    )


def _within_0_and_1(values: NDArray[Any]) -> bool:
    number = values.astype(np.float64)
    number = number[np.isfinite(number)]
    return bool(number.size and (number >= 0).all() and (number <= 1).all())


def _probabilities(values: NDArray[Any]) -> bool:
    number = values.reshape(-1, values.shape[-1]).astype(np.float64)
    number = number[np.isfinite(number).all(axis=1)]
    return bool(
        len(number) and (number >= 0).all() and np.allclose(number.sum(axis=1), 1, atol=1e-2)
    )
