"""How an output is to be read: settled once, from its first array.

What is not certain is not guessed: where neither the user nor the baseline says how to read an
output, only a softmax, a sigmoid or rows of probabilities are read.

>>> import numpy as np
>>> interpretation_of(
...     "output", np.array([[0.9, 0.1], [0.3, 0.7]]), asked=None, expected={}, activation=None
... )
Interpretation(decision=Argmax(), classes=2, series=('output',), problem=None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.exported_classes import MAXIMUM_EXPORTED
from otel_drift.outputs.decision import Argmax, Decision, Labels, MultiLabel, Threshold, WholeLabels

P = TypeVar("P")


class Series(NamedTuple):
    """A stream of labels: what is known of it beforehand, and where it goes."""

    classes: tuple[str, ...]
    """Names of its classes: label k stands for the k-th."""
    class_counts: frozenset[int]
    """How many classes an output may have that goes there."""
    has_baseline: bool
    decision: Decision | None
    """What the baseline says of how to read it."""
    hold: Callable[[Labels], None]
    """Takes labels that nobody else will change; nothing is worked out."""


class Interpretation(NamedTuple):
    """How an output is to be read, or why it cannot be."""

    decision: Decision | None
    classes: int
    """Number of classes of each series; 0 where the labels do not tell."""
    series: tuple[str, ...]
    """Names of the series: one, or one a label."""
    problem: str | None


def interpretation_of(
    output: str,
    values: NDArray[Any],
    *,
    asked: Decision | None,
    expected: Mapping[str, Series],
    activation: str | None,
) -> Interpretation:
    """Decide how an output is to be read.

    Parameters
    ----------
    output
        Its name.
    values
        Its first array.
    asked
        What the user said, if anything.
    expected
        The series that were prepared for it, by name.
    activation
        Name of the activation that made it, if it shows.
    """
    decision = asked or _of_baseline(values, expected) or _guessed(values, activation)
    if decision is None:
        return Interpretation(None, 0, (), f"cannot tell what shape {values.shape} stands for")
    names = decision.series(output, values)
    classes = decision.class_count(values)
    if expected and len(expected) != len(names):
        problem = f"the baseline has {len(expected)} labels, but the output has {len(names)}"
        return Interpretation(decision, classes, names, problem)
    if len(names) > MAXIMUM_EXPORTED:
        return Interpretation(None, 0, (), f"has {len(names)} labels, more than {MAXIMUM_EXPORTED}")
    problem = None
    for series in expected.values():
        if classes and classes not in series.class_counts:
            problem = (
                f"the baseline has {max(series.class_counts)} classes, but the output has {classes}"
            )
    return Interpretation(decision, classes, tuple(expected) or names, problem)


def expected_series(output: str, only: bool, prepared: Mapping[str, P]) -> dict[str, P]:
    """Find what was prepared for an output: its own series, its labels', or the only one."""
    if output in prepared:
        return {output: prepared[output]}
    labels = {name: series for name, series in prepared.items() if name.startswith(f"{output}.")}
    if labels:
        return labels
    return dict(prepared) if only and len(prepared) == 1 else {}


def undecidable(values: NDArray[Any]) -> bool:
    """Whether an array holds no row from which it could be told how to read it."""
    return values.size == 0 or (
        values.dtype.kind in "fV" and not np.isfinite(values.astype(np.float64)).any()
    )


def within_0_and_1(values: NDArray[Any]) -> bool:
    """Whether all that is finite lies in [0, 1], and something is."""
    number = values.astype(np.float64)
    number = number[np.isfinite(number)]
    return bool(number.size and (number >= 0).all() and (number <= 1).all())


def _of_baseline(values: NDArray[Any], expected: Mapping[str, Series]) -> Decision | None:
    """Take what the baseline says, or what its number of classes leaves no doubt about."""
    for series in expected.values():
        if not series.has_baseline:
            continue
        if series.decision is not None:
            return series.decision
        if values.dtype.kind in "iub" and values.ndim == 1:
            return WholeLabels()
        if values.ndim >= 2 and values.shape[-1] >= 2:
            return Argmax()
    return None


def _guessed(values: NDArray[Any], activation: str | None) -> Decision | None:
    """Guess only what leaves no doubt.

    Softmax, or rows of probabilities that sum to 1, are scores by class. Sigmoid is class 1 against
    class 0 in one column, and a label of its own in each of several. A linear output may be logits
    or a regression: nobody can tell from outside.
    """
    columns = values.shape[-1] if values.ndim >= 2 else 1
    if activation == "sigmoid":
        return Threshold() if columns == 1 else MultiLabel()
    if columns >= 2 and (activation in ("softmax", "log_softmax") or _probabilities(values)):
        return Argmax()
    return None


def _probabilities(values: NDArray[Any]) -> bool:
    number = values.reshape(-1, values.shape[-1]).astype(np.float64)
    number = number[np.isfinite(number).all(axis=1)]
    return bool(
        len(number) and (number >= 0).all() and np.allclose(number.sum(axis=1), 1, atol=1e-2)
    )
