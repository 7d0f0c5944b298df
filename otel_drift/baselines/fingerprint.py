"""Telling a model's weights from others.

>>> import numpy as np
>>> class Weight:
...     value = np.arange(6.0)
>>> class Model:
...     weights = (Weight(),)
>>> fingerprint_of(Model())[:12]
'c9cd7462b34d'
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fingerprint_of(model: Any) -> str:
    """Digest of a model's weights: shapes, types, and up to 4,096 evenly spaced values of each.

    Training moves practically every weight, so a sample of them tells models apart, and a model of
    many gigabytes is told apart in a moment.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        values = _host_array(weight.value)
        flat = values.reshape(-1)
        sample = flat[:: max(1, len(flat) // 4096)][:4096]
        digest.update(f"{values.shape}{values.dtype}".encode())
        digest.update(np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()


def _host_array(tensor: Any) -> NDArray[Any]:
    """Copy a weight of any backend to the host; this may wait for a device."""
    if hasattr(tensor, "detach"):  # torch, whose bfloat16 NumPy does not know
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
        return tensor.numpy()
    return np.asarray(tensor)
