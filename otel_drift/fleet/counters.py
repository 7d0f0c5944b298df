"""What the replicas' counters have grown by, and what they expect: two questions to Prometheus.

One expression adds up all replicas of all models. It is exact where ``increase`` is not, which
extrapolates to the edges of its window: a series counts what lies between its last sample before
the tick and its last within it, so that ticks add up to what the counters have counted.

>>> print(_sum_over_replicas("NOW", "BEFORE", "LEAST"))
sum by (keras_model_name, keras_model_version, keras_model_output, keras_prediction_class) (
  clamp_min(NOW - (BEFORE * (LEAST >= bool BEFORE / 2) or LEAST), 0)
)

A counter that falls to less than half has begun again at 0: it counts with what it has now. A
smaller step back comes from two servers that watch the same replica, and counts as nothing. A
series that is first seen counts from its first sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from otel_drift.drift.sequential import MAXIMUM_AVERAGE_RUN_LENGTH
from otel_drift.fleet.prometheus_api import Sample
from otel_drift.fleet.reference import ExportedReference

NAME, VERSION = "keras_model_name", "keras_model_version"
OUTPUT, CLASS = "keras_model_output", "keras_prediction_class"
SCOPE = "keras_prediction_scope"
BY_OUTPUT = f"{NAME}, {VERSION}, {OUTPUT}"
BRIDGED_SECONDS = 300
"""A replica that has no samples for so long is one that is first seen when it returns."""
EXPECTED = (
    "keras_prediction_baseline_proportion",
    "keras_prediction_baseline_lower",
    "keras_prediction_baseline_upper",
    "keras_prediction_baseline_size",
    "keras_prediction_baseline_design_effect",
    "keras_prediction_drift_threshold",
)
PROPORTION, LOWER, UPPER, SIZE, DESIGN_EFFECT, THRESHOLD = EXPECTED
CONSTANT = {PROPORTION, LOWER, UPPER, SIZE}
"""What replicas must agree on; keys of units make design effects of their own."""
LARGEST = 2**53
"""From which on a float does not tell one number from the next."""


class Output(NamedTuple):
    """An output of a version of a model: what has a baseline and evidence of its own."""

    model: str
    version: str
    """Empty where there is none."""
    name: str

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.model!r}{version}, output {self.name!r}"


class Expected(NamedTuple):
    """What the replicas expect of an output."""

    reference: ExportedReference
    average_run_length: float | None
    """None where they export no threshold."""


def grown_by(seconds: float) -> str:
    """Write the question what each class has grown by in the last seconds."""
    counter = f'keras_predictions_total{{{NAME}!="",{OUTPUT}!="",{CLASS}!="",{SCOPE}!="fleet"}}'
    tick = f"{round(seconds * 1000)}ms"
    now = f"last_over_time({counter}[{tick}])"
    before = f"last_over_time({counter}[{BRIDGED_SECONDS}s] offset {tick})"
    least = f"min_over_time({counter}[{tick}])"
    return _sum_over_replicas(now, before, least)


def _sum_over_replicas(now: str, before: str, least: str) -> str:
    return (
        f"sum by ({BY_OUTPUT}, {CLASS}) (\n"
        f"  clamp_min({now} - ({before} * ({least} >= bool {before} / 2) or {least}), 0)\n"
        f")"
    )


def expected_by(aggregate: str) -> str:
    """Write the question what replicas expect: ``min`` and ``max`` are equal where they agree."""
    names = "|".join(EXPECTED)
    return (
        f"{aggregate} by (__name__, {BY_OUTPUT}, {CLASS}) "
        f'({{__name__=~"{names}",{NAME}!="",{OUTPUT}!="",{SCOPE}!="fleet"}})'
    )


def predictions(samples: Iterable[Sample]) -> dict[Output, dict[str, int]]:
    """Read the answer to `grown_by`: predictions of each class; what is no count is left out."""
    found: dict[Output, dict[str, int]] = {}
    for labels, value in samples:
        name = labels.get(CLASS)
        if name and 0 <= value <= LARGEST and value == round(value):
            found.setdefault(_output(labels), {})[name] = int(value)
    return {output: counts for output, counts in found.items() if output.model and output.name}


def expectations(
    least: Iterable[Sample], most: Iterable[Sample]
) -> dict[Output, Expected | ValueError]:
    """Read the answers to `expected_by`: of each output its baseline, or why there is none."""
    lowest, highest = _by_output(least), _by_output(most)
    return {
        output: _expected(lowest[output], gauges)
        for output, gauges in highest.items()
        if output in lowest and output.model and output.name
    }


Gauges = dict[tuple[str, str], float]
"""By name and class."""


def _expected(lowest: Gauges, highest: Gauges) -> Expected | ValueError:
    for gauge in sorted(lowest.keys() | highest.keys()):
        low, high = lowest.get(gauge, math.nan), highest.get(gauge, math.nan)
        if gauge[0] in CONSTANT and low != high:
            what = gauge[0].removeprefix("keras_prediction_").replace("_", " ")
            of_class = f" of class {gauge[1]!r}" if gauge[1] else ""
            return ValueError(
                f"replicas have different baselines: {what}{of_class} {low} to {high}"
            )
    try:
        return Expected(_reference(highest), _average_run_length(highest))
    except ValueError as error:
        return error


def _reference(gauges: Gauges) -> ExportedReference:
    classes = tuple(_in_order(name for gauge, name in gauges if gauge == PROPORTION))
    if not classes:
        raise ValueError("no baseline")
    shares, lower, upper = (
        np.array([gauges.get((gauge, name), math.nan) for name in classes])
        for gauge in (PROPORTION, LOWER, UPPER)
    )
    size = gauges.get((SIZE, ""))
    counts = None if size is None else np.rint(shares * size).astype(np.int64)
    found = ExportedReference(classes, shares, counts, lower=lower, upper=upper)
    if "other" not in classes:
        raise ValueError("the baseline has no class 'other'")
    return found.with_design_effect(gauges.get((DESIGN_EFFECT, "")))


def _average_run_length(gauges: Gauges) -> float | None:
    threshold = gauges.get((THRESHOLD, ""))
    if threshold is None:
        return None
    if not 0 <= threshold <= math.log10(MAXIMUM_AVERAGE_RUN_LENGTH):
        raise ValueError(f"threshold {threshold!r}: must be the logarithm of an average run length")
    return float(f"{10**threshold:.9g}")  # of a round number, back to that


def _in_order(names: Iterable[str]) -> Iterator[str]:
    """Sort classes as a model has them: numbers by size, the reserved ones last."""
    last = {"other": 1, "invalid": 2}

    def place(name: str) -> tuple[int, bool, int, str]:
        number = name.isdecimal()
        return last.get(name, 0), not number, int(name) if number else 0, name

    yield from sorted(names, key=place)


def _by_output(samples: Iterable[Sample]) -> dict[Output, Gauges]:
    found: dict[Output, Gauges] = {}
    for labels, value in samples:
        gauge = (labels.get("__name__", ""), labels.get(CLASS, ""))
        found.setdefault(_output(labels), {})[gauge] = value
    return found


def _output(labels: Mapping[str, str]) -> Output:
    return Output(*(labels.get(name, "") for name in (NAME, VERSION, OUTPUT)))
