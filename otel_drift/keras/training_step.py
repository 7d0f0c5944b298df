"""The sign that a torch model is being trained.

A training loop written by hand calls ``model(x)`` as serving does: gradients are recorded in both,
and ``model.training`` is true on a fresh model. What differs comes later: a backward pass, an
optimizer's step or the accumulation of gradients change the version of a parameter or of its
gradient.

The parameter that is watched is one that gradients flow to from this very output: the nearest in
the graph that torch has recorded, mostly the bias of the last layer. Layers may be frozen, and
weights replaced, at any time.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import ref

from otel_drift.outputs.structure import leaves

NODES = 1_000
"""How far the graph is searched: to the last layer it is a few steps."""


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
    try:
        if not y.requires_grad:
            return None
        # Mostly a softmax of a sum with a bias. The nodes are asked one by one, since nothing of
        # the graph may be kept: it keeps all that the layers have computed.
        parameter = y.grad_fn.next_functions[0][0].next_functions[-1][0].variable
        if parameter.is_leaf and type(parameter).__name__ == "Parameter":
            return StepSign(y, parameter)
    except (AttributeError, IndexError, TypeError):
        pass  # another kind of output, or another graph
    output = _with_gradients(y)
    return None if output is None else StepSign(output, _nearest_parameter(output.grad_fn, model))


def _with_gradients(y: Any) -> Any:
    """Give the first tensor of an output that gradients can flow back from, if there is one."""
    if hasattr(y, "requires_grad"):  # mostly there is but one
        return y if y.requires_grad else None
    for _, tensor in leaves(y):
        if getattr(tensor, "requires_grad", False):
            return tensor
    return None


def _nearest_parameter(node: Any, model: Any) -> Any:
    """Give the parameter that is nearest to an output in the graph; the model's last if none is."""
    nodes: deque[Any] = deque([node])
    seen = {node}
    while nodes and len(seen) < NODES:
        node = nodes.popleft()
        parameter = getattr(node, "variable", None)
        if type(parameter).__name__ == "Parameter":
            return parameter
        others: tuple[tuple[Any, int], ...] = getattr(node, "next_functions", ())
        for following, _ in reversed(others):
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return next((one.value for one in reversed(model.trainable_variables)), None)


class StepSign:
    """The sign that a training step came of a call: a parameter is not as it was.

    Parameters
    ----------
    output
        What the model returned; not kept alive.
    parameter
        Is kept alive: the answer must not be lost when a program drops its model.
    """

    __slots__ = ("__weakref__", "_gradient", "_parameter", "_version", "output")

    def __init__(self, output: Any, parameter: Any) -> None:
        self.output = ref(output)
        self._parameter = parameter
        self._version = self._gradient = None
        if parameter is not None:
            self._version, gradient = _version(parameter), parameter.grad
            if gradient is not None:
                self._gradient = id(gradient), _version(gradient)

    def unchanged(self) -> bool:
        """Whether neither the parameter nor its gradient has changed; true if there is none."""
        return self.precedes(StepSign(self, self._parameter))

    def precedes(self, later: StepSign) -> bool:
        """Whether neither had changed when a later call returned."""
        if later._parameter is not self._parameter:
            return self.unchanged()  # another graph: as far as can be told now
        return self._version == later._version and self._gradient == later._gradient


def _version(tensor: Any) -> int:
    try:
        return tensor._version
    except RuntimeError:  # made under inference_mode: such tensors keep no version
        return 0
