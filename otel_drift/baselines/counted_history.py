"""What Prometheus has counted, as a log: for models that nobody has logged.

.. code-block:: python

    log = counted_history("http://localhost:9090", "digits", days=14)
    found = calibrate(log.labels, log.classes, steps=log.steps)

The counters ``keras_predictions_total`` are read step by step over some days, and what they grew by
is taken for predictions of that step. Their order within a step is not known, so that dependence is
learnt from how steps differ from their neighbours. Any server with the API of Prometheus will do.

What a series holds when it is first seen is left out, as by ``increase``: nobody knows since when
it was counted. A counter that falls has begun again at 0; what it gained between the last reading
and that is lost.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otel_drift.baselines.log import PredictionLog
from otel_drift.drift.reference import RESERVED

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

SECONDS_PER_DAY = 86_400
STEP_SECONDS = 60.0
STEPS_PER_REQUEST = 1_440
"""Points of a series in one answer: a day of minutes; Prometheus refuses more than 11,000."""
TIMEOUT_SECONDS = 120.0
MOST_PREDICTIONS = 50_000_000
"""More would need more than a gigabyte of memory."""
MOST_OTHERS = 0.001
"""Share of predictions of classes without a series of their own that is left out in silence."""


def counted_history(
    url: str,
    model: str,
    *,
    output: str | None = None,
    days: float = 14.0,
    classes: Sequence[str] | None = None,
    end: float | None = None,
    step: float = STEP_SECONDS,
) -> PredictionLog:
    """Read the counters of a model's output, summed over replicas and versions.

    Parameters
    ----------
    url
        Of Prometheus, such as ``http://localhost:9090``; where it lives under a path, with that.
    model, output
        Names as in the series; the output may be left out where there is only one.
    days
        How far back.
    classes
        All classes in the order of the model's output; by default "0" to the largest number.
    end
        Until when, in seconds since the epoch; now by default.
    step
        Seconds between two readings, at least the interval in which Prometheus scrapes.

    Raises
    ------
    ValueError
        If the model was not counted, has several outputs, classes whose order is not known, or
        others than `classes`, or if there are more than 50 million predictions.
    OSError
        If Prometheus does not answer, or refuses.
    """
    if not (math.isfinite(days) and days > 0):
        raise ValueError(f"days {days!r}: must be above 0")
    last = time() if end is None else end
    first = last - days * SECONDS_PER_DAY
    selector = f"keras_model_name={json.dumps(model)}"
    if output is not None:
        selector += f",keras_model_output={json.dumps(output)}"
    history = _History(first, step, math.ceil((last - first) / step))
    for series in _requests(url, f"keras_predictions_total{{{selector}}}", first, last, step):
        history.take(series["metric"], series["values"])
    return history.log(model, days, classes)


class _History:
    """What the counters grew by, of each class in each step."""

    def __init__(self, first: float, step: float, steps: int) -> None:
        self._first, self._step, self._steps = first, step, steps
        self._grown: dict[str, Counts] = {}
        self._outputs: set[str] = set()
        self._newest: dict[tuple[tuple[str, str], ...], float] = {}

    def take(self, labels: dict[str, str], values: Sequence[tuple[float, str]]) -> None:
        """Add a part of one series; parts of a series come in order of time."""
        series = tuple(sorted(labels.items()))
        self._outputs.add(labels.get("keras_model_output", ""))
        grown = self._grown.setdefault(
            labels.get("keras_prediction_class", ""), np.zeros(self._steps + 1, np.int64)
        )
        at = np.rint((np.array([one for one, _ in values]) - self._first) / self._step)
        read: Floats = np.array([float(value) for _, value in values])
        before: Floats = np.roll(read, 1)
        before[0] = self._newest.get(series, float(read[0]))
        self._newest[series] = float(read[-1])
        more = np.where(read >= before, read - before, read)
        np.add.at(grown, at.astype(np.int64), np.rint(more).astype(np.int64))

    def log(self, model: str, days: float, classes: Sequence[str] | None) -> PredictionLog:
        """Give the predictions, those of a step in random order."""
        if not self._grown:
            raise ValueError(
                f"model {model!r}: Prometheus has no series keras_predictions_total of it in the "
                f"last {days:g} days"
            )
        if len(self._outputs) > 1:
            raise ValueError(
                f"model {model!r} has the outputs {', '.join(sorted(self._outputs))}: say which"
            )
        unnamed = sum(int(self._grown.pop(name, np.zeros(1)).sum()) for name in RESERVED)
        names = _in_order(self._grown, classes)
        counts = np.zeros((self._steps + 1, len(names)), np.int64)
        for name, grown in self._grown.items():
            counts[:, names.index(name)] = grown
        total = int(counts.sum())
        if total > MOST_PREDICTIONS:
            raise ValueError(
                f"{total:,} predictions in {days:g} days: at most {MOST_PREDICTIONS:,} are read: "
                f"ask for {days * MOST_PREDICTIONS / total:.2g} days"
            )
        if unnamed > MOST_OTHERS * (total + unnamed):
            raise ValueError(
                f"{unnamed:,} of {total + unnamed:,} predictions were counted as 'other' or "
                f"'invalid': calibrate on a log of the predictions"
            )
        return self._predictions(counts, names)

    def _predictions(self, counts: Counts, names: tuple[str, ...]) -> PredictionLog:
        sizes = counts.sum(axis=1)
        labels = np.repeat(np.tile(np.arange(len(names)), len(counts)), counts.reshape(-1))
        steps = np.repeat(np.arange(len(counts)), sizes)
        random = np.random.default_rng(0).random(len(labels))
        labels = labels[np.lexsort((random, steps))]
        times = (self._first + steps * self._step).astype(np.float64)
        return PredictionLog(labels, names, times, calls=None, units=None, steps=steps)


def _in_order(found: dict[str, Counts], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Give all classes in the order of the model's output."""
    if classes is not None:
        unknown = sorted(found.keys() - set(classes))
        if unknown:
            raise ValueError(f"class {unknown[0]!r}: not among the {len(classes)} classes given")
        return tuple(classes)
    if not all(name.isdecimal() for name in found):
        named = ", ".join(sorted(found)[:3])
        raise ValueError(
            f"classes {named}, ...: their order in the model's output is not known: give the "
            f"baseline or all classes"
        )
    return tuple(map(str, range(1 + max(map(int, found), default=0))))


def _requests(
    url: str, selector: str, first: float, last: float, step: float
) -> Iterator[dict[str, Any]]:
    """Read the series in parts that no server refuses."""
    start = first
    while start <= last:
        end = min(last, start + (STEPS_PER_REQUEST - 1) * step)
        parameters = {"query": selector, "start": start, "end": end, "step": step}
        yield from _answer(f"{url.rstrip('/')}/api/v1/query_range", parameters)["result"]
        start += STEPS_PER_REQUEST * step


def _answer(address: str, parameters: dict[str, Any]) -> dict[str, Any]:
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r}: must begin with http:// or https://")
    body = urllib.parse.urlencode(parameters).encode()
    try:
        with urllib.request.urlopen(address, body, TIMEOUT_SECONDS) as answer:  # noqa: S310
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        reason = error.read(1_000).decode(errors="replace").strip()
        raise OSError(f"{address}: {error.code}: {reason}") from error
    except (OSError, HTTPException) as error:
        raise OSError(f"{address}: {error}") from error
    except (ValueError, KeyError) as error:
        raise OSError(f"{address}: this is not the API of Prometheus") from error
