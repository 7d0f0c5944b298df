"""How many series an instrument may have: beyond that OpenTelemetry's SDK makes one of the rest.

From version 1.45 on the SDK keeps 2,000 attribute sets of each instrument, unless told otherwise.
What comes later is added up in one series with the attribute ``otel.metric.overflow``; nobody is
told. A model of 10 classes has 12 series, and a multi-label one 4 for each label.

>>> limit = SeriesLimit(lambda: 30)
>>> [limit.beyond(model, series=12) for model in ("digits", "letters", "animals", "digits")]
[False, False, True, False]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any

WITH_CLASSES = ("ObservableCounter", "ObservableGauge")
"""Instruments that have a series for each class."""


class SeriesLimit:
    """Which outputs have series of their own.

    Parameters
    ----------
    limit
        Asked for each new output, because the SDK may come after us.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self._limit = limit
        self._series: dict[Hashable, int] = {}

    def beyond(self, output: Hashable, series: int) -> bool:
        """Take an output and how many series it has; tell whether some of them are lost.

        The SDK forgets no series, so an output that has ended counts too.
        """
        if output not in self._series:
            if sum(self._series.values()) + series > self._limit():
                return True
            self._series[output] = series
        return False


def series_limit_of(meter_provider: Any) -> float:
    """Give the limit of a meter provider, as far as it shows; infinite where there is none.

    There is no public way to ask for it.
    """
    readers: Any = getattr(meter_provider, "_metric_readers", ())
    limits = [one for reader in list(readers) for one in _limits_of_reader(reader)]
    # A view that allows for more is one of our instruments', or else we are silent too long.
    views = [
        getattr(view, "_aggregation_cardinality_limit", None) or 0
        for view in getattr(getattr(meter_provider, "_sdk_config", None), "views", ())
    ]
    return max([min(limits), *views]) if limits else math.inf


def _limits_of_reader(reader: Any) -> Iterator[int]:
    limits: dict[type, int] = getattr(reader, "_instrument_class_cardinality_limit", {})
    for instrument, limit in limits.items():
        if instrument.__name__.lstrip("_") in WITH_CLASSES:
            yield limit
