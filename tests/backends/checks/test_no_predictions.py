"""What is no prediction: training, evaluating, building, tracing, and what runs inside a call."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import observing
from observing import argmax, dense, only, raises
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_drift

LABELS = np.arange(12) % 3


def nothing(found: observing.Observed) -> None:
    """Fail if anything at all has been counted."""
    counts = [count for output in found.counts().values() for count in output.values()]
    assert (counts, found.samples(), found.calls(), found.errors()) == ([], {}, {}, {})


def compiled(model: Any, **options: Any) -> Any:
    """Compile a model for training."""
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", **options)
    return model


@only("torch", "jax", "tensorflow")
def test_training_and_evaluating() -> None:
    x = observing.rows(12)
    for options in ({}, {"run_eagerly": True}):
        model = compiled(dense(), **options)
        with observing.observed() as found:
            model.fit(x, LABELS, validation_data=(x, LABELS), verbose=0)
            model.evaluate(x, LABELS, verbose=0)
            model.train_on_batch(x, LABELS)
            model.test_on_batch(x, LABELS)
            nothing(found)
            y = model.predict(x, verbose=0)
            assert found.counts() == {"output": argmax(y)}


@only("numpy")
def test_evaluating_on_numpy() -> None:
    model, x = compiled(dense()), observing.rows(12)
    with observing.observed() as found:
        model.evaluate(x, LABELS, verbose=0)
        model.test_on_batch(x, LABELS)
        nothing(found)


@only("torch", "jax", "tensorflow")
def test_callbacks_that_predict_inside_fit() -> None:
    x = observing.rows(12)

    class Looking(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.predict(x, verbose=0)
            self.model(x)

    model = compiled(dense())
    with observing.observed() as found:
        model.fit(x, LABELS, verbose=0, callbacks=[Looking()])
        nothing(found)


def test_training_said_by_the_caller() -> None:
    model, x = dense(), observing.rows(12)
    with observing.observed() as found:
        model(x, training=True)
        nothing(found)
        y = model(x, training=False)
        assert found.counts() == {"output": argmax(y)}


def test_models_inside_models() -> None:
    inner = dense(name="inner")
    x = keras.Input((4,))
    outer = keras.Model(x, keras.layers.Activation("linear")(inner(x)), name="outer")
    inputs = observing.rows(12)

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    own = Own()
    with observing.observed() as found:
        ys = [observing.call(outer, entry, inputs) for entry in observing.ENTRY_POINTS]
        zs = [observing.call(own, entry, inputs) for entry in observing.ENTRY_POINTS]
        assert found.counts("inner") == {}
        assert found.counts("outer") == {"output": argmax(*ys)}
        assert found.counts("own") == {"output": argmax(*zs)}
        assert found.calls() == {"predict": 2, "predict_on_batch": 2, "call": 2}
        y = inner(inputs)
        assert found.counts("inner") == {"output": argmax(y)}


def test_building_a_model() -> None:
    class Own(keras.Model):
        def __init__(self, inner: Any) -> None:
            super().__init__(name="own")
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    with observing.observed() as found:
        inner = dense(name="inner")
        x = keras.Input((4,))
        keras.Model(x, inner(x))
        keras.Model(x, inner(inputs=x))
        keras.models.clone_model(inner)
        own = Own(inner)
        own.build((None, 4))
        own.compute_output_spec(x)
        keras.Sequential([own, keras.layers.Dense(2)]).build((None, 4))
        inner.summary(print_fn=lambda *_, **__: None)
        nothing(found)
        assert found.log == []


def test_suppressed() -> None:
    model, x = dense(), observing.rows(12)
    with observing.observed() as found:
        with suppress_instrumentation():
            for entry in observing.ENTRY_POINTS:
                observing.call(model, entry, x)
        nothing(found)
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


def test_stateless_call() -> None:
    outer = keras.Sequential([keras.Input((4,)), dense(name="inner")])
    x = observing.rows(12)
    with observing.observed() as found:
        trainable = [variable.value for variable in outer.trainable_variables]
        others = [variable.value for variable in outer.non_trainable_variables]
        outer.stateless_call(trainable, others, x)
        nothing(found)


@only("jax")
def test_jax_transformations() -> None:
    import jax

    model, x = dense(), observing.rows(12)
    without = jax.jit(model)(x)
    with observing.observed() as found:
        observing.same_bits(jax.jit(lambda x: model(x))(x), without)
        jax.vmap(lambda row: model(row[None])[0])(x)
        jax.grad(lambda x: model(x).sum())(jax.numpy.asarray(x))
        jax.value_and_grad(lambda x: model(x).sum())(jax.numpy.asarray(x))
        jax.make_jaxpr(model)(x)
        assert (found.counts(), found.samples(), found.calls()) == ({}, {}, {})
        assert sum("was traced" in line for line in found.log) == 1
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


@only("jax")
def test_a_jax_training_loop() -> None:
    import jax

    model, x = dense(), observing.rows(12)

    def loss(trainable: Any, others: Any) -> Any:
        y, _ = model.stateless_call(trainable, others, x, training=True)
        return keras.losses.sparse_categorical_crossentropy(LABELS, y).mean()

    with observing.observed() as found:
        trainable = [variable.value for variable in model.trainable_variables]
        for step in (jax.grad(loss), jax.jit(jax.grad(loss))):
            step(trainable, [])
        nothing(found)
        assert found.log == []


@only("tensorflow")
def test_tf_functions() -> None:
    import tensorflow as tf

    model, x = dense(), observing.rows(12)
    without = tf.function(lambda x: model(x))(x)
    with observing.observed() as found:
        observing.same_bits(tf.function(lambda x: model(x))(x), without)
        tf.function(model)(x)
        tf.function(lambda x: model(x), jit_compile=True)(x)
        list(tf.data.Dataset.from_tensor_slices(x).batch(4).map(lambda x: model(x)))
        assert (found.counts(), found.samples(), found.calls()) == ({}, {}, {})
        assert sum("was traced" in line for line in found.log) == 1
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


@only("tensorflow")
def test_a_gradient_tape() -> None:
    import tensorflow as tf

    model, x = dense(), observing.rows(12)
    optimizer = keras.optimizers.SGD()
    with observing.observed() as found:
        with tf.GradientTape() as tape:
            y = model(x)
            loss = keras.losses.sparse_categorical_crossentropy(LABELS, y)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        nothing(found)
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


@only("torch")
def test_torch_compile_and_export() -> None:
    import torch

    model = dense()
    x = torch.from_numpy(observing.rows(12))
    torch._dynamo.reset()
    with observing.observed() as found:
        whole = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            observing.same_bits(whole(x), whole(x))
        torch.export.export(model, (x,))
        nothing(found)
        with torch.no_grad():
            y = model(x)
        assert found.counts() == {"output": argmax(y)}


@only("torch")
def test_torch_tracing_and_vmap() -> None:
    import warnings

    import torch

    model = dense()
    x = torch.from_numpy(observing.rows(12))
    with observing.observed() as found, torch.no_grad():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.jit.trace(model, x, check_trace=False)  # the check is a call like any other
            package = Path(otel_drift.__file__).parent
            with_us = [one for one in caught if Path(one.filename).is_relative_to(package)]
        torch.func.vmap(lambda row: model(row[None])[0])(x)
        torch.func.grad(lambda x: model(x).sum())(x)
        assert (found.counts(), found.samples(), found.calls()) == ({}, {}, {})
        assert with_us == []
        y = model(x)
        assert found.counts() == {"output": argmax(y)}


def _torch_step(model: Any, optimizer: Any, x: Any, *, forwards: int = 1) -> None:
    import torch

    optimizer.zero_grad()
    for _ in range(forwards):
        y = model(x)
        loss = torch.nn.functional.nll_loss(torch.log(y), torch.from_numpy(LABELS))
        loss.backward()
    optimizer.step()


@only("torch")
def test_a_torch_training_loop() -> None:
    """Nothing in the call tells: the gradients do, afterwards."""
    import torch

    model = dense()
    x = torch.from_numpy(observing.rows(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with observing.observed() as found:
        for _ in range(5):
            _torch_step(model, optimizer, x)
        _torch_step(model, optimizer, x, forwards=3)
        assert found.counts() == {"output": {}}
        assert (found.calls(), found.samples()) == ({}, {})
        ys = [model(x), model(x), model(x)]  # and the same model in service
        expected = argmax(*(y.detach() for y in ys))
        del ys
        assert found.counts() == {"output": expected}
        with torch.no_grad():
            y = model(x)
        with torch.inference_mode():
            z = model(x)
        total = sum(found.counts()["output"].values())
        assert total == sum(expected.values()) + len(y) + len(z)


@only("torch")
def test_a_torch_loop_between_predictions() -> None:
    """Held predictions of a model in service survive a training step that follows them."""
    import torch

    model = dense()
    x = torch.from_numpy(observing.rows(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with observing.observed() as found:
        expected = argmax(model(x).detach(), model(x).detach())
        _torch_step(model, optimizer, x)
        assert sum(found.counts()["output"].values()) == sum(expected.values())
        assert found.counts() == {"output": expected}


def test_saving_and_exporting() -> None:
    model = dense()
    model.predict(observing.rows(2), verbose=0)
    with tempfile.TemporaryDirectory() as folder, observing.observed() as found:
        path = os.path.join(folder, "small.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
        if observing.BACKEND == "tensorflow":
            model.export(os.path.join(folder, "exported"), verbose=False)
        nothing(found)
        y = loaded.predict(observing.rows(12), verbose=0)
        assert found.counts() == {"output": argmax(y)}


def test_not_a_keras_error_of_ours() -> None:
    """What Keras refuses it refuses with the words it has without us."""
    model = dense()
    messages = []
    for observed in (False, True):
        with observing.observed() if observed else raises_nothing():
            for wrong in (lambda: model(), lambda: model.predict(), lambda: model(np.ones((2, 9)))):
                try:
                    wrong()
                except Exception as error:
                    messages.append((type(error), str(error)))
    assert messages[:3] == messages[3:]
    with raises(TypeError):
        model.predict()


def raises_nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
