"""The predictions of one tick, cut into chunks that bets can learn between.

Nobody knows in which order the replicas of a fleet predicted within a tick, so a random order is as
good as any: what each chunk holds is a draw without replacement from what is left.

>>> chunks = shuffled_chunks(np.array([50, 30, 0, 20]), np.random.default_rng(1))
>>> chunks.sum(axis=1).tolist(), chunks.sum(axis=0).tolist()
([25, 25, 25, 25], [50, 30, 0, 20])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import CHUNK

MOST_CHUNKS = 256
"""Of one tick: they are enough to learn in, and bound what a tick costs."""
MOST_PREDICTIONS = 1_000_000_000
"""Of a tick that is cut: the generator cannot draw from more."""


def shuffled_chunks(counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Cut the class counts of a tick into chunks of 32, or of more where they would be over 256.

    More than a billion predictions are one chunk.

    Parameters
    ----------
    counts
        Shape (K,).
    random
        Draws the order.

    Returns
    -------
    Shape (T, K). How many chunks there are and how large they are follows from the sum alone.
    """
    n = int(counts.sum())
    if n >= MOST_PREDICTIONS:
        return counts[None].astype(np.int64)
    chunks = min(MOST_CHUNKS, -(-n // CHUNK))
    found = np.zeros((chunks, len(counts)), np.int64)
    left = counts.astype(np.int64)
    for row, size in enumerate(np.diff(np.arange(chunks + 1) * n // max(1, chunks))):
        if row == chunks - 1:
            found[row] = left
        else:
            found[row] = random.multivariate_hypergeometric(left, int(size), method="marginals")
            left -= found[row]
    return found
