"""Every kind of input and every way to run: counted right, whatever Keras does inside."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import observing
from observing import argmax, dense, only, since

ROWS = 37


class Batches(keras.utils.PyDataset):
    """A dataset as users of Keras write them."""

    def __init__(self, x: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x = x

    def __len__(self) -> int:
        return (len(self.x) + 7) // 8

    def __getitem__(self, index: int) -> Any:
        return (self.x[8 * index : 8 * index + 8],)


def _predicted(model: Any, data: Any, **how: Any) -> None:
    """Predict data of 37 rows and compare with the outputs, and these with those without us."""
    without = model.predict(data() if callable(data) else data, verbose=0, **how)
    with observing.observed() as found:
        y = model.predict(data() if callable(data) else data, verbose=0, **how)
        observing.same_bits(y, without)
        assert found.counts() == {"output": argmax(y)}
        assert found.samples() == {"predict": ROWS}
        assert found.calls() == {"predict": 1}


def _generator() -> Any:
    x = observing.rows(ROWS)
    return ((x[start : start + 8],) for start in range(0, ROWS, 8))


def test_a_generator() -> None:
    _predicted(dense(), _generator, steps=5)


def test_a_py_dataset() -> None:
    _predicted(dense(), Batches(observing.rows(ROWS)))


@since(3, 3)
def test_a_py_dataset_with_workers() -> None:
    _predicted(dense(), Batches(observing.rows(ROWS), workers=2, use_multiprocessing=False))


@only("tensorflow", "jax")
def test_a_tf_dataset() -> None:
    import tensorflow as tf

    _predicted(dense(), tf.data.Dataset.from_tensor_slices(observing.rows(ROWS)).batch(8))


@only("torch", "jax")
def test_a_torch_data_loader() -> None:
    import torch

    data = torch.utils.data.TensorDataset(torch.from_numpy(observing.rows(ROWS)))
    _predicted(dense(), torch.utils.data.DataLoader(data, batch_size=8))


def test_inputs_in_a_dict() -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    y = keras.layers.Dense(3, activation="softmax")(joined)
    model = keras.Model({"left": left, "right": right}, y)
    x = {"left": observing.rows(ROWS), "right": observing.rows(ROWS, 2)}
    _predicted(model, x)
    with observing.observed() as found:
        ys = [model(x), model(inputs=x), model.predict_on_batch(x), model.predict(x=x, verbose=0)]
        assert found.counts() == {"output": argmax(*ys)}
        expected = {"predict": ROWS, "predict_on_batch": ROWS, "call": 2 * ROWS}
        assert found.samples() == expected


def test_run_eagerly() -> None:
    model = dense()
    model.compile(run_eagerly=True)
    _predicted(model, observing.rows(ROWS))


@only("tensorflow", "jax")
def test_jit_compile() -> None:
    model = dense()
    model.compile(jit_compile=True)
    _predicted(model, observing.rows(ROWS), batch_size=8)


@only("tensorflow", "jax")
def test_steps_per_execution() -> None:
    model = dense()
    model.compile(steps_per_execution=3)
    _predicted(model, observing.rows(ROWS), batch_size=8)


def test_arguments_of_the_models_own() -> None:
    class Scaled(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="scaled")
            self.head = keras.layers.Dense(3, activation="softmax")

        def call(self, x: Any, shift: Any = None, scale: float = 1.0) -> Any:
            return self.head(x * scale if shift is None else x * scale + shift)

    model, x = Scaled(), observing.rows(ROWS)
    with observing.observed() as found:
        ys = [model(x), model(x, x), model(x, scale=-1.0), model(x=x, shift=x)]
        assert found.counts() == {"output": argmax(*ys)}
        assert found.samples() == {"call": 4 * ROWS}


@since(3, 3)
def test_reduced_precision() -> None:
    for policy in ("mixed_bfloat16", "bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            if observing.BACKEND == "numpy" and "bfloat16" in policy:
                continue  # NumPy has no such type
            model = dense()
            x = observing.rows(ROWS)
            with observing.observed() as found:
                ys = [model.predict(x, verbose=0), model(x), model.predict_on_batch(x)]
                assert found.counts() == {"output": argmax(*ys)}
                assert found.errors() == {}
        finally:
            keras.config.set_dtype_policy("float32")


def test_a_model_that_is_loaded_goes_on_where_the_last_one_stopped() -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, observing.observed() as found:
        path = Path(folder) / "digits.keras"
        dense().save(path)
        x = observing.rows(ROWS)
        ys = [keras.saving.load_model(path).predict_on_batch(x) for _ in range(3)]
        assert found.counts("digits") == {"output": argmax(*ys)}


def test_classes_far_from_each_other() -> None:
    """1,000 classes of 2 rows: the rarest are pooled in what is exported, none is lost."""
    model = dense(1000)
    x = observing.rows(ROWS)
    with observing.observed() as found:
        labels = np.argmax(observing.numpy(model.predict(x, verbose=0)), axis=1)
        counts = found.counts()["output"]
        assert sum(counts.values()) == ROWS
        assert counts.get("other", 0) == int((labels >= 100).sum())
