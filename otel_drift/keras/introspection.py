"""What a Keras model, and its backend, tell about outputs and calls.

>>> import numpy as np
>>> class Layer:
...     units = 1
...
...     def activation(self): ...
>>> Layer.activation.__name__ = "sigmoid"
>>> class Subclassed:
...     layers = (Layer(),)
>>> activation_of(Subclassed(), "output", np.array([[0.2], [0.9]]))
'sigmoid'
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift.reference import class_counts
from otel_drift.outputs.decision import Argmax, Decision
from otel_drift.outputs.interpretation import expected_series, within_0_and_1
from otel_drift.outputs.structure import leaves


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
    if values.ndim != 2 or units != values.shape[1] or not within_0_and_1(values):
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


def check_fit(
    model: Any, name: str, baselines: Mapping[str, Baseline], asked: Decision | None
) -> None:
    """Check, where a built model tells the shapes of its outputs, that baselines fit.

    Parameters
    ----------
    model
        A Keras model.
    name
        What it is called, for the message.
    baselines
        By output name.
    asked
        How outputs become classes, where the user said it.

    Raises
    ------
    ValueError
        If a baseline has not as many classes as the output; names the file.
    """
    shapes = shapes_of(model)
    for output, shape in shapes.items():
        for baseline in expected_series(output, len(shapes) == 1, baselines).values():
            decision = asked or baseline.decision or Argmax()
            classes = shape[-1] if len(shape) > 1 else None
            if not isinstance(decision, Argmax) or classes is None or classes < 2:
                continue
            if classes not in class_counts(baseline.classes):
                raise ValueError(
                    f"{baseline.source}: field 'outputs.{baseline.output}.classes' has "
                    f"{len(baseline.classes)} classes, but output {output!r} of model "
                    f"{name!r} has {classes}"
                )


def says_training(training: Any) -> bool:
    """Whether the argument ``training`` of a call says so."""
    if training is None or training is False:
        return False
    try:
        return bool(training)
    except Exception:  # a symbolic flag has no value: the model is being traced
        return True


def never() -> bool:
    """Say no, where a backend has no such thing."""
    return False


def symbolic_scope() -> Callable[[], bool]:
    """Whether Keras only works out the shapes of a model, on some backends with real arrays."""
    for module, name in (
        ("keras.src.backend.common.symbolic_scope", "in_symbolic_scope"),
        ("keras.src.backend.common.stateless_scope", "in_stateless_scope"),  # before Keras 3.4
    ):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):  # both are private, so they may move
            continue
    return never


def tensorflow_recording() -> Callable[[], bool]:
    """Whether a gradient tape records this thread: an eager training loop."""
    try:
        from tensorflow.python.eager.record import (  # pyright: ignore # private, so it may move
            could_possibly_record,
        )
    except ImportError:
        return never
    return could_possibly_record
