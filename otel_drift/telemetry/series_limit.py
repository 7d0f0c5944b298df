"""How many series an instrument may have, and how outputs share them.

From version 1.45 on OpenTelemetry's SDK keeps 2,000 attribute sets of each instrument, unless told
otherwise. What comes later it adds up in one series with the attribute ``otel.metric.overflow``,
without a word. So classes are given series only as far as there is room; the rest of an output's
classes is counted as ``other``, and its sums stay true.

Outputs that come together share alike what there is; a class is placed once and stays there,
because a counter must not fall. For models that come later two series each are kept back.

>>> from otel_drift.drift.exported_classes import exported_classes
>>> digits = exported_classes((*"0123456789", "other", "invalid"), None, 0.2)
>>> budget = SeriesBudget(lambda: 34)
>>> own = budget.share({"a": digits, "b": digits, "c": digits}, models=MAXIMUM_MODELS + 1)
>>> [sorted(own[output])[-1] for output in "abc"]
['8', '8', '9']
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from fnmatch import fnmatch
from inspect import signature
from typing import Any, TypeVar

from otel_drift.drift.exported_classes import Exported, by_baseline_share
from otel_drift.drift.reference import RESERVED
from otel_drift.telemetry.names import SCOPE
from otel_drift.telemetry.registry import MAXIMUM_MODELS

WITH_CLASSES = {
    "keras.predictions": "ObservableCounter",
    "keras.prediction.baseline.proportion": "ObservableGauge",
    "keras.prediction.baseline.lower": "ObservableGauge",
    "keras.prediction.baseline.upper": "ObservableGauge",
    "keras.prediction.drift.share": "ObservableGauge",
}
"""Instruments that have a series for each class, and of what kind they are."""
DEFAULT_LIMIT = 2_000
"""Of an SDK that has a limit, where it does not show."""

H = TypeVar("H", bound=Hashable)


class SeriesBudget:
    """Which classes of which outputs have series of their own.

    Parameters
    ----------
    limit
        Asked whenever there are new outputs, because the SDK may come after us.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self._limit = limit
        self._own: dict[Hashable, frozenset[str]] = {}
        self._seen: dict[Hashable, frozenset[str]] = {}
        self._taken = 0
        """Series so far. The SDK forgets none, so those of an output that has ended count too."""
        self.reset()

    def reset(self) -> None:
        """Make the lock anew in the child of a fork: its SDK still has the parent's series."""
        self._lock = threading.Lock()

    def share(self, outputs: Mapping[H, Exported], models: int) -> dict[H, frozenset[str] | None]:
        """Place the classes of outputs; what has been placed stays.

        Parameters
        ----------
        outputs
            All that there are, with what they would export.
        models
            How many there are; for the others, up to the maximum, two series each are kept back.

        Returns
        -------
        dict
            The classes with series of their own, without ``other`` and ``invalid``, which always
            have them; None for an output that has no series at all.
        """
        wanted = {output: self._not_seen(output, one) for output, one in outputs.items()}
        wanted = {one: names for one, names in wanted.items() if names or one not in self._own}
        if wanted:
            limit = self._limit()
            with self._lock:
                self._place(wanted, limit, models)
        return {output: self._own.get(output) for output in outputs}

    def _not_seen(self, output: Hashable, exported: Exported) -> list[str]:
        seen = self._seen.get(output, frozenset())
        return [name for name in by_baseline_share(exported) if name not in seen]

    def _place(self, wanted: Mapping[H, list[str]], limit: float, models: int) -> None:
        # One more than the maximum: the models beyond it are counted as one.
        for output in wanted:
            if output not in self._own and limit - self._taken >= len(RESERVED):
                self._own[output] = self._seen[output] = frozenset()
                self._taken += len(RESERVED)
        later = len(RESERVED) * max(MAXIMUM_MODELS + 1 - models, 0)
        room = limit - self._taken - min(later, limit / 2)
        placed = [output for output in wanted if output in self._own]
        # Who wants least is served first: what it leaves is shared by the others.
        placed.sort(key=lambda output: len(wanted[output]))
        for served, output in enumerate(placed):
            names = wanted[output]
            fair = max(room, 0) / (len(placed) - served)
            own = names if len(names) <= fair else names[: int(fair)]
            self._own[output] |= frozenset(own)
            self._seen[output] |= frozenset(names)
            self._taken += len(own)
            room -= len(own)


def series_limit_of(meter_provider: Any) -> float:
    """Give the limit of a meter provider, as far as it shows; infinite where there is none.

    There is no public way to ask for it. Of several readers the smallest counts.
    """
    if not _sdk_has_limit():
        return math.inf
    readers = list(getattr(meter_provider, "_metric_readers", ()))
    views = list(getattr(getattr(meter_provider, "_sdk_config", None), "views", ()))
    return min((one for reader in readers for one in _limits(reader, views)), default=DEFAULT_LIMIT)


def _sdk_has_limit() -> bool:
    """Whether the SDK, if there is one, takes ``cardinality_limits``."""
    export = sys.modules.get("opentelemetry.sdk.metrics.export")
    reader = getattr(export, "MetricReader", None)
    return reader is not None and "cardinality_limits" in signature(reader).parameters


def _limits(reader: Any, views: list[Any]) -> Iterator[float]:
    """Give the limit of each instrument with classes: of each view that takes it, or the reader."""
    by_class: dict[type, int] = getattr(reader, "_instrument_class_cardinality_limit", {})
    by_kind = {kind.__name__.lstrip("_"): limit for kind, limit in by_class.items()}
    for name, kind in WITH_CLASSES.items():
        of_reader = by_kind.get(kind, DEFAULT_LIMIT)
        taking = [view for view in views if _takes(view, name, kind)]
        for view in taking:
            yield getattr(view, "_aggregation_cardinality_limit", None) or of_reader
        if not taking:
            yield of_reader


def _takes(view: Any, name: str, kind: str) -> bool:
    of_name = getattr(view, "_instrument_name", None)
    of_type = getattr(view, "_instrument_type", None)
    of_meter = getattr(view, "_meter_name", None)
    return (
        (of_name is None or fnmatch(name, of_name))
        and (of_type is None or of_type.__name__.lstrip("_") == kind)
        and (of_meter is None or of_meter == SCOPE)
    )
