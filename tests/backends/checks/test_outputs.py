"""Every kind of output by every entry point: class counts equal to the truth, outputs unchanged.

The truth is worked out with NumPy from what the model returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import observing
import pytest
from observing import argmax, classes, dense, numpy, since

from otel_drift import Baseline, baselines_from_model

BATCHES = (5, 15, 5)
Truth = Callable[[list[Any]], dict[str, dict[str, int]]]


@dataclass
class Kind:
    """A model, how to instrument it, and what it should count."""

    model: Any
    truth: Truth
    shape: tuple[int, ...] = (4,)
    options: Mapping[str, Any] = field(default_factory=dict)
    log_lines: int = 1
    """One line says that there is no baseline, unless there is, or that it cannot be read."""


def at_least(threshold: float) -> Callable[..., dict[str, int]]:
    return lambda *outputs: classes((np.concatenate(outputs).ravel() >= threshold).astype(int))


def one(counted: Callable[..., dict[str, int]], name: str = "output") -> Truth:
    return lambda ys: {name: counted(*ys)}


def softmax() -> Kind:
    return Kind(dense(), one(argmax))


def logits_with_a_baseline() -> Kind:
    options = {"baseline": Baseline.from_counts([30, 40, 30])}
    return Kind(dense(activation=None), one(argmax), options=options, log_lines=0)


def logits_with_a_decision() -> Kind:
    return Kind(dense(activation=None), one(argmax), options={"decision": "argmax"})


def sigmoid() -> Kind:
    return Kind(dense(1, "sigmoid"), one(at_least(0.5)))


def sigmoid_with_a_threshold() -> Kind:
    options = {"decision": "threshold:0.7"}
    return Kind(dense(1, "sigmoid"), one(at_least(0.7)), options=options)


def _heads() -> tuple[Any, dict[str, Any]]:
    x = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="relu")(x)
    # The order is neither that of the alphabet nor that of the layers' names.
    heads = {"kind": (3, "softmax"), "alive": (1, "sigmoid"), "colour": (5, "softmax")}
    return x, {
        name: keras.layers.Dense(units, activation=activation, name=f"{name}_layer")(hidden)
        for name, (units, activation) in heads.items()
    }


def list_of_outputs() -> Kind:
    x, heads = _heads()
    kind, alive, colour = heads.values()

    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        return {
            "0": argmax(*(y[0] for y in ys)),
            "1": at_least(0.5)(*(y[1] for y in ys)),
            "2": argmax(*(y[2] for y in ys)),
        }

    return Kind(keras.Model(x, [kind, alive, colour]), truth, log_lines=3)


def dict_of_outputs() -> Kind:
    x, heads = _heads()
    model = keras.Model(x, heads)
    baselines = baselines_from_model(model, observing.rows(64))
    del baselines["alive"]

    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        return {
            "kind": argmax(*(y["kind"] for y in ys)),
            "alive": at_least(0.5)(*(y["alive"] for y in ys)),
            "colour": argmax(*(y["colour"] for y in ys)),
        }

    return Kind(model, truth, options={"baseline": baselines})


def nested_outputs() -> Kind:
    x, heads = _heads()
    model = keras.Model(x, {"a": [heads["kind"], heads["alive"]], "b": {"c": heads["colour"]}})

    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        return {
            "a.0": argmax(*(y["a"][0] for y in ys)),
            "a.1": at_least(0.5)(*(y["a"][1] for y in ys)),
            "b.c": argmax(*(y["b"]["c"] for y in ys)),
        }

    return Kind(model, truth, log_lines=3)


def sequences() -> Kind:
    layers = [keras.Input((6, 4)), keras.layers.Dense(3, activation="softmax")]
    return Kind(keras.Sequential(layers), one(argmax), shape=(6, 4))


def regression_by_quantiles() -> Kind:
    """Predict whole numbers, so that many lie on the edge of a bin."""
    model = dense(1, lambda x: keras.ops.round(10 * x))
    sample = numpy(model(observing.rows(200)))
    edges = np.quantile(sample.astype("float64"), [0.25, 0.5, 0.75])

    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        values = np.concatenate(ys).ravel().astype("float64")
        return {"output": classes((values[:, None] >= edges).sum(axis=1))}

    options = {"baseline": Baseline.from_predictions(sample, bins=4)}
    return Kind(model, truth, options=options, log_lines=0)


def _columns(threshold: float) -> Truth:
    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        scores = np.concatenate(ys)
        return {f"output.{k}": at_least(threshold)(scores[:, k]) for k in range(scores.shape[1])}

    return truth


def labels_of_their_own() -> Kind:
    return Kind(dense(4, "sigmoid"), _columns(0.5))


def labels_with_a_threshold() -> Kind:
    options = {"decision": "multilabel:0.4"}
    return Kind(dense(4, "sigmoid"), _columns(0.4), options=options)


def an_outputs_function() -> Kind:
    def largest_is_far_ahead(y: Any) -> Any:
        scores = np.sort(keras.ops.convert_to_numpy(y), axis=1)
        return (scores[:, -1] - scores[:, -2] > 1).astype("int64")

    def truth(ys: list[Any]) -> dict[str, dict[str, int]]:
        return {"output": classes(np.concatenate([largest_is_far_ahead(y) for y in ys]))}

    baseline = Baseline.from_counts([50, 50], ["close", "clear"])
    names = {"0": "close", "1": "clear"}

    def named(ys: list[Any]) -> dict[str, dict[str, int]]:
        return {"output": {names[name]: n for name, n in truth(ys)["output"].items()}}

    options = {"outputs": largest_is_far_ahead, "baseline": baseline}
    return Kind(dense(activation=None), named, options=options, log_lines=0)


def cannot_be_guessed() -> Kind:
    return Kind(dense(activation=None), lambda _: {})


KINDS = [
    softmax,
    logits_with_a_baseline,
    logits_with_a_decision,
    sigmoid,
    sigmoid_with_a_threshold,
    list_of_outputs,
    dict_of_outputs,
    pytest.param(nested_outputs, marks=since(3, 5)),
    sequences,
    regression_by_quantiles,
    labels_of_their_own,
    labels_with_a_threshold,
    an_outputs_function,
    cannot_be_guessed,
]


@pytest.mark.parametrize("entry", observing.ENTRY_POINTS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_counts_are_the_truth(kind: Callable[[], Kind], entry: str) -> None:
    keras.utils.set_random_seed(5)
    wanted = kind()
    inputs = [observing.rows(n, *wanted.shape) for n in BATCHES]
    without = [observing.call(wanted.model, entry, x) for x in inputs]
    with observing.observed(**wanted.options) as found:
        ys = [observing.call(wanted.model, entry, x) for x in inputs]
        observing.same_bits(ys, without)
        assert [type(y) for y in ys] == [type(y) for y in without]
        assert found.counts() == wanted.truth([numpy(y) for y in ys])
        method = observing.ENTRY_POINTS[entry]
        assert found.calls() == {method: len(BATCHES)}
        assert found.samples() == {method: sum(BATCHES)}
        assert found.errors() == {}
        assert len(found.log) == wanted.log_lines
    observing.same_bits([observing.call(wanted.model, entry, x) for x in inputs], without)
