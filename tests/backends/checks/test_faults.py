"""Bad outputs, bad calls: the user sees just what there is without us, and nothing is lost."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import observing
from internals import read_later
from observing import argmax, dense, only

from otel_drift import Baseline


class Raising(keras.Model):
    """Raises what it is told to."""

    def __init__(self) -> None:
        super().__init__(name="raising")
        self.error: BaseException | None = None

    def call(self, x: Any) -> Any:
        if self.error is not None:
            raise self.error
        return keras.ops.softmax(x)


class Returning(keras.Model):
    """Returns what it is told to, from `__call__`."""

    y: Any = None

    def call(self, x: Any) -> Any:
        return self.y(x)


def _with(values: float) -> Any:
    x = observing.rows(12)
    x[[2, 5, 6], 1] = values
    return x


def test_rows_with_nan_are_invalid() -> None:
    model = dense()
    x = _with(np.nan)
    with observing.observed() as found:
        ys = [observing.numpy(observing.call(model, entry, x)) for entry in observing.ENTRY_POINTS]
        finite = [y[np.isfinite(y).all(axis=1)] for y in ys]  # TensorFlow's relu makes NaN a 0
        invalid = 36 - sum(map(len, finite))
        assert invalid or observing.BACKEND == "tensorflow"
        expected = argmax(*finite) | ({"invalid": invalid} if invalid else {})
        assert found.counts() == {"output": expected}
        assert found.errors() == {}


def test_rows_with_infinity_are_invalid() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear")], name="same")
    with observing.observed(decision="argmax") as found:
        y = model.predict(_with(np.inf), verbose=0)
        z = model(_with(-np.inf))
        w = model.predict_on_batch(_with(1e30))  # its square is infinite, the value is not
        finite = [observing.numpy(part)[[0, 1, 3, 4, 7, 8, 9, 10, 11]] for part in (y, z)]
        expected = argmax(*finite, w) | {"invalid": 6}
        assert found.counts() == {"output": expected}


def test_numpy_set_to_raise() -> None:
    """A program that turns floating-point trouble into errors sees none of ours."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear")], name="same")
    with np.errstate(all="raise"), observing.observed(decision="argmax") as found:
        model.predict(_with(1e30), verbose=0)
        model.predict(_with(np.nan), verbose=0)
        assert found.counts()["output"]["invalid"] == 3
        assert found.errors() == {}


def test_nothing_but_nan_first_tells_nothing_yet() -> None:
    x = observing.rows(12)
    linear = keras.layers.Activation("linear")  # behind it the softmax shows in the values only
    layers = [keras.Input((4,)), keras.layers.Activation("softmax"), linear]
    plain = keras.Sequential(layers, name="plain")
    with observing.observed() as found:
        plain.predict(np.full((4, 4), np.nan, "float32"), verbose=0)
        assert found.counts("plain") == {}
        y = plain.predict(x, verbose=0)
        assert found.counts("plain") == {"output": argmax(y)}
        assert found.errors() == {}


def test_an_empty_batch() -> None:
    model, x = dense(), observing.rows(12)
    without = model(x[:0])
    with observing.observed() as found:
        observing.same_bits(model(x[:0]), without)
        y = model(x)
        model(x[:0])
        assert found.counts() == {"output": argmax(y)}
        assert found.samples() == {"call": 12}
        assert found.calls() == {"call": 3}
        assert found.errors() == {}


def test_predict_of_no_rows_fails_as_without_us() -> None:
    x = observing.rows(12)
    try:
        dense().predict(x[:0], verbose=0)
    except BaseException as error:
        without = error
    else:
        return  # a Keras that has learnt to do it
    with observing.observed() as found, observing.raises(type(without), str(without)):
        dense().predict(x[:0], verbose=0)
    assert found.failed_calls() == {type(without).__qualname__: 1}


def test_a_rank_that_changes() -> None:
    model = Returning(name="changing")
    x = observing.rows(6, 3)
    with observing.observed() as found:
        model.y = keras.ops.softmax
        y = model(x)
        model.y = lambda x: keras.ops.sum(x, axis=1)
        model(x)
        assert found.counts() == {"output": argmax(y)}
        assert found.calls() == {"call": 2}
        assert found.samples() == {"call": 12}
        assert found.errors() == {"output": 1}


def test_one_output_that_cannot_be_read_beside_one_that_can() -> None:
    model = Returning(name="mixed")
    x = observing.rows(6, 3)
    model.y = lambda x: {"odd": "a text", "kind": keras.ops.softmax(x)}
    with observing.observed() as found:
        ys = [model(x)["kind"], model(x)["kind"]]
        assert found.counts() == {"kind": argmax(*ys)}
        assert found.calls() == {"call": 2}
        assert found.errors() == {"output": 2}
        assert sum("'odd'" in line for line in found.log) == 1


def test_an_outputs_function_that_raises() -> None:
    def wrong(_: Any) -> Any:
        raise KeyError("no such box")

    model, x = dense(), observing.rows(6)
    without = model.predict(x, verbose=0)
    with observing.observed(outputs=wrong) as found:
        observing.same_bits(model.predict(x, verbose=0), without)
        model.predict(x, verbose=0)
        assert found.calls() == {"predict": 2}
        assert found.samples() == {"predict": 12}
        assert found.errors() == {"output": 2}
        assert len(found.log) == 1


def test_a_baseline_with_another_number_of_classes() -> None:
    model, x = dense(), observing.rows(12)
    with observing.observed(baseline=Baseline.uniform(7)) as found:
        y = model.predict(x, verbose=0)
        assert found.counts() == {"output": argmax(y)}
        assert found.points("keras.prediction.baseline.proportion") == []
        assert found.errors() == {"baseline": 1}
        assert len(found.log) == 1


def test_a_model_that_raises() -> None:
    model, x = Raising(), observing.rows(4)
    with observing.observed() as found:
        y = model(x)
        for error in (ValueError("too hot"), KeyboardInterrupt()):
            model.error = error
            with observing.raises(type(error), str(error)):
                model(x)
        assert found.failed_calls() == {"ValueError": 1, "KeyboardInterrupt": 1}
        assert found.calls() == {"call": 3}
        assert found.samples() == {"call": 4}
        model.error = None
        y = [y, model(x)]  # the call after a failure counts: the guard was taken back
        assert found.counts() == {"output": argmax(*y)}


def test_predict_of_a_model_that_raises() -> None:
    model = Raising()
    model.compile(run_eagerly=True)
    model.error = ValueError("too hot")
    with observing.observed() as found:
        for method in (model.predict, model.predict_on_batch):
            with observing.raises(ValueError, "too hot"):
                method(observing.rows(4))
        assert found.failed_calls() == {"ValueError": 2}
        assert found.samples() == {}


@only("jax")
def test_a_jax_array_that_was_deleted() -> None:
    """Its numbers are gone before they could be read: counted as an error, and nothing else."""
    import jax

    array = jax.numpy.ones((2000, 2000))
    slow = jax.jit(lambda x: jax.numpy.linalg.matrix_power(x / 2000, 64))
    model = Returning(name="slow")
    model.y = lambda x: keras.ops.softmax(slow(x))
    with observing.observed() as found:
        y = model(array)
        y.block_until_ready()
        counted = sum(found.counts()["output"].values()) if found.counts() else 0
        assert counted == 2000
        y = model(array)
        waited_for = read_later(y)
        y.delete()
        found.counts()
        assert found.errors() == ({"output": 1} if waited_for else {})
        assert found.calls() == {"call": 2}
        assert waited_for
        again = model(array)  # and the program goes on
        assert again.shape == (2000, 2000)
