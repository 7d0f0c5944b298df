"""The usual output, read with the least effort: scores by class, in an array on the CPU.

After a model has run, nothing of ours is in the processor's caches, and whatever is touched costs
several times what it does in a loop. So what is settled for an output is built into one function.

>>> labels_of = argmax_of(np.ndarray, 3)
>>> labels_of(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])).tolist()
[1, 0]
>>> labels_of(np.array([[0.1, np.nan, 0.2]])) is None  # whoever reads such rows has more to do
True
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.outputs.decision import Labels

FEW_ROWS = 32
"""Rows up to which labels stay as NumPy makes them: to make them small costs more than it saves."""

ReadyArray = Callable[[Any], NDArray[Any] | None]
"""Gives the numbers of an array without a copy; None where they are not at hand."""


LabelsOf = Callable[[Any], Labels | None]
"""Gives labels of shape (n,), or None for an array that it was not made for."""


def argmax_of(kind: type[Any], classes: int) -> LabelsOf | None:
    """Give what finds the largest score of each row of an array.

    Parameters
    ----------
    kind
        Type of the array: of NumPy, torch, JAX or TensorFlow; None is given for others.
    classes
        At least 2.

    Returns
    -------
    callable or None
        Gives labels of shape (n,), or None for an array that is not of shape (n, classes), not in
        single or double precision, not ready in the memory of the CPU, or not finite throughout.
    """
    ready = _ready_array_of(kind)
    if ready is None and kind is not np.ndarray:
        return None
    smallest = np.min_scalar_type(classes - 1)
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    isfinite = math.isfinite

    def labels_of(array: Any) -> Labels | None:
        values = array if ready is None else ready(array)
        if values is None or (values.dtype is not single and values.dtype is not double):
            return None
        try:
            rows, columns = values.shape
        except ValueError:  # it has not two axes
            return None
        if columns != classes:
            return None
        # A sum of squares is NaN or infinite if any value is: the cheapest exact first look. The
        # methods, not the functions of the same names, which cost a microsecond more.
        flat = values.ravel()
        if not isfinite(flat.dot(flat)):
            return None
        labels = values.argmax(1)
        return labels if rows <= FEW_ROWS else labels.astype(smallest)

    return labels_of


def _ready_array_of(kind: type[Any]) -> ReadyArray | None:
    package = kind.__module__.partition(".")[0]
    if package == "torch" and kind is getattr(sys.modules.get("torch"), "Tensor", None):
        return _torch()
    if package == "tensorflow" and kind.__name__ == "EagerTensor":
        return _tensorflow
    if package == "jaxlib" and kind.__name__ == "ArrayImpl":
        return _jax()
    return None


def _torch() -> ReadyArray:
    torch = sys.modules["torch"]
    # The public one asks first whether this code is compiled to TorchScript, which it is not.
    is_tracing = getattr(torch._C, "_is_tracing", torch.jit.is_tracing)

    def ready(tensor: Any) -> NDArray[Any] | None:
        if not tensor.is_cpu or is_tracing():
            return None
        try:
            return tensor.detach().numpy()
        except (RuntimeError, TypeError):  # inside torch.func's transforms; a type NumPy has not
            return None

    return ready


def _tensorflow(tensor: Any) -> NDArray[Any] | None:
    if "CPU" not in tensor.device:
        return None
    try:
        return np.asarray(memoryview(tensor))  # `numpy()` copies
    except (TypeError, ValueError, BufferError):  # a type NumPy has not
        return None


def _jax() -> ReadyArray:
    of_cpu: Any = None  # the sharding of the last array that was on the CPU: mostly it is the same

    def ready(array: Any) -> NDArray[Any] | None:
        nonlocal of_cpu
        sharding = array.sharding
        if sharding is not of_cpu:
            if any(device.platform != "cpu" for device in array.devices()):
                return None
            of_cpu = sharding
        return None if array.is_deleted() or not array.is_ready() else np.asarray(array)

    return ready
