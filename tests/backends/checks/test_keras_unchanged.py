"""Keras goes on as before: inheritance, copying, saving, and the class itself afterwards."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import pickle
import pickletools
import tempfile
from typing import Any

import cloudpickle
import keras
import observing
import pytest
from observing import argmax, dense, since

from otel_drift import KerasInstrumentor

PATCHED = ("predict", "predict_on_batch", "__call__", "fit", "evaluate", "stateless_call")


def test_the_class_is_restored() -> None:
    before = dict(vars(keras.Model))
    loaders = keras.saving.load_model
    for _ in range(2):
        with observing.observed():
            assert dict(vars(keras.Model)) != before
            names = [name for name in vars(keras.Model) if name not in before]
            assert set(PATCHED) <= set(names), names
        assert dict(vars(keras.Model)) == before
        assert keras.saving.load_model is loaders


def test_signatures_and_names_stay() -> None:
    before = {name: getattr(keras.Model, name) for name in PATCHED}
    with observing.observed():
        for name, method in before.items():
            patched = getattr(keras.Model, name)
            assert inspect.signature(patched) == inspect.signature(method)
            assert patched.__doc__ == method.__doc__
            assert patched.__name__ == method.__name__


def test_instrumented_a_second_time() -> None:
    model, x = dense(), observing.rows(12)
    with observing.observed() as found:
        KerasInstrumentor().instrument()
        assert found.log == []
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


def test_instrumented_again_after_an_end() -> None:
    model, x = dense(), observing.rows(12)
    with observing.observed() as first:
        y = model(x)
        assert first.counts() == {"output": argmax(y)}
    model(x)
    with observing.observed() as second:
        z = model(x)
        assert second.counts() == {"output": argmax(z)}
    assert first.counts() == {"output": argmax(y)}  # once more, and then no longer
    assert first.counts() == {}


def _wrapped(calls: list[str], name: str) -> Any:
    """Wrap `predict_on_batch` as somebody else's instrumentation does."""
    inner = keras.Model.predict_on_batch

    @functools.wraps(inner)
    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return inner(self, *args, **kwargs)

    keras.Model.predict_on_batch = outer
    return outer


def test_somebody_elses_wrapper_around_ours() -> None:
    model, x = dense(), observing.rows(12)
    before, calls = dict(vars(keras.Model)), []
    try:
        with observing.observed() as found:
            theirs = _wrapped(calls, "theirs")
            y = model.predict_on_batch(x)
            assert (found.counts(), calls) == ({"output": argmax(y)}, ["theirs"])
        assert vars(keras.Model)["predict_on_batch"] is theirs
        model.predict_on_batch(x)  # ours, inside theirs, only passes through
        assert calls == ["theirs"] * 2
        with observing.observed() as found:
            y = model.predict_on_batch(x)
            assert found.counts() == {"output": argmax(y)}
            assert found.calls() == {"predict_on_batch": 1}
            assert calls == ["theirs"] * 3
        assert vars(keras.Model)["predict_on_batch"] is theirs
    finally:
        del keras.Model.predict_on_batch
    assert dict(vars(keras.Model)) == before


def test_somebody_elses_patch_before_ours() -> None:
    model, x = dense(), observing.rows(12)
    before, calls = dict(vars(keras.Model)), []
    try:
        theirs = _wrapped(calls, "theirs")
        with observing.observed() as found:
            y = model.predict_on_batch(x)
            assert (found.counts(), calls) == ({"output": argmax(y)}, ["theirs"])
        assert vars(keras.Model)["predict_on_batch"] is theirs
    finally:
        del keras.Model.predict_on_batch
    assert dict(vars(keras.Model)) == before


def test_mixins_that_override() -> None:
    """What a mixin does still happens, and its model's predictions are counted."""
    calls: list[str] = []

    class LayerMixin(keras.layers.Layer):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("call")
            return super().__call__(*args, **kwargs)

    class TrainerMixin(keras.Model.__mro__[1]):
        def predict_on_batch(self, x: Any) -> Any:
            calls.append("predict_on_batch")
            return super().predict_on_batch(x)

    head = dense(name="head")

    class First(keras.Model, LayerMixin):
        def call(self, x: Any) -> Any:
            return head(x)

    class Second(keras.Model, TrainerMixin):
        def call(self, x: Any) -> Any:
            return head(x)

    x = observing.rows(12)
    first, second = First(name="first"), Second(name="second")
    with observing.observed() as found:
        y, z = first(x), second.predict_on_batch(x)
        assert calls == ["call", "predict_on_batch"]
        assert found.counts("first") == {"output": argmax(y)}
        assert found.counts("second") == {"output": argmax(z)}


def test_a_subclass_with_a_predict_of_its_own() -> None:
    class Doubled(keras.Sequential):
        def predict(self, x: Any, **kwargs: Any) -> Any:
            return 2 * super().predict(x, **kwargs)

    class Replaced(keras.Sequential):
        def predict(self, x: Any, **_: Any) -> Any:
            return observing.numpy(self(x))

    x = observing.rows(12)
    layers = dense().layers
    doubled = Doubled([keras.Input((4,)), *layers], name="doubled")
    replaced = Replaced([keras.Input((4,)), *layers], name="replaced")
    with observing.observed() as found:
        y, z = doubled.predict(x, verbose=0), replaced.predict(x)
        assert found.counts("doubled") == {"output": argmax(y)}
        assert found.counts("replaced") == {"output": argmax(z)}
        assert found.calls() == {"predict": 1, "call": 1}


def ours_in(pickled: bytes) -> list[str | bytes]:
    """What in a pickle has our name: modules, attributes, what Keras has saved into it.

    Not the files of code that travels by value: they are whole paths, in whatever folder.
    """
    arguments = [argument for _, argument, _ in pickletools.genops(pickled)]
    texts = [one for one in arguments if isinstance(one, str) and not os.path.isabs(one)]
    data = [bytes(one) for one in arguments if isinstance(one, bytes | bytearray)]
    return [
        *(one for one in texts if "otel_drift" in one),
        *(one for one in data if b"otel_drift" in one),
    ]


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_what_is_ours_is_found_in_pickles(protocol: int) -> None:
    layer = {"module": "keras", "_otel_drift": None}
    saved = b'{"module": "otel_drift"}' if protocol > 2 else "otel_drift"  # 2 has no bytes yet
    for ours in (KerasInstrumentor, layer, saved):
        assert len(ours_in(pickle.dumps(ours, protocol))) == 1, ours
    assert ours_in(cloudpickle.dumps(KerasInstrumentor().instrument)) != []
    assert ours_in(pickle.dumps("/home/someone/otel_drift/keras.py", protocol)) == []


@since(3, 3)
def test_copies_of_a_model() -> None:
    model, x = dense(), observing.rows(12)
    y = model.predict(x, verbose=0)
    with observing.observed() as found:
        model.predict(x, verbose=0)  # it has a state of ours now
        copies = {
            "copy": copy.copy(model),
            "deepcopy": copy.deepcopy(model),
            "pickle": pickle.loads(pickle.dumps(model)),
            "cloudpickle": cloudpickle.loads(cloudpickle.dumps(model)),
            "clone": keras.models.clone_model(model),
        }
        copies["clone"].set_weights(model.get_weights())
        for name, one in copies.items():
            assert isinstance(one, keras.Sequential), name
            observing.same_bits(one.predict(x, verbose=0), y)
        total = sum(found.counts()["output"].values())
        assert total == (1 + len(copies)) * len(x)
        for text in (pickle.dumps(model), cloudpickle.dumps(model)):
            assert ours_in(text) == []


@since(3, 3)
def test_a_bound_method_travels() -> None:
    """Pools and joblib send `model.predict` to other processes."""
    model, x = dense(), observing.rows(12)
    y = model.predict(x, verbose=0)
    with observing.observed():
        sent = {
            "pickle": pickle.dumps(model.predict),
            "cloudpickle": cloudpickle.dumps(model.predict),
            "call": cloudpickle.dumps(model.__call__),
        }
    for name, text in sent.items():
        assert ours_in(text) == [], name
    observing.same_bits(pickle.loads(sent["pickle"])(x, verbose=0), y)
    observing.same_bits(cloudpickle.loads(sent["cloudpickle"])(x, verbose=0), y)


def test_saving_and_loading() -> None:
    model, x = dense(), observing.rows(12)
    with tempfile.TemporaryDirectory() as folder, observing.observed():
        y = model.predict(x, verbose=0)
        for suffix in ("keras", "h5"):
            path = os.path.join(folder, f"digits.{suffix}")
            model.save(path)
            observing.same_bits(keras.models.load_model(path).predict(x, verbose=0), y)
        path = os.path.join(folder, "digits.weights.h5")
        model.save_weights(path)
        other = keras.models.clone_model(model)
        other.load_weights(path)
        observing.same_bits(other.predict(x, verbose=0), y)
        assert other.get_config() == keras.models.clone_model(other).get_config()


def test_forward_hooks_and_layers_outside() -> None:
    """A model inside a plain layer is the outermost model: it counts, the layer does not."""
    inner = dense(name="inner")

    class Around(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    around, x = Around(), observing.rows(12)
    with observing.observed() as found:
        y = around(x)
        assert found.counts() == {"output": argmax(y)}
