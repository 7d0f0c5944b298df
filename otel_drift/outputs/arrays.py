"""Reading what a model returned, on each Keras backend, without waiting for a device.

`read` gives a NumPy array where that costs nothing: for NumPy itself, and for a tensor of torch,
TensorFlow or JAX that lies ready in the memory of the CPU, which it does not copy. What is not
ready yet comes back as a `Later`, to be asked again. What holds no numbers, because the model is
only being traced or built, is `TRACED`; what nobody here can read is `UNREADABLE`.

>>> read(np.ones(2))
array([1., 1.])
>>> read(object()) is UNREADABLE
True
"""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 65_536
"""Size up to which an output may be held until it is ready."""


class Unread(enum.Enum):
    """Why there are no numbers."""

    TRACED = "traced"
    UNREADABLE = "unreadable"


TRACED: Final = Unread.TRACED
UNREADABLE: Final = Unread.UNREADABLE


class Later(NamedTuple):
    """Numbers that a device has yet to deliver."""

    ready: Callable[[], bool]
    read: Callable[[], NDArray[Any]]
    labels: bool
    """Whether they are labels already, decided on the device."""


Read = NDArray[Any] | Later | Literal[Unread.TRACED, Unread.UNREADABLE]
Reader = Callable[[Any, bool], Read]


def read(value: Any, argmax: bool = False) -> Read:
    """Read one array that a model returned.

    Parameters
    ----------
    value
        NumPy array or backend tensor.
    argmax
        Whether an accelerator may work out the largest score of each row before anything is
        copied.
    """
    if type(value) is np.ndarray:
        return value
    return _reader_of(cast("type[Any]", type(value)))(value, argmax)


def is_traced(value: Any) -> bool:
    """Whether a value holds no numbers, because the model is only being traced or built.

    Costs no copy: a tensor on an accelerator that is not being traced is left alone.
    """
    if type(value) is np.ndarray:
        return False
    reader = _reader_of(cast("type[Any]", type(value)))
    if reader is _traced:
        return True
    if reader is _read_torch and not value.is_cpu:
        return bool(value.is_meta)
    return reader is _read_torch and _read_torch(value, False) is TRACED


@functools.lru_cache(maxsize=64)
def _reader_of(kind: type[Any]) -> Reader:
    package = kind.__module__.partition(".")[0]
    if issubclass(kind, np.ndarray):
        return lambda value, _: np.asarray(value)
    if package == "torch" and kind is getattr(sys.modules.get("torch"), "Tensor", None):
        return _read_torch
    if package == "tensorflow" and kind.__name__ == "EagerTensor":
        return _read_tensorflow
    if package == "jaxlib" and kind.__name__ == "ArrayImpl":
        return _read_jax
    if package in ("keras", "torch", "tensorflow", "jax", "jaxlib"):
        return _traced
    return _unreadable


def _traced(_: Any, __: bool) -> Read:
    return TRACED


def _unreadable(_: Any, __: bool) -> Read:
    return UNREADABLE


def _read_torch(value: Any, argmax: bool) -> Read:
    torch = sys.modules["torch"]
    if torch.jit.is_tracing():
        return TRACED  # it is a plain tensor, but reading it would warn the user
    tensor = value.detach()
    if not value.is_cpu:
        if value.is_meta:
            return TRACED
        return _torch_on_device(torch, tensor, argmax)
    if tensor.dtype is torch.bfloat16:  # a type NumPy has not
        tensor = tensor.float()
    try:
        return tensor.numpy()
    except RuntimeError:
        return TRACED  # inside torch.func's vmap, grad and the like there are no numbers to read


def _torch_on_device(torch: Any, tensor: Any, argmax: bool) -> Later:
    labels = argmax and tensor.ndim >= 2
    if labels:
        rows = tensor.reshape(-1, tensor.shape[-1])
        index = rows.argmax(-1)
        tensor = torch.where(torch.isfinite(rows).all(-1), index, torch.full_like(index, -1))
    else:
        tensor = tensor.float().clone()
    device: Any = getattr(torch, tensor.device.type, None)
    event: Any = device.Event() if hasattr(device, "Event") else None
    if event is not None:
        event.record()
    return Later(
        ready=event.query if event is not None else lambda: True,
        read=lambda: tensor.cpu().numpy(),
        labels=labels,
    )


def _read_tensorflow(value: Any, argmax: bool) -> NDArray[Any] | Later:
    if "CPU" in value.device:
        return value.numpy()
    tf: Any = sys.modules["tensorflow"]

    labels = argmax and len(value.shape) >= 2
    if labels:
        rows = tf.reshape(value, (-1, value.shape[-1]))
        finite = tf.reduce_all(tf.math.is_finite(rows), axis=-1)
        value = tf.where(finite, tf.argmax(rows, axis=-1), -1)
    return Later(ready=lambda: True, read=value.numpy, labels=labels)


def _read_jax(value: Any, argmax: bool) -> NDArray[Any] | Later:
    on_cpu = all(device.platform == "cpu" for device in value.devices())
    if on_cpu and value.is_ready():
        return np.asarray(value)
    # Working labels out there compiles for each new shape, tens of milliseconds on the caller's
    # thread: worth it only for what is large and would have to be copied from a device.
    labels = argmax and not on_cpu and value.ndim >= 2 and value.nbytes > SMALL_BYTES
    if labels:
        value = _jax_labels(value)
    # JAX crashes when it is asked whether a deleted array is ready; reading it raises.
    return Later(
        ready=lambda: value.is_deleted() or value.is_ready(),
        read=lambda: np.asarray(value),
        labels=labels,
    )


def _jax_labels(value: Any) -> Any:
    import jax.numpy as jnp

    rows = value.reshape(-1, value.shape[-1])
    return jnp.where(jnp.isfinite(rows).all(-1), rows.argmax(-1), -1)
