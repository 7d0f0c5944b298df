"""Segments of a stream, which are worked through side by side.

NumPy takes longer to start than to compute where there are few numbers. So a recursion over chunks
is not run from the first to the last: chunks are cut into segments, all segments are worked through
at once, and then joined. A segment ends after every 32nd chunk of the stream, however that is cut
into calls, so that the order of all operations, and with it the rounding, is always the same.

>>> list(cut(100, begun=30))  # first chunk, end, and whether these are whole segments
[(0, 2, False), (2, 98, True), (98, 100, False)]
"""

from __future__ import annotations

from collections.abc import Iterator

SEGMENT = 32
"""Chunks in a segment."""


def cut(chunks: int, begun: int) -> Iterator[tuple[int, int, bool]]:
    """Cut chunks where segments end.

    Parameters
    ----------
    chunks
        Number of chunks.
    begun
        Number of chunks of the first segment that have been before.

    Yields
    ------
    First chunk, end, and whether it is whole segments: the rest of a segment that has begun, whole
    segments, and the beginning of one.
    """
    first = min(chunks, -begun % SEGMENT)
    end = first + (chunks - first) // SEGMENT * SEGMENT
    if first:
        yield 0, first, False
    if first < end:
        yield first, end, True
    if end < chunks:
        yield end, chunks, False
