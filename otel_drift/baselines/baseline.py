"""The baseline: how often a model predicts each class when all is well, and how sure that is.

>>> from otel_drift import Baseline
>>> baseline = Baseline.from_counts([120, 80], classes=["cat", "dog"])
>>> baseline.size
200
>>> baseline.proportions.tolist()
[0.6, 0.4]

It is saved as JSON beside the model, where an instrumented program finds it by itself: the
baseline of ``digits.keras`` is ``digits.baseline.json``.

>>> import tempfile, pathlib
>>> with tempfile.TemporaryDirectory() as folder:
...     path = baseline.save(pathlib.Path(folder) / "pets.baseline.json")
...     Baseline.load(path) == baseline
True

A baseline counted from predictions is a sample. `Baseline.tolerated_band` says which distributions
count as "not moved": within the tolerance of the baseline, or within what its size leaves open.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from otel_drift.baselines.document import Entry, read_document, write_document
from otel_drift.baselines.files import MODEL_SUFFIXES, path_beside, shortened
from otel_drift.baselines.fingerprint import fingerprint_of
from otel_drift.baselines.log import class_positions, prediction_log
from otel_drift.drift.band import DEFAULT_TOLERANCE, Floats
from otel_drift.drift.calibration import calibrate, exceptional_part
from otel_drift.drift.reference import INVALID, MAXIMUM_CLASSES, ReferenceDistribution
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH
from otel_drift.drift.variation import Variation
from otel_drift.outputs.decision import (
    Argmax,
    Bins,
    Decision,
    Labels,
    MultiLabel,
    Threshold,
)
from otel_drift.outputs.structure import leaves


@dataclass(frozen=True, eq=False)
class Baseline(ReferenceDistribution):
    """Class proportions of one model output, and how many predictions they were counted from.

    Use the constructors `uniform`, `from_counts`, `from_proportions`, `from_labels`,
    `from_predictions`, `from_model` and `load`.

    Attributes
    ----------
    classes
        Names of the K classes, in the order of the model's output.
    proportions
        Shape (K,), summing to 1.
    counts
        Shape (K,), or None where the proportions are known exactly.
    decision
        How the model's output becomes a class, or None: as the output's shape suggests.
    output
        Name of the model output: its place in a list or dict of outputs.
    model_fingerprint
        `fingerprint_of` the model that it was taken from, if any.
    source
        Where it was read, for messages.
    """

    decision: Decision | None = None
    output: str = "output"
    model_fingerprint: str | None = None
    source: str = field(default="baseline", repr=False)

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None

    def __eq__(self, other: object) -> bool:
        """Compare what is expected, not where it was read."""
        if not isinstance(other, Baseline):
            return NotImplemented
        return (
            self.fingerprint == other.fingerprint
            and self.decision == other.decision
            and self.output == other.output
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @classmethod
    def uniform(cls, k: int, classes: Iterable[str] | None = None) -> Baseline:
        """Expect every one of `k` classes equally often, as known exactly.

        Predictions of real models are seldom uniform, not even on balanced data: prefer counting.
        """
        if not 2 <= k <= MAXIMUM_CLASSES:
            raise ValueError(f"k={k!r}: a baseline has 2 to {MAXIMUM_CLASSES} classes")
        return cls(_names(classes, k), np.full(k, 1 / k))

    @classmethod
    def from_counts(
        cls,
        counts: ArrayLike,
        classes: Iterable[str] | None = None,
        *,
        decision: Decision | None = None,
    ) -> Baseline:
        """Take how often each class was predicted.

        Parameters
        ----------
        counts
            Whole numbers, shape (K,); their sum is the baseline's size.
        classes
            K names; "0", "1", ... by default.
        decision
            How the model's output becomes a class.

        Raises
        ------
        ValueError
            If there are fewer than 2 classes or a count is negative, NaN or not whole.
        """
        return _from_counts(counts, classes, "counts", decision=decision)

    @classmethod
    def from_proportions(
        cls,
        proportions: ArrayLike,
        classes: Iterable[str] | None = None,
        *,
        decision: Decision | None = None,
    ) -> Baseline:
        """Take proportions that are known exactly; what was counted belongs in `from_counts`.

        Parameters
        ----------
        proportions
            Shape (K,), at least 0, summing to 1 within 1e-6 (then divided by their sum).

        Raises
        ------
        ValueError
            If there are fewer than 2 classes, or a proportion is negative or NaN, or the sum is
            not 1.
        """
        return _from_proportions(proportions, classes, "proportions", decision=decision)

    @classmethod
    def from_labels(cls, labels: Iterable[Any], classes: Iterable[str] | None = None) -> Baseline:
        """Count labels: whole numbers from 0, or names.

        Parameters
        ----------
        labels
            One a prediction. Whole numbers are indices into `classes`; names are classes.
        classes
            All classes that can occur, seen or not; by default "0" to the largest number, or the
            names in alphabetical order.

        Raises
        ------
        ValueError
            If a label is negative, not whole, or not among `classes`, or fewer than 2 classes
            remain.
        """
        values, names = class_positions(labels, classes)
        return _from_counts(np.bincount(values, minlength=len(names)), names, "labels")

    @classmethod
    def from_log(
        cls,
        labels: Iterable[Any],
        times: Iterable[Any] | None = None,
        calls: Iterable[Any] | None = None,
        keys: Iterable[Any] | None = None,
        *,
        classes: Iterable[str] | None = None,
        average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
        tolerance: float = DEFAULT_TOLERANCE,
        accept: bool = False,
    ) -> Baseline:
        """Learn from predictions in order: shares, and how far they vary while all is well.

        The command ``otel-drift calibrate`` does the same and reports what it found.

        Parameters
        ----------
        labels
            One a prediction, in stream order: whole numbers from 0, or names; at least 8,192.
        times
            When each was made: seconds since the epoch, ISO 8601 texts or datetimes, not falling.
        calls, keys
            The call, or the session, that each belongs to: any values. Keys go before calls.
        classes
            All classes that can occur.
        average_run_length, tolerance
            Of the detector that the log is replayed with.
        accept
            Learn also from a log of which a part is not like the rest.

        Raises
        ------
        ValueError
            If the log is too short or has one class only, a part of it is not like the rest, or as
            of `otel_drift.baselines.log.prediction_log`.
        """
        log = prediction_log(labels, times, calls, keys, classes)
        found = calibrate(
            log.labels,
            log.classes,
            calls=log.calls,
            units=log.units,
            average_run_length=average_run_length,
            tolerance=tolerance,
        )
        if found.exceptional is not None and not accept:
            raise ValueError(
                f"{exceptional_part(found.exceptional, log.classes)}. Leave that part out if "
                f"something was wrong; if not, accept=True learns it"
            )
        return cls.of_reference(found.reference)

    @classmethod
    def of_reference(cls, reference: ReferenceDistribution, **known: Any) -> Baseline:
        """Make a baseline of a reference distribution, given what else is known of it."""
        return cls(
            reference.classes,
            reference.proportions,
            reference.counts,
            reference.variation,
            **known,
        )

    @classmethod
    def from_predictions(
        cls,
        predictions: ArrayLike,
        classes: Iterable[str] | None = None,
        *,
        decision: Decision | str | None = None,
        bins: int = 10,
    ) -> Baseline:
        """Count what a model predicted on data like that of production.

        Parameters
        ----------
        predictions
            One output of the model as `predict` returns it. (n, K) and (n, ..., K) with K >= 2
            are read as scores by class. (n,) and (n, 1) are read as probabilities of class 1 if
            all lie in [0, 1], and else as a regression, binned by quantiles.
        classes
            Names of the classes.
        decision
            How a row becomes a class, if not as above: a `Decision` or its text, such as
            ``"threshold:0.7"``.
        bins
            Number of quantile bins of a regression.

        Raises
        ------
        TypeError
            If the decision is neither a `Decision` nor text.
        ValueError
            If there is no row, or the shape does not suit the decision.
        """
        values = np.asarray(predictions)
        if values.size == 0:
            raise ValueError(f"predictions of shape {values.shape}: there is nothing to count")
        chosen = suggested_decision(values, bins) if decision is None else Decision.of(decision)
        if isinstance(chosen, MultiLabel):
            raise ValueError(
                "decision multilabel: each label has a baseline of its own: take them with "
                "otel_drift.baselines_from_model"
            )
        (labels,) = chosen.labels(values)
        k = chosen.class_count(values) or int(labels.max(initial=INVALID)) + 1
        return _from_labels(labels, k, classes, chosen)

    @classmethod
    def from_model(cls, model: Any, x: Any, **options: Any) -> Baseline:
        """Predict on data like that of production, with Keras's progress bar, and count.

        Parameters
        ----------
        model
            A Keras model with one output (`baselines_from_model` serves several).
        x
            Whatever `model.predict` takes.
        **options
            As of `from_predictions`.

        Raises
        ------
        ValueError
            If the model has several outputs.
        """
        found = baselines_from_model(model, x, **options)
        if len(found) != 1:
            raise ValueError(
                f"model {model.name!r} has the outputs {', '.join(found)}: "
                "take them with otel_drift.baselines_from_model"
            )
        return next(iter(found.values()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], output: str | None = None) -> Baseline:
        """Read a baseline file.

        Parameters
        ----------
        path
            The JSON file.
        output
            Which output's baseline to take, where the file holds several.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a baseline file of a known schema version; names file, field and value.
        """
        found = load_baselines(path)
        if output is None and len(found) == 1:
            return next(iter(found.values()))
        if output is None or output not in found:
            raise ValueError(
                f"{path}: output {output!r} is not in field 'outputs', which has {', '.join(found)}"
            )
        return found[output]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a baseline file, whole or not at all, and return its path.

        A path that ends in ``.keras`` or ``.h5`` stands for the baseline beside that model.
        """
        return save_baselines({self.output: self}, path)


def suggested_decision(values: NDArray[Any], bins: int = 10) -> Decision:
    """How to read predictions of this shape, when nobody says (see `Baseline.from_predictions`)."""
    if values.ndim >= 2 and values.shape[-1] >= 2:
        return Argmax()
    column = values.reshape(-1).astype(np.float64)
    finite = column[np.isfinite(column)]
    if finite.size and float(finite.min()) >= 0 and float(finite.max()) <= 1:
        return Threshold()
    if not finite.size:
        raise ValueError("predictions hold no finite value: nothing to bin")
    quantiles: list[float] = np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1]).tolist()
    return Bins(tuple(sorted(set(quantiles))))


def baselines_from_predictions(
    predictions: Any,
    classes: Iterable[str] | None = None,
    *,
    decision: Decision | str | None = None,
    bins: int = 10,
) -> dict[str, Baseline]:
    """Count every output of a nested prediction; a multi-label output gives one for each label.

    Parameters and errors are those of `Baseline.from_predictions`.
    """
    chosen = None if decision is None else Decision.of(decision)
    names = None if classes is None else list(classes)
    found: dict[str, Baseline] = {}
    for output, values in leaves(predictions):
        if isinstance(chosen, MultiLabel):
            found.update(_of_each_label(output, np.asarray(values), names, chosen))
        else:
            one = Baseline.from_predictions(values, names, decision=chosen, bins=bins)
            found[output] = replace(one, output=output)
    return found


def _of_each_label(
    output: str, values: NDArray[Any], names: list[str] | None, decision: MultiLabel
) -> dict[str, Baseline]:
    found: dict[str, Baseline] = {}
    for position, labels in enumerate(decision.labels(values)):
        series = f"{output}.{position if names is None else names[position]}"
        found[series] = replace(_from_labels(labels, 2, None, decision), output=series)
    return found


def baselines_from_model(model: Any, x: Any, **options: Any) -> dict[str, Baseline]:
    """Predict on data like that of production and count every output of the model.

    Parameters
    ----------
    model
        A Keras model, or anything with such a ``predict`` and ``weights``.
    x
        Whatever ``model.predict`` takes.
    **options
        As of `Baseline.from_predictions`.

    Returns
    -------
    dict
        A baseline for each output by its name; of a multi-label output one for each label.
    """
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():  # these are not the program's predictions
        predictions = model.predict(x, verbose=1)
    found = baselines_from_predictions(predictions, **options)
    fingerprint = fingerprint_of(model)
    return {name: replace(one, model_fingerprint=fingerprint) for name, one in found.items()}


def save_baselines(baselines: Mapping[str, Baseline], path: str | os.PathLike[str]) -> Path:
    """Write the baselines of one model, by output name, to one file; return its path."""
    target = Path(path)
    if target.name.endswith(MODEL_SUFFIXES):
        target = path_beside(target)
    fingerprints = {one.model_fingerprint for one in baselines.values()} - {None}
    entries = [
        Entry(
            output,
            list(one.classes),
            one.decision,
            None if one.counts is None else one.counts.tolist(),
            one.proportions.tolist() if one.counts is None else None,
            one.variation and one.variation.to_json(),
        )
        for output, one in baselines.items()
    ]
    write_document(target, entries, fingerprints.pop() if len(fingerprints) == 1 else None)
    return target


def load_baselines(path: str | os.PathLike[str]) -> dict[str, Baseline]:
    """Read the baselines of one model, by output name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a baseline file of a known schema version; names file, field and value.
    """
    file = Path(path)
    document = read_document(file)
    found: dict[str, Baseline] = {}
    for entry in document.entries:
        where = f"{file}: field 'outputs.{entry.output}."
        known: dict[str, Any] = {
            "decision": entry.decision,
            "output": entry.output,
            "model_fingerprint": document.model_fingerprint,
            "source": str(file),
            "variation": _variation(entry.variation, where),
        }
        found[entry.output] = (
            _from_counts(entry.counts, entry.classes, f"{where}counts'", **known)
            if entry.counts is not None
            else _from_proportions(
                entry.proportions, entry.classes, f"{where}proportions'", **known
            )
        )
    return found


def _variation(value: Any, where: str) -> Variation | None:
    if value is None:
        return None
    try:
        return Variation.from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}variation': {error}") from error


def _from_counts(
    counts: ArrayLike, classes: Iterable[str] | None, where: str, **known: Any
) -> Baseline:
    numbers = _numbers(counts, where)
    for index in np.flatnonzero(numbers != np.floor(numbers))[:1]:
        raise ValueError(f"{where}[{index}] is {numbers[index]!r}: must be a whole number")
    if float(numbers.sum()) == 0:
        raise ValueError(f"{where} are all 0: a baseline needs predictions")
    whole = numbers.astype(np.int64)
    return Baseline(_names(classes, len(whole)), whole / whole.sum(), counts=whole, **known)


def _from_proportions(
    proportions: ArrayLike, classes: Iterable[str] | None, where: str, **known: Any
) -> Baseline:
    numbers = _numbers(proportions, where)
    total = math.fsum(numbers.tolist())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{where} sum to {total!r}: must sum to 1")
    return Baseline(_names(classes, len(numbers)), numbers / total, **known)


def _from_labels(
    labels: Labels, k: int, classes: Iterable[str] | None, decision: Decision
) -> Baseline:
    names = _names(classes, k)
    invalid = int(np.count_nonzero((labels < 0) | (labels >= k)))
    valid = labels if not invalid else labels[(labels >= 0) & (labels < k)]
    counts = np.bincount(valid.astype(np.int64), minlength=k)
    if invalid:  # what the model emitted while all was well belongs to what is expected of it
        names = (*names, "invalid")
        counts = np.append(counts, invalid)
    return _from_counts(counts, names, "predictions", decision=decision)


def _numbers(values: ArrayLike, where: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is {shortened(values)}: must be a list of numbers") from None
    if numbers.ndim != 1:
        raise ValueError(f"{where} has shape {numbers.shape}: must be one number a class")
    for index in np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))[:1]:
        value = float(numbers[index])
        raise ValueError(f"{where}[{index}] is {value!r}: must be finite and at least 0")
    return numbers.copy()


def _names(classes: Iterable[str] | None, k: int) -> tuple[str, ...]:
    return tuple(map(str, range(k))) if classes is None else tuple(map(str, classes))
