"""The sign that a torch model is being trained.

A training loop written by hand calls ``model(x)`` as serving does: gradients are recorded in both,
and ``model.training`` is true on a fresh model. What differs comes later: a backward pass, an
optimizer's step or the accumulation of gradients change the version of a parameter or of its
gradient.
"""

from __future__ import annotations

import weakref
from typing import Any

from otel_drift.outputs.structure import leaves


def possible_step(model: Any, y: Any) -> StepSign | None:
    """Give the sign of a training step that may come of a call.

    Parameters
    ----------
    model
        A Keras model on torch.
    y
        What it returned.

    Returns
    -------
    StepSign or None
        None if no gradients can flow back from what it returned.
    """
    output = _with_gradients(y)
    return None if output is None else StepSign(model, output)


def _with_gradients(y: Any) -> Any:
    """Give the first tensor of an output that gradients can flow back from, if there is one."""
    if hasattr(y, "requires_grad"):  # mostly there is but one
        return y if y.requires_grad else None
    for _, tensor in leaves(y):
        if getattr(tensor, "requires_grad", False):
            return tensor
    return None


class StepSign:
    """The sign that a training step came of a call: a parameter is not as it was.

    Parameters
    ----------
    model
        A Keras model on torch. Only the smaller of its last two trainable parameters, mostly a
        bias, is kept alive: the answer must not be lost when a program drops its model.
    """

    __slots__ = ("_parameter", "_signature", "output")

    def __init__(self, model: Any, output: Any) -> None:
        self.output = weakref.ref(output)
        # Looked up anew each time: layers may be frozen, and weights replaced, at any time.
        last = [variable.value for variable in model.trainable_variables[-2:]]
        self._parameter = min(last, key=lambda parameter: parameter.numel(), default=None)
        self._signature = _signature(self._parameter)

    def unchanged(self) -> bool:
        """Whether neither the parameter nor its gradient has changed; true if there is none."""
        return _signature(self._parameter) == self._signature


def _signature(parameter: Any) -> tuple[int, int, int]:
    if parameter is None:
        return (0, 0, 0)
    gradient = parameter.grad
    return (
        _version(parameter),
        0 if gradient is None else id(gradient),
        0 if gradient is None else _version(gradient),
    )


def _version(tensor: Any) -> int:
    try:
        return tensor._version
    except RuntimeError:  # made under inference_mode: such tensors keep no version
        return 0
