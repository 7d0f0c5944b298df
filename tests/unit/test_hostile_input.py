"""Whatever a model returns and a user says: predictions go on, and what is counted is the truth."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import otel_drift
from otel_drift import Baseline, load_baselines
from otel_drift.options import CHECKS, Options
from otel_drift.telemetry.drift_function import DriftFunction

K = 3
CLASS, OUTPUT = "keras.prediction.class", "keras.model.output"


def examples(number: int) -> Any:
    """Try so many, the same each time."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


pytestmark = pytest.mark.filterwarnings("ignore")


# ------------------------------------------------------------------------- what a model may return


class Refusing:
    """Raises at whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise RuntimeError(f"not even {name}")


class Shaped:
    """Says that it has a shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        self.dtype = "float32"
        self.ndim = -1


class Denying:
    """Is of no class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class ArrayLike:
    """Fails to become an array."""

    shape = (2, K)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")


class Endless(list[Any]):
    """Cannot be walked through."""

    def __iter__(self) -> Any:
        raise RuntimeError("no end")


class Closed(dict[str, Any]):
    """Does not show what it holds."""

    def items(self) -> Any:
        raise RuntimeError("closed")


class Scores(np.ndarray):
    """An array with ideas of its own."""

    def argmax(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no largest")

    def __array_function__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no function")

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no ufunc")


class Tensor(torch.Tensor):
    """A tensor of a class of its own."""


def raising() -> Iterator[int]:
    yield 1
    raise RuntimeError("no more")


def within_itself(kind: Any) -> Any:
    one: Any = kind()
    one.append(one) if kind is list else one.update(one=one)
    return one


def scores(rows: int = 4, dtype: Any = "float32") -> np.ndarray:
    return np.random.default_rng(rows).dirichlet(np.ones(K), rows).astype(dtype)


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "nothing": list,
    "an empty dict": dict,
    "text": lambda: "a text",
    "bytes": lambda: b"bytes",
    "a set": lambda: {1, 2},
    "a generator that raises": raising,
    "an iterator": lambda: iter([1, 2]),
    "a function": lambda: len,
    "a class": lambda: np.ndarray,
    "an exception": lambda: ValueError("returned"),
    "ragged": lambda: [[1, 2], [3]],
    "mixed": lambda: [1, "a", None, 2.5],
    "a list in itself": lambda: within_itself(list),
    "a dict in itself": lambda: within_itself(dict),
    "refusing": Refusing,
    "denying": Denying,  # not for hypothesis, which asks it
    "an array-like that raises": ArrayLike,
    "a list without end": lambda: Endless([scores()]),
    "a closed dict": lambda: Closed(one=scores()),
    "keys of every kind": lambda: {None: scores(), 1: scores(), (1, 2): scores()},
    "shape None": lambda: Shaped(None),
    "shape of texts": lambda: Shaped(("a", "b")),
    "shape of minus": lambda: Shaped((-1, K)),
    "masked": lambda: np.ma.masked_array(scores(), mask=scores() > 0.5),
    "a matrix": lambda: np.asmatrix(scores()),
    "an array with ideas": lambda: scores().view(Scores),
    "objects": lambda: np.array([[object()] * K] * 2, dtype=object),
    "numbers as objects": lambda: scores().astype(object),
    "dates": lambda: np.array(["2026-01-01"] * K, "datetime64[D]"),
    "records": lambda: np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]),
    "big-endian": lambda: scores().astype(">f4"),
    "read-only": lambda: np.broadcast_to(scores(1), (4, K)),
    "backwards": lambda: scores()[::-1, ::-1],
    "huge K": lambda: np.zeros((2, 100_000), "float32"),
    "no rows": lambda: scores(0),
    "no classes": lambda: np.zeros((3, 0), "float32"),
    "a number": lambda: 3.5,
    "a NumPy number": lambda: np.float32(3.5),
    "a 0-dimensional array": lambda: np.array(3.5),
    "sparse": lambda: torch.eye(K).to_sparse(),
    "complex": lambda: torch.ones(2, K, dtype=torch.complex64),
    "meta": lambda: torch.ones(2, K, device="meta"),
    "bfloat16": lambda: torch.tensor(scores()).bfloat16(),
    "with gradients": lambda: torch.tensor(scores(), requires_grad=True),
    "a subclass of tensor": lambda: torch.tensor(scores()).as_subclass(Tensor),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2, K), 0.1, 0, torch.quint8),
    "conjugated": lambda: torch.ones(2, K, dtype=torch.complex64).conj(),
    "a parameter": lambda: torch.nn.Parameter(torch.tensor(scores())),
}
NUMBERS = arrays.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u1", "u8", "?"]),
    st.tuples(st.integers(0, 5), st.just(K)),
)
ANY_ARRAYS = arrays.arrays(
    st.one_of(arrays.scalar_dtypes(), arrays.unicode_string_dtypes(max_len=3)),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
OUTPUTS = st.recursive(
    st.one_of(
        ANY_ARRAYS,
        NUMBERS,
        st.sampled_from(sorted(set(ODD) - {"denying"})).map(lambda name: ODD[name]()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=4,
)


class Returning(keras.Model):
    """Returns what the class is told to: Keras would look into what is set on the object."""

    y: Any = None

    def call(self, x: Any) -> Any:
        return self.y


def returned(call: Callable[[], Any]) -> tuple[Any, tuple[Any, ...] | None]:
    """Give what a call returns, or the type and the arguments of what it raises."""
    try:
        return call(), None
    except Exception as error:
        return None, (type(error), str(error))


def without_a_watch(y: Any) -> tuple[Any, tuple[Any, ...] | None]:
    model = Returning(name="bare")
    Returning.y = y
    return returned(lambda: model(scores(), training=False))


@contextmanager
def watching(collected: Any, **options: Any) -> Iterator[Any]:
    model = Returning(name="watched")
    Returning.y = scores()
    otel_drift.instrument_model(
        model, baseline=Baseline.uniform(K), meter_provider=collected.provider, **options
    )
    try:
        model(scores(), training=False)
        yield model
    finally:
        otel_drift.uninstrument_model(model)


def counted(collected: Any) -> int:
    return sum(collected.values("keras.predictions", OUTPUT, CLASS).values())


def errors(collected: Any, kind: str | None = None) -> int:
    found = collected.values("keras.instrumentation.errors", "error.type")
    return found.get(kind, 0) if kind else sum(found.values())


def check_that_the_next_is_counted(
    collected: Any, unfit: int, record: Callable[[Any], Any]
) -> None:
    """Check it, unless the series has gone to an output of another number of classes."""
    if errors(collected, "baseline") == unfit:
        before = counted(collected)
        record(scores(7))
        assert counted(collected) == before + 7


def truth(values: np.ndarray) -> dict[str, int]:
    """Count the largest score of each row; what is not finite is invalid."""
    number = values.astype(np.float64)
    labels = np.where(np.isfinite(number).all(1), values.argmax(1), K)
    names = [*map(str, range(K)), "invalid"]
    return {names[label]: int((labels == label).sum()) for label in np.unique(labels)}


def test_odd_outputs_are_returned_as_they_are_and_the_next_is_counted(collected):
    with watching(collected) as model:
        for name, make in ODD.items():
            y = make()
            bare, raised = without_a_watch(y)
            Returning.y = y
            ours, ours_raised = returned(lambda: model(scores(), training=False))
            assert ours_raised == raised, name
            if raised is None and bare is y:
                assert ours is y, name
            before = counted(collected)
            Returning.y = scores(7)
            model(scores(), training=False)
            assert counted(collected) == before + 7, name


@examples(50)
@given(y=OUTPUTS)
@example(y=scores())
def test_any_output_is_returned_as_it_is_and_the_next_is_counted(collecting, y):
    collected = collecting()
    with watching(collected) as model:
        unfit = errors(collected, "baseline")
        bare, raised = without_a_watch(y)
        Returning.y = y
        ours, ours_raised = returned(lambda: model(scores(), training=False))
        assert ours_raised == raised
        if raised is None and bare is y:
            assert ours is y

        def call(y: Any) -> None:
            Returning.y = y
            model(scores(), training=False)

        check_that_the_next_is_counted(collected, unfit, call)


@examples(60)
@given(values=st.lists(NUMBERS, max_size=4))
def test_scores_of_every_type_are_counted_as_they_are(collecting, values):
    collected = collecting()
    recorder = otel_drift.watch("net", Baseline.uniform(K), meter_provider=collected.provider)
    recorder.record(scores())
    expected = truth(scores())
    for one in values:
        before = one.tobytes()
        recorder.record(one)
        assert one.tobytes() == before
        for name, count in truth(one).items():
            expected[name] = expected.get(name, 0) + count
    counts = collected.values("keras.predictions", CLASS)
    assert {name: count for name, count in counts.items() if count} == expected
    assert errors(collected) == 0
    collected.provider.shutdown()


@examples(50)
@given(y=OUTPUTS, key=st.one_of(st.none(), OUTPUTS))
def test_what_is_handed_over_never_raises(collecting, y, key):
    collected = collecting()
    recorder = otel_drift.watch("net", Baseline.uniform(K), meter_provider=collected.provider)
    recorder.record(scores())
    unfit = errors(collected, "baseline")
    recorder.record(y, key)
    check_that_the_next_is_counted(collected, unfit, recorder.record)


@pytest.mark.parametrize("name", ["text", "objects", "dates", "an array-like that raises"])
def test_what_cannot_be_read_is_an_error(collected, name):
    recorder = otel_drift.watch("net", Baseline.uniform(K), meter_provider=collected.provider)
    recorder.record(scores())
    recorder.record(ODD[name]())
    recorder.record(ODD[name]())
    assert counted(collected) == 4 or name == "text"  # a text is a label that nobody knows
    assert errors(collected) == 2 or name == "text"


# ------------------------------------------------------------------------------ what a user may say


def refusal(call: Callable[[], Any]) -> str:
    """Give what a call says that is wrong; nothing if it goes through."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return str(error) or repr(error)
    return ""


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=5), st.integers()), max_size=2),
    st.sampled_from([object(), len, int, Refusing(), Shaped(None), np.zeros(3), 1j]),
)


@examples(200)
@given(name=st.sampled_from([*CHECKS, "unknown"]), value=ANYTHING)
@example(name="baseline", value="~nobody-of-that-name/digits")
def test_a_wrong_option_in_code_names_itself(name, value):
    if isinstance(value, Refusing):
        return  # cannot even be shown
    said = refusal(lambda: Options.of(**{name: value}))
    assert not said or name in said
    assert not said or "must" in said or "not an option" in said


@examples(150)
@given(name=st.sampled_from(list(CHECKS)), value=st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_wrong_variable_is_one_warning_and_its_default(name, value):
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logger = logging.getLogger("otel_drift.options")
    logger.addHandler(handler)
    try:
        found = Options.from_outside({name: value}, {name: "VARIABLE"})
    finally:
        logger.removeHandler(handler)
    assert len(warnings) <= 1
    if warnings:
        assert warnings[0].startswith("VARIABLE=")
        assert found == Options()


NAMES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),  # NumPy cuts it off
    st.sampled_from(["other", "invalid", "", " ", "a\nb", "0", "NaN", '"', "{}", "é"]),
)


@examples(30)
@given(names=st.lists(NAMES, min_size=2, max_size=5))
def test_any_class_names_are_counted_or_refused(collecting, tmp_path_factory, names):
    counts = np.arange(1, len(names) + 1) * 100
    if len(set(names)) < len(names):
        assert "field 'classes'" in refusal(lambda: Baseline.from_counts(counts, names))
        return
    baseline = Baseline.from_counts(counts, names)
    path = tmp_path_factory.mktemp("names") / "one.baseline.json"
    baseline.save(path)
    assert load_baselines(path)[baseline.output] == baseline
    collected = collecting()
    recorder = otel_drift.watch("net", baseline, meter_provider=collected.provider)
    recorder.record(np.arange(len(names)))
    recorder.record(np.array(names, dtype=object))  # of str, NumPy drops zeros at the end
    found = collected.values("keras.predictions", CLASS)
    assert all(found[name] == 2 for name in names)
    assert sum(found.values()) == 2 * len(names)
    collected.provider.shutdown()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(80)
@given(data=st.data())
def test_a_file_that_is_broken_somewhere_is_read_or_refused_with_its_name(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "broken.baseline.json"
    Baseline.from_counts([30, 40, 30]).save(path)
    content = json.loads(path.read_text())
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(JSON)
    path.write_text(json.dumps(content))
    said = refusal(lambda: load_baselines(path))
    assert not said or path.name in said


@examples(100)
@given(result=st.one_of(ANYTHING, OUTPUTS, st.tuples(ANYTHING, ANYTHING)))
@example(result=(0.5, 2.0))
def test_a_drift_function_may_return_anything(result):
    failures: list[str] = []
    test = DriftFunction("odd", lambda x, y: result, lambda kind, what, **_: failures.append(kind))
    test.submit(None, scores())
    assert test.wait(20)
    found = test.take_results()
    test.close()
    assert len(found) + len(failures) <= 1
    for one in found:
        assert 0 <= one.p_value <= 1
        assert np.isfinite(one.statistic)
    if not found and result is not None:
        assert failures == ["drift_function"]


def test_a_drift_function_that_raises_is_an_error_each_time(collected):
    def breaking(x: Any, y: Any) -> Any:
        raise OSError("broken")

    with watching(collected, drift_function=breaking) as model:
        for rows in (3, 4):
            Returning.y = scores(rows)
            assert model(scores(), training=False) is Returning.y
        recorder = model.__dict__["_otel_drift"].recorder
        assert recorder.tests[0].wait(20)
        found = collected.values("keras.instrumentation.errors", "error.type")
        assert found["drift_function"] == 3
        assert counted(collected) == 4 + 3 + 4
