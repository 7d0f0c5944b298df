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

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_drift.decision import Decision
from otel_drift.outputs import INVALID, Labels, label_columns, labels_of, leaves
from otel_drift.package import __version__

try:
    from scipy.special import betaincinv as _beta_quantile
except ImportError:  # injected beside an application that has NumPy but no SciPy
    _beta_quantile = None

SCHEMA_VERSION = 1
SUFFIX = ".baseline.json"
MAXIMUM_CLASSES = 10_000
DEFAULT_TOLERANCE = 0.2
CONFIDENCE = 0.99
"""Confidence that a counted baseline's band holds the true shares of all classes at once."""
UNSEEN_UPPER = 0.001
"""Share up to which a class that is known not to occur may still occur."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Baseline:
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
    """

    classes: tuple[str, ...]
    proportions: Floats
    counts: NDArray[np.int64] | None = None
    decision: Decision | None = None
    output: str = "output"
    model_fingerprint: str | None = None
    source: str = field(default="baseline", repr=False)

    def __post_init__(self) -> None:
        if len(self.proportions) != len(self.classes):
            raise ValueError(
                f"{self.source}: field 'classes' names {len(self.classes)} classes, "
                f"but there are {len(self.proportions)} proportions or counts"
            )
        _check_classes(self.classes, self.source)
        self.proportions.flags.writeable = False
        if self.counts is not None:
            self.counts.flags.writeable = False

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

    @property
    def size(self) -> int | None:
        """Predictions it was counted from; None where the proportions are known exactly."""
        return None if self.counts is None else int(self.counts.sum())

    @cached_property
    def fingerprint(self) -> str:
        """Digest of classes and counts (or proportions): equal for equal baselines only."""
        numbers = self.proportions if self.counts is None else self.counts
        content = json.dumps([self.counts is None, self.classes, numbers.tolist()])
        return hashlib.sha256(content.encode()).hexdigest()

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
        given: Any = labels if hasattr(labels, "__array__") else list(labels)
        values: NDArray[Any] = np.asarray(given).reshape(-1)
        if values.dtype.kind in "OUS":
            names = [str(value) for value in values.tolist()]
            known = list(classes) if classes is not None else sorted(set(names))
            position = {name: index for index, name in enumerate(known)}
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(f"label {unknown[0]!r}: not among the {len(known)} classes given")
            values = np.array([position[name] for name in names], dtype=np.int64)
            classes = known
        else:
            values = labels_of(values, Decision("label"))
        names_given = None if classes is None else list(classes)
        k = len(names_given) if names_given is not None else int(values.max(initial=-1)) + 1
        if values.size and (int(values.min()) < 0 or int(values.max()) >= k):
            wrong = int(values.min()) if int(values.min()) < 0 else int(values.max())
            raise ValueError(f"label {wrong}: must be a whole number from 0 to {k - 1}")
        if k > MAXIMUM_CLASSES:
            raise ValueError(f"label {k - 1}: a baseline has at most {MAXIMUM_CLASSES} classes")
        counts = np.bincount(values.astype(np.int64), minlength=k)
        return _from_counts(counts, names_given, "labels")

    @classmethod
    def from_predictions(
        cls,
        predictions: ArrayLike,
        classes: Iterable[str] | None = None,
        *,
        decision: Decision | None = None,
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
            How a row becomes a class, if not as above.
        bins
            Number of quantile bins of a regression.

        Raises
        ------
        ValueError
            If there is no row, or the shape does not suit the decision.
        """
        values = np.asarray(predictions)
        if values.size == 0:
            raise ValueError(f"predictions of shape {values.shape}: there is nothing to count")
        decision = decision or suggested_decision(values, bins)
        return _from_labels(
            labels_of(values, decision), _class_count(values, decision), classes, decision
        )

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
                "take them with otel_drift.baseline.baselines_from_model"
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

    def tolerated_band(self, tolerance: float = DEFAULT_TOLERANCE) -> tuple[Floats, Floats]:
        """Edges of the distributions that count as not moved, each of shape (K,).

        Parameters
        ----------
        tolerance
            Relative change d of a class's share that does not matter, above 0 and below 1.

        Returns
        -------
        lower, upper
            ``P (1 - d)`` and ``P (1 + d)`` where the proportions are known. Where they were
            counted, the hull of that and of Clopper and Pearson's confidence limits, at 99 % for
            all classes together (each limit at 0.01 / 2K).

        Raises
        ------
        ValueError
            If the tolerance is not between 0 and 1.
        """
        check_tolerance(tolerance)
        lower = self.proportions * (1 - tolerance)
        upper = np.minimum(1.0, self.proportions * (1 + tolerance))
        if self.counts is not None:
            low, high = confidence_limits(self.counts, (1 - CONFIDENCE) / (2 * len(self.classes)))
            lower = np.minimum(lower, low)
            upper = np.maximum(upper, high)
            open_ended = np.array([name in RESERVED for name in self.classes])
        else:
            open_ended = np.ones(len(self.classes), dtype=bool)
        unseen = (self.proportions == 0) & open_ended
        return lower, np.where(unseen, np.maximum(upper, UNSEEN_UPPER), upper)

    def starting_proportions(self) -> Floats:
        """Where bets on a change start from: shape (K,), all above 0, summing to 1.

        Half a count is added to each class of a counted baseline (Krichevsky and Trofimov); a
        class known not to occur gets half of the share that it may have.
        """
        if self.counts is not None:
            return (self.counts + 0.5) / (self.counts.sum() + len(self.classes) / 2)
        start = np.where(self.proportions == 0, UNSEEN_UPPER / 2, self.proportions)
        return start / start.sum()

    def with_reserved_classes(self) -> Baseline:
        """Give the same baseline with the classes ``other`` and ``invalid`` added, unseen."""
        missing = tuple(name for name in RESERVED if name not in self.classes)
        zeros = np.zeros(len(missing))
        return replace(
            self,
            classes=self.classes + missing,
            proportions=np.concatenate([self.proportions, zeros]),
            counts=None
            if self.counts is None
            else np.concatenate([self.counts, zeros.astype(np.int64)]),
        )

    def pooled(self, index: NDArray[np.intp], classes: Sequence[str]) -> Baseline:
        """Give the baseline of fewer classes: class k goes to ``classes[index[k]]``."""

        def pool(values: NDArray[Any]) -> Floats:
            sums = np.bincount(index, weights=values, minlength=len(classes))
            return sums.astype(np.float64)

        return replace(
            self,
            classes=tuple(classes),
            proportions=pool(self.proportions),
            counts=None if self.counts is None else np.rint(pool(self.counts)).astype(np.int64),
        )


RESERVED = ("other", "invalid")
"""Classes that every watched output has besides its own."""


def check_tolerance(tolerance: float) -> None:
    """Raise a ValueError unless 0 < tolerance < 1."""
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r}: must be above 0 and below 1, like 0.2 for 20 %")


def confidence_limits(counts: NDArray[np.int64], level: float) -> tuple[Floats, Floats]:
    """Limits of a share that was counted, each wrong with probability `level`.

    Clopper and Pearson's (1934), by the beta quantile; without SciPy the Wilson-Hilferty form of
    the Poisson limits, which lies within a few per cent of them.
    """
    size = int(counts.sum())
    x = counts.astype(np.float64)
    if _beta_quantile is not None:
        with np.errstate(invalid="ignore"):
            low = np.where(x > 0, _beta_quantile(np.maximum(x, 0.5), size - x + 1, level), 0.0)
            above = _beta_quantile(x + 1, np.maximum(size - x, 0.5), 1 - level)
        return low, np.where(x < size, above, 1.0)
    z = NormalDist().inv_cdf(1 - level)
    positive = np.maximum(x, 1)
    low_root = np.maximum(0, 1 - 1 / (9 * positive) - z / (3 * np.sqrt(positive)))
    high_root = 1 - 1 / (9 * (x + 1)) + z / (3 * np.sqrt(x + 1))
    low = np.where(x > 0, x * low_root**3, 0) / size
    return low, np.minimum(1.0, (x + 1) * high_root**3 / size)


def suggested_decision(values: NDArray[Any], bins: int = 10) -> Decision:
    """How to read predictions of this shape, when nobody says (see `Baseline.from_predictions`)."""
    if values.ndim >= 2 and values.shape[-1] >= 2:
        return Decision("argmax")
    column = values.reshape(-1).astype(np.float64)
    finite = column[np.isfinite(column)]
    if finite.size and float(finite.min()) >= 0 and float(finite.max()) <= 1:
        return Decision("threshold")
    if not finite.size:
        raise ValueError("predictions hold no finite value: nothing to bin")
    quantiles: list[float] = np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1]).tolist()
    return Decision("bins", edges=tuple(sorted(set(quantiles))))


def baselines_from_predictions(
    predictions: Any,
    classes: Iterable[str] | None = None,
    *,
    decision: Decision | None = None,
    bins: int = 10,
) -> dict[str, Baseline]:
    """Count every output of a nested prediction; a multi-label output gives one for each label."""
    found: dict[str, Baseline] = {}
    for name, values in leaves(predictions):
        if decision is not None and decision.kind == "multilabel":
            names = list(classes) if classes is not None else None
            columns = label_columns(np.asarray(values), decision.threshold)
            for position, labels in enumerate(columns):
                label = names[position] if names is not None else str(position)
                one = _from_labels(labels, 2, None, decision)
                found[f"{name}.{label}"] = replace(one, output=f"{name}.{label}")
        else:
            one = Baseline.from_predictions(values, classes, decision=decision, bins=bins)
            found[name] = replace(one, output=name)
    return found


def baselines_from_model(model: Any, x: Any, **options: Any) -> dict[str, Baseline]:
    """Predict on data like that of production and count every output of the model."""
    with suppress_instrumentation():  # these are not the program's predictions
        predictions = model.predict(x, verbose=1)
    found = baselines_from_predictions(predictions, **options)
    fingerprint = fingerprint_of(model)
    return {name: replace(one, model_fingerprint=fingerprint) for name, one in found.items()}


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


def path_beside(model_path: str | os.PathLike[str]) -> Path:
    """Where the baseline of a model file lies: ``digits.keras`` has ``digits.baseline.json``."""
    path = Path(model_path)
    name = path.name
    for suffix in (".weights.h5", ".keras", ".h5", ".hdf5"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return path.with_name(name + SUFFIX)


def save_baselines(baselines: Mapping[str, Baseline], path: str | os.PathLike[str]) -> Path:
    """Write the baselines of one model, by output name, to one file; return its path."""
    target = Path(path)
    if target.suffix in (".keras", ".h5", ".hdf5"):
        target = path_beside(target)
    fingerprints = {one.model_fingerprint for one in baselines.values()} - {None}
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_fingerprint": fingerprints.pop() if len(fingerprints) == 1 else None,
        "versions": _versions(),
        "outputs": {name: _to_json(one) for name, one in baselines.items()},
    }
    temporary = target.with_name(target.name + f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, target)  # a reader sees the old file or the new one, never half of it
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
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: there is no such baseline file") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: not a JSON file that can be read: {error}") from error
    content = _object(content, file, "the file")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{file}: field 'schema_version' is {version!r}: this version of otel_drift "
            f"({__version__}) reads {SCHEMA_VERSION}"
        )
    outputs = _object(content.get("outputs"), file, "field 'outputs'")
    if not outputs:
        raise ValueError(f"{file}: field 'outputs' is empty: it must name at least one output")
    fingerprint = content.get("model_fingerprint")
    found: dict[str, Baseline] = {}
    for name, entry in outputs.items():
        one = _from_json(_object(entry, file, f"field 'outputs.{name}'"), file, name)
        found[name] = replace(one, model_fingerprint=fingerprint and str(fingerprint))
    return found


def _from_json(entry: Mapping[str, Any], file: Path, name: str) -> Baseline:
    where = f"{file}: field 'outputs.{name}."
    classes: Any = entry.get("classes")
    if not isinstance(classes, list) or not all(
        isinstance(one, str) for one in cast("list[Any]", classes)
    ):
        raise ValueError(
            f"{where}classes' is {_short(entry.get('classes'))}: must be a list of names"
        )
    names = cast("list[str]", classes)
    decision = None
    if entry.get("decision") is not None:
        raw = _object(entry["decision"], file, f"field 'outputs.{name}.decision'")
        try:
            decision = Decision(
                raw.get("kind", "argmax"),
                float(raw.get("threshold", 0.5)),
                tuple(float(edge) for edge in raw.get("edges", ())),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}decision': {error}") from error
    known = {"decision": decision, "output": name, "source": str(file)}
    if entry.get("counts") is not None:
        return _from_counts(entry["counts"], names, f"{where}counts'", **known)
    if entry.get("proportions") is not None:
        return _from_proportions(entry["proportions"], names, f"{where}proportions'", **known)
    raise ValueError(f"{where}counts' is missing: an output needs 'counts' or 'proportions'")


def _to_json(baseline: Baseline) -> dict[str, Any]:
    entry: dict[str, Any] = {"classes": list(baseline.classes), "size": baseline.size}
    if baseline.counts is not None:
        entry["counts"] = baseline.counts.tolist()
    else:
        entry["proportions"] = baseline.proportions.tolist()
    if baseline.decision is not None:
        decision: dict[str, Any] = {"kind": baseline.decision.kind}
        if baseline.decision.kind in ("threshold", "multilabel"):
            decision["threshold"] = baseline.decision.threshold
        if baseline.decision.kind == "bins":
            decision["edges"] = list(baseline.decision.edges)
        entry["decision"] = decision
    return entry


def _from_counts(
    counts: ArrayLike, classes: Iterable[str] | None, where: str, **known: Any
) -> Baseline:
    numbers = _numbers(counts, where)
    for index in np.flatnonzero(numbers != np.floor(numbers))[:1]:
        raise ValueError(f"{where}[{index}] is {numbers[index]!r}: must be a whole number")
    if float(numbers.sum()) == 0:
        raise ValueError(f"{where} are all 0: a baseline needs predictions")
    whole = numbers.astype(np.int64)
    return Baseline(_names(classes, len(whole)), whole / whole.sum(), whole, **known)


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


def _class_count(values: NDArray[Any], decision: Decision) -> int:
    if decision.kind == "argmax":
        return int(values.shape[-1])
    if decision.kind == "bins":
        return len(decision.edges) + 1
    if decision.kind == "label":
        return int(labels_of(values, decision).max(initial=INVALID)) + 1
    return 2


def _numbers(values: ArrayLike, where: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is {_short(values)}: must be a list of numbers") from None
    if numbers.ndim != 1:
        raise ValueError(f"{where} has shape {numbers.shape}: must be one number a class")
    for index in np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))[:1]:
        value = float(numbers[index])
        raise ValueError(f"{where}[{index}] is {value!r}: must be finite and at least 0")
    return numbers.copy()


def _check_classes(classes: tuple[str, ...], source: str) -> None:
    if not 2 <= len(classes) <= MAXIMUM_CLASSES + len(RESERVED):
        raise ValueError(
            f"{source}: field 'classes' has {len(classes)} classes: must be 2 to {MAXIMUM_CLASSES}"
        )
    seen: set[str] = set()
    for name in classes:
        if name in seen:
            raise ValueError(f"{source}: field 'classes' names {name!r} twice")
        seen.add(name)


def _names(classes: Iterable[str] | None, k: int) -> tuple[str, ...]:
    return tuple(map(str, range(k))) if classes is None else tuple(map(str, classes))


def _object(value: Any, file: Path, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{file}: {what} is {_short(value)}: must be a JSON object")
    return cast("Mapping[str, Any]", value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _versions() -> dict[str, str]:
    import sys

    found = {"otel_drift": __version__, "numpy": np.__version__}
    keras = sys.modules.get("keras")
    if keras is not None:
        found["keras"] = str(getattr(keras, "__version__", "unknown"))
    return found
