"""Reading what one model returns: labels for each of its series.

How an output is read is settled at its first array; from then on reading it is a look-up, a read
and a decision. A reader knows neither baselines nor monitors: it is given the series that were
prepared, and asks for others.

>>> import numpy as np
>>> from otel_drift.outputs.interpretation import Series
>>> from otel_drift.outputs.series import SeriesOfModel
>>> kept = []
>>> prepared = {"output": Series(("cat", "dog"), frozenset({2}), True, None, kept.append)}
>>> reader = OutputReader("pets", SeriesOfModel(prepared, start=None), failed=print)
>>> found = reader.read(np.array([[0.9, 0.1], [0.3, 0.7]]))
>>> found.rows, [labels.tolist() for _, labels in found.now]
(2, [[0, 1]])
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.reference import OTHER
from otel_drift.outputs.arrays import TRACED, UNREADABLE, Later, is_traced, read
from otel_drift.outputs.decision import Argmax, Decision, Labels
from otel_drift.outputs.interpretation import (
    Interpretation,
    Series,
    interpretation_of,
    undecidable,
)
from otel_drift.outputs.series import SeriesOfModel
from otel_drift.outputs.structure import leaves, parts
from otel_drift.outputs.usual import LabelsOf, argmax_of

logger = logging.getLogger(__name__)

Batch = tuple[Callable[[Labels], None], Labels]
"""Labels, and what takes them."""


class Failed(Protocol):
    """Counts a failure of the instrumentation itself, and logs the first of each subject."""

    def __call__(
        self, error_type: str, what: str, *, subject: str = "", traceback: bool = True
    ) -> None:
        """Count it."""
        ...


class KnownOutput:
    """One output of which it is settled how it is read."""

    __slots__ = ("_holds", "_positions", "_row_shape", "_shape", "decision")

    def __init__(self, decision: Decision, series: list[Series], shape: tuple[int, ...]) -> None:
        self.decision = decision
        self._holds = tuple(one.hold for one in series)
        self._shape, self._row_shape = shape, shape[1:]
        self._positions = {name: index for index, name in enumerate(series[0].classes)}

    def batches(self, values: NDArray[Any]) -> list[Batch]:
        """Decide the rows of an array.

        Raises
        ------
        ValueError
            If the array does not fit the decision, or the first array that was read by it.
        """
        if values.dtype.kind in "OUS":
            values = self._numbered(values)
        if values.shape[1:] != self._row_shape and not self.decision.fits(values, self._shape):
            raise ValueError(
                f"output of shape {values.shape}: is read as {self.decision.kind}, "
                f"since it first had the shape {self._shape}"
            )
        return list(zip(self._holds, self.decision.labels(values), strict=True))

    def batches_of_labels(self, labels: Labels) -> list[Batch]:
        """Take labels that a device has decided."""
        return [(self._holds[0], labels)]

    def labels_of(self, first: Any) -> LabelsOf | None:
        """Give what makes labels of arrays like this one: of that type, with as many classes.

        It gives None for an array that needs a closer look, as with a NaN in it. There is none for
        other decisions than the largest of each row's scores.
        """
        if type(self.decision) is not Argmax or len(self._shape) != 2 or self._shape[1] < 2:
            return None
        return argmax_of(cast("type[Any]", type(first)), self._shape[1])

    def _numbered(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """Turn class names into labels."""
        flat: list[Any] = names.reshape(-1).tolist()
        return np.array([self._positions.get(str(one), OTHER) for one in flat], dtype=np.int64)


class Found(NamedTuple):
    """What a call returned: its rows, and labels for each series."""

    rows: int
    now: list[Batch]
    later: list[tuple[KnownOutput, Later]]
    """What a device has yet to deliver."""


NOTHING = Found(0, [], [])


class OutputReader:
    """Read what one model returns.

    Parameters
    ----------
    model_name
        For messages.
    series
        That its outputs go to.
    failed
        Counts what cannot be read.
    decision
        How rows become classes, where the user said it.
    function
        The user's own: turns what the model returns into labels, or a dict of them by output name.
    learning
        Whether series without a baseline learn one from their first predictions.
    """

    def __init__(
        self,
        model_name: str,
        series: SeriesOfModel,
        failed: Failed,
        *,
        decision: Decision | None = None,
        function: Callable[[Any], Any] | None = None,
        learning: bool = False,
    ) -> None:
        self._model_name = model_name
        self._series = series
        self._failed = failed
        self._decision = decision
        self._function = function
        self.activation_of: Callable[[Any, str, NDArray[Any]], str | None] | None = None
        """Given a model, an output's name and its first array: the name of the activation that made
        it, if it shows."""
        self._learning = learning
        self._known: dict[str, KnownOutput | None] = {}
        """By output name; None where it is settled that it is not read."""
        self.usual: dict[type[Any], LabelsOf] = {}
        """What makes labels of the only output, by the type of its arrays. Where it gives None, or
        there is none, `read` tells more."""
        self._said_traced = False

    def read(self, y: Any, model: Any = None) -> Found | None:
        """Read what a call returned; None if it was no prediction but a tracing of the model.

        Never raises: what cannot be read is counted as a failure, and the rest is read.

        Parameters
        ----------
        y
            An array, or a list or dict of such.
        model
            What returned it, for what its layers say about its outputs.
        """
        try:
            # Mostly there is but one array.
            given = [("output", y)] if hasattr(y, "shape") else parts(y)
            if self._function is not None:
                if any(is_traced(value) for _, value in leaves(y)):
                    return None
                given = parts(self._function(y))
        except Exception:
            self._failed("output", f"{self._model_name}: the outputs function failed")
            return Found(self._rows_of(y), [], [])
        now: list[Batch] = []
        later: list[tuple[KnownOutput, Later]] = []
        for output, value in given:
            try:
                known = self._known.get(output)
                values = read(value, known is not None and known.decision.on_device)
                if type(values) is np.ndarray and known is not None:
                    now.extend(known.batches(values))
                    if value is y:
                        self._learn_usual(known, y)
                elif values is TRACED:
                    self._say_traced(value)
                    return None
                else:
                    first = self._read_other(output, value, values, model, len(given) == 1)
                    now.extend(first.now)
                    later.extend(first.later)
            except Exception:
                what = f"{self._model_name}: output {output!r} cannot be counted"
                self._failed("output", what, subject=output)
        return Found(self._rows_of(y), now, later)

    def hold_usual(self, labels: Labels) -> None:
        """Take labels that one of `usual` has made."""
        known = self._known["output"]
        if known is not None:
            for hold, one in known.batches_of_labels(labels):
                hold(one)

    def _learn_usual(self, known: KnownOutput, y: Any) -> None:
        """Make what reads such arrays with the least effort from now on."""
        if self._function is None and type(y) not in self.usual:
            labels_of = known.labels_of(y)
            self.usual[type(y)] = labels_of or _none

    def _read_other(self, output: str, value: Any, values: Any, model: Any, only: bool) -> Found:
        """Read what is seen for the first time, not ready yet, or not to be read at all."""
        if values is UNREADABLE:
            kind = type(value).__name__
            what = f"{self._model_name}: output {output!r} of type {kind} cannot be read"
            self._failed("output", what, subject=f"{output} {kind}", traceback=False)
            return NOTHING
        if output not in self._known:
            if isinstance(values, Later):
                values = values.read()  # waits, once in an output's life, to learn its shape
            self._settle(output, values, model, only)
        known = self._known.get(output)
        if known is None:
            return NOTHING
        if isinstance(values, Later):
            return Found(0, [], [(known, values)])
        return Found(0, known.batches(values), [])

    def _settle(self, output: str, values: NDArray[Any], model: Any, only: bool) -> None:
        """Settle how an output is to be read; not by an array that does not tell."""
        with self._series.settling:
            if output in self._known:
                return
            expected = self._series.expected(output, only)
            if values.dtype.kind in "OUS":  # class names, which stand for labels
                values = np.zeros(values.shape, dtype=np.int64)
            activation = None
            if self.activation_of is not None and model is not None:
                activation = self.activation_of(model, output, values)
            reading = interpretation_of(
                output, values, asked=self._decision, expected=expected, activation=activation
            )
            if reading.decision is None and undecidable(values):
                return
            series = self._series_of(output, reading, expected)
            known = None
            if reading.decision is not None and series:
                known = KnownOutput(reading.decision, series, values.shape)
            self._known[output] = known

    def _series_of(
        self, output: str, reading: Interpretation, expected: Mapping[str, Series]
    ) -> list[Series]:
        """Give the series that an output goes to; none if it is not to be read."""
        if reading.decision is None:
            logger.warning(
                "%s: output %r %s: durations only. Set the option decision (or "
                "OTEL_PYTHON_KERAS_DECISION) to argmax, threshold:0.5 or multilabel:0.5, give a "
                "baseline that says it, or an outputs function",
                *(self._model_name, output, reading.problem),
            )
            return []
        if expected and reading.problem is None:
            self._series.take(expected)
            return list(expected.values())
        if reading.problem is not None:
            self._series.leave(expected)
            what = (
                f"{self._model_name}: output {output!r}: {reading.problem}: counting classes only"
            )
            self._failed("baseline", what, subject=output, traceback=False)
        elif not self._learning:
            logger.warning(
                "%s: output %r has no baseline: durations and class counts only. To watch for "
                "drift, save one beside the model (otel_drift.Baseline.from_model) or name one "
                "with OTEL_PYTHON_KERAS_BASELINE",
                *(self._model_name, output),
            )
        started = [self._series.started(name, reading.classes) for name in reading.series]
        return [one for one in started if one is not None]

    def _rows_of(self, y: Any) -> int:
        """Count the rows of the first array; what has no shape has none."""
        try:
            first = y if hasattr(y, "shape") else next((value for _, value in parts(y)), None)
            shape = getattr(first, "shape", None)
            if shape is None:
                return 0
            return int(shape[0]) if len(shape) else 1
        except Exception:
            self._failed("output", f"{self._model_name}: rows cannot be counted", subject="rows")
            return 0

    def _say_traced(self, value: Any) -> None:
        """Say, once, that a program has made a function of a model that bypasses us."""
        if self._said_traced or type(value).__module__.startswith("keras."):
            return  # a model built into another is called through that one
        self._said_traced = True
        logger.warning(
            "%s: was traced, by jax.jit, tf.function, an export or the like: what the resulting "
            "function predicts does not pass through Keras and is not recorded; otel_drift.watch "
            "can count it",
            self._model_name,
        )


def _none(_: Any) -> None:
    """Leave it to `OutputReader.read`."""
