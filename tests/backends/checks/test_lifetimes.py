"""Threads, tasks, forks, and what is kept alive: nothing that is the caller's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import os
import threading
import tracemalloc
import weakref
from typing import Any

import keras
import numpy as np
import observing
from internals import read_later, record, work_off
from observing import argmax, dense, only

THREADS = 4
CALLS = 150


def test_four_threads() -> None:
    model = dense()
    inputs = [observing.rows(n) for n in (1, 5, 9, 14)]
    for x in inputs:
        model(x)
    with observing.observed() as found:

        def work(x: Any) -> None:
            for _ in range(CALLS):
                model(x)

        threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            found.counts()  # collections meanwhile
            threads[0].join(0.01)
        for thread in threads:
            thread.join()
        expected: dict[str, int] = {}
        for x in inputs:
            for name, count in argmax(model.stateless_call(*_values(model), x)[0]).items():
                expected[name] = expected.get(name, 0) + CALLS * count
        assert found.samples() == {"call": CALLS * sum(map(len, inputs))}
        assert found.counts() == {"output": expected}
        assert found.calls() == {"call": CALLS * THREADS}


def _values(model: Any) -> tuple[list[Any], list[Any]]:
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


def test_a_context_made_inside_a_prediction() -> None:
    """What runs later in a context that was copied inside a prediction is counted all the same."""
    model, x = dense(), observing.rows(12)
    made: list[contextvars.Context] = []

    class Copying(keras.Model):
        def call(self, x: Any) -> Any:
            made.append(contextvars.copy_context())
            return model(x)

    copying = Copying(name="copying")
    with observing.observed() as found:
        copying(x)
        y = made[-1].run(model, x)
        assert found.counts("small") == {"output": argmax(y)}


def test_tasks_and_threads_of_asyncio() -> None:
    model, x = dense(), observing.rows(12)
    model(x)

    async def serve() -> list[Any]:
        loop = asyncio.get_running_loop()
        inside = [loop.run_in_executor(None, model, x) for _ in range(5)]
        return [*await asyncio.gather(*inside), model(x)]

    with observing.observed() as found:
        ys = asyncio.run(serve())
        assert found.counts() == {"output": argmax(*ys)}


@only("numpy", "torch")
def test_a_fork() -> None:
    """Parent and child count what each predicts, also the parent's calls that wait in a buffer."""
    model, x = dense(), observing.rows(12)
    expected = argmax(model.predict(x, verbose=0))
    with observing.observed() as found:
        model.predict_on_batch(x)
        from_child, to_parent = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                other = dense(name="born_in_the_child")
                model.predict_on_batch(x)
                model.predict_on_batch(x)
                other.predict_on_batch(x)
                result: Any = [found.counts("small"), found.samples(), found.errors()]
            except BaseException as error:
                result = repr(error)
            os.write(to_parent, json.dumps(result).encode())
            os._exit(0)
        os.close(to_parent)
        model.predict_on_batch(x)
        with os.fdopen(from_child) as stream:
            text = stream.read()
        os.waitpid(child, 0)
        twice = {name: 2 * count for name, count in expected.items()}
        assert json.loads(text) == [{"output": twice}, {"predict_on_batch": 36}, {}]
        assert found.counts() == {"output": twice}
        assert found.samples() == {"predict_on_batch": 24}


@only("numpy")
def test_a_fork_inside_a_prediction() -> None:
    """A worker that a model starts, such as a loader of data, counts its own predictions."""
    small, x = dense(), observing.rows(12)
    from_child, to_parent = os.pipe()

    class Forking(keras.Model):
        def call(self, x: Any) -> Any:
            if os.fork() == 0:
                try:
                    small(x)
                    result: Any = found.counts("small")
                except BaseException as error:
                    result = repr(error)
                os.write(to_parent, json.dumps(result).encode())
                os._exit(0)
            return keras.ops.softmax(x)

    forking = Forking(name="forking")
    expected = argmax(small(x))
    with observing.observed() as found:
        forking(x)
        os.wait()
        os.close(to_parent)
        with os.fdopen(from_child) as stream:
            assert json.loads(stream.read()) == {"output": expected}


def test_inputs_and_outputs_are_not_kept() -> None:
    model = dense()
    with observing.observed() as found:
        for entry in observing.ENTRY_POINTS:
            x = observing.rows(12)
            y = observing.call(model, entry, x)
            if observing.BACKEND == "jax" and entry == "__call__":
                y.block_until_ready()
                found.counts()
            alive = [weakref.ref(x), weakref.ref(y)]
            del x, y
            gc.collect()
            assert [one() is None for one in alive] == [True, True]


def test_a_model_is_not_kept() -> None:
    with observing.observed() as found:
        model = dense(name="short_lived")
        model.predict_on_batch(observing.rows(12))
        model(observing.rows(12))
        gone = weakref.ref(model)
        del model
        found.counts()
        keras.backend.clear_session()
        gc.collect()
        assert gone() is None
        assert sum(found.counts("short_lived")["output"].values()) == 24


def test_memory_does_not_grow() -> None:
    """10,000 predictions that nobody collects: what waits is worked off all the same."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("softmax")], name="same")
    x = observing.rows(64)
    y = model.predict_on_batch(x)
    with observing.observed(baseline=None) as found:
        model.predict_on_batch(x)
        tracemalloc.start()
        try:
            record(model, y, 1000)
            work_off()
            before, _ = tracemalloc.get_traced_memory()
            record(model, y, 10_000)
            work_off()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 400_000, after - before
        assert sum(found.counts()["output"].values()) == 64 * 11_001


@only("jax")
def test_outputs_that_are_not_ready_are_not_waited_for() -> None:
    import jax

    slow = jax.jit(lambda x: jax.numpy.linalg.matrix_power(x / 2000, 64))
    array = jax.numpy.ones((2000, 2000))

    class Slow(keras.Model):
        def call(self, x: Any) -> Any:
            return keras.ops.softmax(slow(x))

    model = Slow(name="slow")
    model(array).block_until_ready()
    with observing.observed() as found:
        model(array)  # the first output of all is waited for, to learn its shape
        y = model(array)
        assert read_later(y)
        gone = weakref.ref(y)
        truth = np.argmax(np.asarray(y), axis=1)
        assert sum(found.counts()["output"].values()) == 4000
        assert (found.counts()["output"].get("other", 0) > 0) == bool((truth > 99).any())
        del y
        gc.collect()
        assert gone() is None
