"""One output of a model: how it becomes labels, and the monitors that they go to.

What is not certain is not guessed: where neither the user nor the baseline says how to read an
output, only a softmax, a sigmoid or rows of probabilities are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from otel_drift.decision import Decision
from otel_drift.monitor import MAXIMUM_EXPORTED, DriftMonitor
from otel_drift.outputs import Labels, guessed_decision, label_columns, labels_of


class Watched:
    """One output that is understood."""

    def __init__(self, decision: Decision, monitors: Mapping[str, DriftMonitor]) -> None:
        self.decision = decision
        self.monitors = dict(monitors)

    def labels(self, values: NDArray[Any]) -> list[Labels]:
        """Decide the rows of an output array: labels for each monitor."""
        if self.decision.kind == "multilabel":
            return label_columns(values, self.decision.threshold)
        return [labels_of(values, self.decision)]

    def count(self, labels: list[Labels]) -> None:
        """Hand labels to the monitors."""
        for monitor, one in zip(self.monitors.values(), labels, strict=True):
            monitor.append(one)


class Reading(NamedTuple):
    """How an output is to be read, or why it cannot be."""

    decision: Decision | None
    classes: int
    """Number of classes of each series; 0 where the labels do not tell."""
    series: tuple[str, ...]
    """Output names of the series: one, or one a label."""
    problem: str | None


def reading_of(
    output: str,
    values: NDArray[Any],
    asked: Decision | None,
    expected: Mapping[str, DriftMonitor],
    activation: str | None,
) -> Reading:
    """Decide how an output is to be read, from its first array.

    Parameters
    ----------
    output
        Its name.
    values
        Its first array.
    asked
        What the user said, if anything.
    expected
        The monitors with a baseline for it, by series name.
    activation
        Name of the activation that made it, if it shows.
    """
    decision = asked or _of_baseline(values, expected) or guessed_decision(values, activation)
    if decision is None:
        return Reading(None, 0, (), f"cannot tell what shape {values.shape} stands for")
    if decision.kind == "multilabel":
        columns = values.shape[-1]
        series = tuple(expected) or tuple(f"{output}.{k}" for k in range(columns))
        problem = None
        if len(series) != columns:
            problem = f"the baseline has {len(series)} labels, but the output has {columns}"
        elif columns > MAXIMUM_EXPORTED:
            return Reading(None, 0, (), f"has {columns} labels, more than {MAXIMUM_EXPORTED}")
        return Reading(decision, 2, series, problem)
    classes = 2
    if decision.kind == "argmax":
        classes = values.shape[-1]
    elif decision.kind == "bins":
        classes = len(decision.edges) + 1
    elif decision.kind == "label":
        classes = 0
    problem = None
    for monitor in expected.values():
        if classes and classes not in monitor.class_counts:
            problem = (
                f"the baseline has {max(monitor.class_counts)} classes, "
                f"but the output has {classes}"
            )
    return Reading(decision, classes, tuple(expected) or (output,), problem)


def expected_monitors(
    output: str, only: bool, monitors: Mapping[str, DriftMonitor]
) -> dict[str, DriftMonitor]:
    """Find the monitors that were prepared for an output: its own, its labels', or the only one."""
    if output in monitors:
        return {output: monitors[output]}
    labels = {name: monitor for name, monitor in monitors.items() if name.startswith(f"{output}.")}
    if labels:
        return labels
    return dict(monitors) if only and len(monitors) == 1 else {}


def _of_baseline(values: NDArray[Any], expected: Mapping[str, DriftMonitor]) -> Decision | None:
    """Take what the baseline says, or what its number of classes leaves no doubt about."""
    for monitor in expected.values():
        baseline = monitor.baseline
        if baseline is None:
            continue
        if baseline.decision is not None:
            return baseline.decision
        if values.dtype.kind in "iub" and values.ndim == 1:
            return Decision("label")
        if values.ndim >= 2 and values.shape[-1] >= 2:
            return Decision("argmax")
    return None
