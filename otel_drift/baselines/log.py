"""A log of predictions: labels in stream order, with times, calls and keys where they are known.

>>> log = prediction_log(["cat", "dog", "cat"], times=[0.0, 1.5, 3.0])
>>> log.classes, log.labels.tolist(), log.predictions_per_second
(('cat', 'dog'), [0, 1, 0], 1.0)
>>> prediction_log([0, 1], times=[5, 4])
Traceback (most recent call last):
...
ValueError: times[1] lies before times[0]: sort the log by time

Files are CSV (with a header), Parquet (with the extra ``parquet``) or NPZ, with a column of labels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.chunks import as_labels
from otel_drift.drift.reference import MAXIMUM_CLASSES

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


class PredictionLog(NamedTuple):
    """Predictions of one model output, in order."""

    labels: Labels
    """Places in `classes`, shape (n,)."""
    classes: tuple[str, ...]
    times: Floats | None
    """Seconds since the epoch, not falling, shape (n,)."""
    calls: Labels | None
    """How many predictions each call brought, in order, shape (calls,)."""
    units: Labels | None
    """Number of the session of each prediction, shape (n,)."""
    steps: Labels | None = None
    """Where only counts are known: number of the step of time of each prediction, shape (n,)."""

    @property
    def seconds(self) -> float | None:
        """From the first prediction to the last."""
        if self.times is None or len(self.times) < 2:
            return None
        return float(self.times[-1] - self.times[0])

    @property
    def predictions_per_second(self) -> float | None:
        """On average over the log."""
        return len(self.labels) / self.seconds if self.seconds else None

    def first_of_units(self) -> PredictionLog:
        """Give what is tested: the first prediction of each session, or all where none are known.

        >>> prediction_log([0, 1, 1, 0], keys=["a", "a", "b", "a"]).first_of_units().labels.tolist()
        [0, 1]
        """
        if self.units is None:
            return self
        first = np.sort(np.unique(self.units, return_index=True)[1])
        times = None if self.times is None else self.times[first]
        return self._replace(labels=self.labels[first], times=times, units=None)


def prediction_log(
    labels: Iterable[Any],
    times: Iterable[Any] | None = None,
    calls: Iterable[Any] | None = None,
    keys: Iterable[Any] | None = None,
    classes: Iterable[str] | None = None,
) -> PredictionLog:
    """Check a log.

    Parameters
    ----------
    labels
        One a prediction, in stream order: whole numbers from 0, or names.
    times
        When each was made: seconds since the epoch, ISO 8601 texts or datetimes, not falling.
    calls
        The call that each came in: any values. Calls that were under way at one time may be mixed
        up; their predictions are put together.
    keys
        The session, user or device that each belongs to: any values; they go before calls.
    classes
        All classes that can occur; by default as of `class_positions`.

    Raises
    ------
    ValueError
        If a label is not among the classes, times fall, are missing or mix zones, or the columns
        are not of one length.
    """
    found, names = class_positions(labels, classes)
    seconds = None if times is None else _seconds(times)
    units = None if keys is None else _numbers(keys)
    of_call = None if calls is None else _numbers(calls)
    for name, column in (("times", seconds), ("calls", of_call), ("keys", units)):
        if column is not None and len(column) != len(found):
            raise ValueError(f"{name}: {len(column)} values, but there are {len(found)} labels")
    if of_call is None or units is not None:
        return PredictionLog(found, names, seconds, None, units)
    order, lengths = _together(of_call)
    return PredictionLog(found[order], names, seconds, lengths, None)


def class_positions(
    labels: Iterable[Any], classes: Iterable[str] | None
) -> tuple[Labels, tuple[str, ...]]:
    """Give labels as places among classes, and the names of these.

    Parameters
    ----------
    labels
        Whole numbers are indices into `classes`; names are classes.
    classes
        By default "0" to the largest number, or the names in alphabetical order.

    Raises
    ------
    ValueError
        If a label is negative, not whole, or not among `classes`.
    """
    given: Any = labels if hasattr(labels, "__array__") else list(labels)
    values: NDArray[Any] = np.asarray(given).reshape(-1)
    if values.dtype.kind in "OUS":
        names = [str(value) for value in values.tolist()]
        known = list(classes) if classes is not None else sorted(set(names))
        position = {name: index for index, name in enumerate(known)}
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ValueError(f"label {unknown[0]!r}: not among the {len(known)} classes given")
        return np.array([position[name] for name in names], dtype=np.int64), tuple(known)
    numbers = as_labels(values)
    names_given = None if classes is None else list(classes)
    k = len(names_given) if names_given is not None else int(numbers.max(initial=-1)) + 1
    if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= k):
        wrong = int(numbers.min()) if int(numbers.min()) < 0 else int(numbers.max())
        raise ValueError(f"label {wrong}: must be a whole number from 0 to {k - 1}")
    if k > MAXIMUM_CLASSES:
        raise ValueError(f"label {k - 1}: a baseline has at most {MAXIMUM_CLASSES} classes")
    return numbers, tuple(map(str, range(k))) if names_given is None else tuple(names_given)


def read_log(
    path: Path,
    *,
    label: str = "label",
    time: str | None = None,
    call: str | None = None,
    key: str | None = None,
    classes: Iterable[str] | None = None,
) -> PredictionLog:
    """Read a log from a file.

    Parameters
    ----------
    path
        A file that ends in ``.csv``, ``.parquet`` or ``.npz``.
    label, time, call, key
        Names of the columns (of NPZ: of the arrays). Of the last three the columns "time", "call"
        and "key" are taken where they exist and no other name is given.
    classes
        All classes that can occur.

    Raises
    ------
    ValueError
        If the file is of another kind, a column is missing, or as of `prediction_log`.
    OSError
        If it cannot be read.
    """
    columns = _columns(path)

    def column(wanted: str, *, needed: bool) -> Any:
        if wanted in columns:
            return columns[wanted]
        if not needed:
            return None
        raise ValueError(f"{path}: column {wanted!r} is missing: it has {', '.join(columns)}")

    labels = column(label, needed=True)
    times = column(time or "time", needed=time is not None)
    calls = column(call or "call", needed=call is not None)
    keys = column(key or "key", needed=key is not None)
    try:
        return prediction_log(labels, times, calls, keys, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _columns(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if path.suffix == ".parquet":
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise ValueError(
                f"{path}: reading Parquet needs pyarrow: install otel-drift[parquet]"
            ) from None
        table = parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header: list[str] = next(rows, [""])
            values = list(zip(*rows, strict=True))
        return {name: _whole_numbers(column) for name, column in zip(header, values, strict=False)}
    raise ValueError(f"{path}: must end in .csv, .parquet or .npz")


def _whole_numbers(texts: tuple[str, ...]) -> Any:
    """Give texts as whole numbers where all of them are."""
    try:
        return np.array(texts).astype(np.int64)
    except ValueError:
        return np.array(texts)


def _numbers(column: Iterable[Any]) -> Labels:
    """Give each different value of a column a number."""
    given: Any = column if hasattr(column, "__array__") else list(column)
    values = np.asarray(given)
    if values.dtype.kind not in "iu":
        values = values.astype(str)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _together(calls: Labels) -> tuple[NDArray[np.intp], Labels]:
    """Put the rows of each call together, calls in the order of their first rows.

    Returns
    -------
    order, lengths
        Places of the rows, and how many each call has.

    >>> order, lengths = _together(np.array([3, 3, 1, 3, 1, 2]))
    >>> order.tolist(), lengths.tolist()
    ([0, 1, 3, 2, 4, 5], [3, 2, 1])
    """
    _, first, number = np.unique(calls, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[number]
    return np.argsort(rank, kind="stable"), np.bincount(rank).astype(np.int64)


def _seconds(times: Iterable[Any]) -> Floats:
    given: Any = times if hasattr(times, "__array__") else list(times)
    values: NDArray[Any] = np.asarray(given).reshape(-1)
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[us]").astype(np.int64) / 1e6
        seconds = np.where(np.isnat(values), np.nan, seconds)
    elif values.dtype.kind in "OUS":
        seconds = np.array([one.timestamp() for one in _datetimes(values.tolist())])
    else:
        seconds = values.astype(np.float64)
    for place in np.flatnonzero(~np.isfinite(seconds))[:1]:
        raise ValueError(f"times[{place}] is {values[place]!r}: must be a time")
    for place in np.flatnonzero(np.diff(seconds) < 0)[:1]:
        raise ValueError(f"times[{place + 1}] lies before times[{place}]: sort the log by time")
    return seconds


def _datetimes(values: list[Any]) -> list[datetime]:
    found: list[datetime] = []
    for place, value in enumerate(values):
        try:
            one = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError(
                f"times[{place}] is {value!r}: must be ISO 8601, like 2026-01-31T12:00:00+00:00"
            ) from None
        if found and (one.tzinfo is None) != (found[0].tzinfo is None):
            raise ValueError(
                f"times[{place}] is {value!r} and times[0] {values[0]!r}: "
                f"either all or none must name their time zone"
            )
        found.append(one)
    return [one.replace(tzinfo=UTC) if one.tzinfo is None else one for one in found]
