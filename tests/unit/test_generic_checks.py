"""What holds for everything that learns from a stream, whatever it is: one list, one set of checks.

What is new in `otel_drift.drift` and takes predictions goes into `SUBJECTS`; a check fails until it
does.
"""

from __future__ import annotations

import copy
import dataclasses
import doctest
import importlib
import inspect
import json
import math
import pickle
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import otel_drift.drift
from otel_drift import Baseline, Decision, DriftMonitor, SequentialDetector, chi_square_test
from otel_drift.drift.calls import CallDependence
from otel_drift.drift.chunks import CHUNK, chunk_counts
from otel_drift.drift.design_effect import LiveDesignEffect
from otel_drift.drift.dispersion import RecentBlocks
from otel_drift.drift.events import DriftAlarm
from otel_drift.drift.keys import Keys
from otel_drift.drift.variation import Variation
from otel_drift.drift.window import ChiSquareWindow

K, ROWS = 6, 4
BASELINE = Baseline.from_counts([400, 300, 200, 100, 100, 100])
LEARNT = dataclasses.replace(
    BASELINE,
    variation=Variation(
        2.0, (2.0,), 0.7 * BASELINE.proportions, 1.3 * BASELINE.proportions, 512, 40
    ),
)
TAKERS = ("update", "first", "update_counts")
"""Methods by which something in `otel_drift.drift` takes predictions."""


@dataclass(frozen=True)
class Subject:
    """One thing that learns from a stream, and how to use it."""

    make: Callable[[], Any]
    take: Callable[[Any, np.ndarray], Any]
    """Gives it the labels of one call, and what it hands back."""
    read: Callable[[Any], Any]
    """Asks it all that can be asked."""
    grain: int = 1
    """Where its stream may be cut: after so many labels, or a multiple."""
    by_call: bool = False
    """Whether where calls end means something to it."""
    shown: bool = True
    """Whether the docstring of its module shows it."""


def read_detector(one: SequentialDetector) -> Any:
    asked = ("evidence", "threshold", "predictions", "design_effect", "dependent", "active")
    return [getattr(one, name) for name in asked], one.alarms, one.explanation(), one.state()


def copied_arrays(one: Any) -> dict[str, np.ndarray]:
    """Give what it remembers; the arrays are its own, for the detector to restore."""
    return {name: values.copy() for name, values in one.arrays().items()}


def take_counts(one: LiveDesignEffect, labels: np.ndarray) -> Any:
    return one.update(chunk_counts(labels, K)).tolist()


def take_parts(one: RecentBlocks, labels: np.ndarray) -> Any:
    chunks = len(labels) // CHUNK
    return one.update(chunk_counts(labels, K), np.arange(1, chunks + 1)).design_effects.tolist()


def in_calls(labels: np.ndarray) -> np.ndarray:
    """Give the lengths of calls of four rows."""
    return np.full(len(labels) // ROWS, ROWS)


def read_calls(one: CallDependence) -> Any:
    arrays = copied_arrays(one)
    arrays["recent_calls"] = arrays["recent_calls"].round(6)  # sums that fade at each call
    return round(one.measured, 9), one.beyond, arrays


SUBJECTS = {
    "SequentialDetector": Subject(
        lambda: SequentialDetector(BASELINE), SequentialDetector.update, read_detector
    ),
    "SequentialDetector, calibrated": Subject(
        lambda: SequentialDetector(LEARNT), SequentialDetector.update, read_detector
    ),
    "SequentialDetector, of calls": Subject(
        lambda: SequentialDetector(BASELINE),
        lambda one, labels: one.update(labels, in_calls(labels)),
        read_detector,
        grain=ROWS,
    ),
    "ChiSquareWindow": Subject(
        lambda: ChiSquareWindow(BASELINE),
        lambda one, labels: one.update(labels, [len(labels)]),
        lambda one: (one.pending, one.newest),
        by_call=True,
    ),
    "DriftMonitor": Subject(
        lambda: DriftMonitor(BASELINE),
        DriftMonitor.update,
        DriftMonitor.snapshot,
        by_call=True,
    ),
    "DriftMonitor, learning": Subject(
        lambda: DriftMonitor(None, classes="abcdef", first=700),
        *(DriftMonitor.update, DriftMonitor.snapshot),
        by_call=True,
    ),
    "DriftMonitor, counting": Subject(
        lambda: DriftMonitor(None, classes="abcdef"),
        DriftMonitor.update,
        DriftMonitor.snapshot,
    ),
    "LiveDesignEffect": Subject(
        lambda: LiveDesignEffect(BASELINE.proportions),
        take_counts,
        lambda one: (one.measured, one.beyond, copied_arrays(one)),
        grain=CHUNK,
    ),
    "CallDependence": Subject(
        lambda: CallDependence(BASELINE.proportions),
        lambda one, labels: one.update(labels, in_calls(labels)).tolist(),
        read_calls,
        grain=ROWS,
    ),
    "RecentBlocks": Subject(
        lambda: RecentBlocks(4, K), take_parts, copied_arrays, grain=CHUNK, shown=False
    ),
    "Keys": Subject(
        Keys, lambda one, labels: one.first(labels).tolist(), lambda one: one.design_effect
    ),
}


def modules() -> Iterable[types.ModuleType]:
    path, prefix = otel_drift.drift.__path__, "otel_drift.drift."
    return [importlib.import_module(one.name) for one in pkgutil.iter_modules(path, prefix)]


def values() -> list[Any]:
    """Give what the package hands out: results, descriptions, baselines."""
    detector = SequentialDetector(BASELINE)
    window, monitor = ChiSquareWindow(BASELINE), DriftMonitor(BASELINE)
    drifted = np.concatenate([stream(3_200), np.zeros(2_000, np.int64)])
    alarms = detector.update(drifted)
    monitor.update(drifted)
    decisions = [
        Decision.parse(text) for text in ("argmax", "label", "threshold:0.7", "multilabel")
    ]
    return [
        *(BASELINE, LEARNT, LEARNT.variation, alarms[0], detector.explanation()),
        *(chi_square_test(np.bincount(drifted, minlength=K), BASELINE),),
        *(window.update(drifted, [len(drifted)])[0], monitor.snapshot(), *monitor.take_events()),
        *decisions,
    ]


def stream(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(K, size, p=BASELINE.proportions)


def with_drift() -> np.ndarray:
    """Give a stream in which a class is lost, and comes back."""
    lost = stream(4_096, 2)
    return np.concatenate([stream(4_096), np.where(lost == 0, 1, lost), stream(2_048, 3)])


class Near(float):
    """A number that others equal to rounding, which depends on where a stream is cut."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return math.isclose(self, other, rel_tol=1e-5, abs_tol=1e-9)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> bool:
        return not self == other


def plain(value: Any) -> Any:
    """Give a value that can be compared, without what tells when something was read."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return type(value).__name__, {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        clocks = ("time", "onset", "window") if isinstance(value, DriftAlarm) else ("time",)
        given = {name: one for name, one in value._asdict().items() if name not in clocks}
        return type(value).__name__, plain(given)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return Near(value)
    return type(value).__name__, value


def calls_of(labels: np.ndarray, grain: int, sizes: Iterable[int]) -> list[np.ndarray]:
    """Cut a stream into calls of these many grains, and the rest."""
    ends = np.minimum(np.cumsum(list(sizes)) * grain, len(labels))
    return np.split(labels, ends)


def given_in(subject: Subject, calls: list[np.ndarray], *, reading: bool = False) -> Any:
    """Give a stream in calls; give what came of it."""
    one, handed = subject.make(), []
    for call in calls:
        handed += list(subject.take(one, call) or ())
        if reading:
            subject.read(one)
    return plain(handed), plain(subject.read(one))


def those(which: Callable[[Subject], Any]) -> pytest.MarkDecorator:
    """Run a check for the subjects of which something is true."""
    names = [name for name, one in SUBJECTS.items() if which(one)]
    return pytest.mark.parametrize("subject", [SUBJECTS[name] for name in names], ids=names)


each = those(lambda one: True)
reproducible = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
CUTS = st.lists(st.integers(0, 2_000), max_size=8)
COPIES = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def test_whatever_takes_predictions_is_in_the_list():
    found = {
        name
        for module in modules()
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__
        if any(hasattr(kind, taker) for taker in TAKERS) and not issubclass(kind, Exception)
    }
    assert found == {name.partition(",")[0] for name in SUBJECTS}


@each
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_copy_goes_on_as_the_original_and_without_it(subject, copied):
    labels = with_drift()
    before, after = labels[: len(labels) // 2], labels[len(labels) // 2 :]
    original, alone = subject.make(), subject.make()
    for one in (original, alone):
        subject.take(one, before)
    twin = copied(original)
    assert plain(subject.read(twin)) == plain(subject.read(alone))
    handed = plain(subject.take(original, after))
    assert plain(subject.read(twin)) == plain(subject.read(alone))  # it shares nothing
    assert plain(subject.take(twin, after)) == handed
    assert plain(subject.read(twin)) == plain(subject.read(original))


@those(lambda one: hasattr(one.make(), "state"))
def test_a_state_that_went_through_json_goes_on_exactly(subject):
    labels = with_drift()[: 5_000 + ROWS]  # some wait for their chunk to be whole
    original = subject.make()
    subject.take(original, labels)
    baseline = original.baseline
    twin = type(original).from_state(baseline, json.loads(json.dumps(original.state())))
    assert plain(subject.read(twin)) == plain(subject.read(original))
    rest = with_drift()[len(labels) :]
    alarms = subject.take(twin, rest)
    assert len(alarms) > 3
    assert alarms == subject.take(original, rest)  # bit for bit
    assert twin.state() == original.state()
    assert plain(subject.read(twin)) == plain(subject.read(original))


@those(lambda one: not one.by_call)
@reproducible
@given(sizes=CUTS)
def test_where_a_stream_is_cut_does_not_matter(subject, sizes):
    labels = with_drift()
    calls = calls_of(labels, subject.grain, sizes)
    assert given_in(subject, calls) == given_in(subject, [labels])


@each
@reproducible
@given(sizes=CUTS)
def test_reading_changes_nothing(subject, sizes):
    calls = calls_of(with_drift(), subject.grain, sizes)
    assert given_in(subject, calls, reading=True) == given_in(subject, calls)


@each
def test_the_same_stream_gives_the_same(subject):
    calls = calls_of(with_drift(), CHUNK, range(20))
    assert given_in(subject, calls) == given_in(subject, calls)


@each
def test_what_it_is_given_and_hands_out_is_not_shared(subject):
    """Inputs stay as they are, and are not looked at later; results may be scribbled over."""
    labels, one, undisturbed = with_drift(), subject.make(), subject.make()
    for call in calls_of(labels, CHUNK, [40] * 8):
        given_away = call.copy()
        given_away.flags.writeable = False
        handed = subject.take(one, given_away)
        assert given_away.tobytes() == call.tobytes()
        given_away.flags.writeable = True
        given_away[...] = 5
        scribble(handed)
        scribble(subject.read(one))
        subject.take(undisturbed, call)
        subject.read(undisturbed)
    assert plain(subject.read(one)) == plain(subject.read(undisturbed))


def scribble(value: Any) -> None:
    """Overwrite every array that may be written to."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = 0
    elif isinstance(value, dict):
        for one in value.values():
            scribble(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            scribble(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for one in value:
            scribble(one)


@each
def test_nothing_changes_nothing(subject):
    labels, one, undisturbed = with_drift(), subject.make(), subject.make()
    for call in calls_of(labels, CHUNK, [60] * 4):
        for other in (one, undisturbed):
            subject.take(other, call)
        assert not list(subject.take(one, call[:0]) or ())
    assert plain(subject.read(one)) == plain(subject.read(undisturbed))


@those(lambda one: one.shown)
def test_the_docstring_of_its_module_shows_it_and_runs(subject):
    kind = type(subject.make())
    module = inspect.getmodule(kind)
    examples = [
        example.source
        for test in doctest.DocTestFinder(exclude_empty=True).find(module)
        for example in test.examples
    ]
    assert any(kind.__name__ in source for source in examples)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_what_is_handed_out_can_be_copied(copied):
    for value in values():
        assert plain(copied(value)) == plain(value)


def test_what_is_handed_out_has_the_types_that_it_says():
    """A NumPy number where a float is promised is no JSON, and prints as np.float64(...)."""
    for value in values():
        check_types(value)


def check_types(value: Any) -> None:
    named = isinstance(value, tuple) and hasattr(value, "_asdict")
    if isinstance(value, (list, tuple)) and not named:
        for one in value:
            check_types(one)
    elif named or dataclasses.is_dataclass(value):
        for name, hint in typing.get_type_hints(type(value)).items():
            if typing.get_origin(hint) is typing.ClassVar:
                continue
            union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
            found, allowed = getattr(value, name), typing.get_args(hint) if union else (hint,)
            if {float, int, bool, str} & set(allowed):
                assert type(found) in allowed, f"{type(value).__name__}.{name}={found!r}"
            check_types(found)
