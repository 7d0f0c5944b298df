"""Whatever fails on the caller's way: the user never sees it, and it is counted.

The way is not written down here. A call is followed once; then each line of the package from which
something is called that is not the package's own is made to raise in its turn. Its own functions
can only fail by that.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import observing
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_drift import Baseline, KerasInstrumentor

ENTRIES = tuple(observing.ENTRY_POINTS)
KERAS_ITSELF = {getattr(keras.Model, name).__code__ for name in ENTRIES}
"""What the package calls for the user: its failures are the user's."""
MODULES_THAT_CANNOT = {
    *("builtins", "time", "_thread", "_weakref", "collections", "itertools", "math", "_contextvars")
}
"""Their functions, and the methods of their types, fail for want of memory at most."""
BASELINE = Baseline.from_counts([30, 40, 30])


class FaultError(Exception):
    """What nothing in the package expects."""


class Place(NamedTuple):
    """A line of the package, and what it calls."""

    file: str
    line: int
    called: frozenset[str]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} -> {', '.join(sorted(self.called))}"


def places_of(call: Callable[[], Any]) -> list[Place]:
    """Follow a call; give the lines that can fail in it."""
    found: dict[tuple[str, int], set[str]] = {}

    def follow(frame: types.FrameType, event: str, argument: Any) -> None:
        caller: types.FrameType | None
        if event == "call" and frame.f_code not in KERAS_ITSELF and not _of_the_package(frame):
            caller, name = frame.f_back, f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"
        elif event == "c_call" and _can_fail(argument):
            caller, name = frame, getattr(argument, "__qualname__", repr(argument))
        else:
            return
        if caller is not None and _of_the_package(caller):
            found.setdefault((caller.f_code.co_filename, caller.f_lineno), set()).add(name)

    sys.setprofile(follow)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [Place(*line, frozenset(called)) for line, called in found.items()]


class Fault:
    """A line that raises when it is reached.

    Parameters
    ----------
    place
        The line.
    error
        What it raises.
    """

    def __init__(self, place: Place, error: BaseException) -> None:
        self.place, self._error = place, error
        self.raised = False

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Follow what this thread does."""
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            yield
        finally:
            sys.settrace(before)

    def _entered(self, frame: types.FrameType, _: str, __: Any) -> Any:
        return self._reached if frame.f_code.co_filename == self.place.file else None

    def _reached(self, frame: types.FrameType, event: str, _: Any) -> Any:
        if event == "line" and frame.f_lineno == self.place.line and not self.raised:
            self.raised = True
            raise self._error
        return self._reached


def _of_the_package(frame: types.FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == "otel_drift"


def _can_fail(function: Any) -> bool:
    bound = getattr(function, "__self__", None)
    of = function if bound is None or isinstance(bound, types.ModuleType) else type(bound)
    return getattr(of, "__module__", "") not in MODULES_THAT_CANNOT


class Fixed(keras.Model):
    """Returns, from `__call__`, the very object that it was given."""

    y: Any = None

    def call(self, x: Any) -> Any:
        return x if self.y is None else self.y


def fixed(name: str = "fixed") -> tuple[Any, Any]:
    """Give a model and an input that it accepts."""
    scores = np.random.default_rng(1).dirichlet(np.ones(3), 6).astype("float32")
    return Fixed(name=name), scores


def predict(model: Any, entry: str, x: Any) -> Any:
    if entry == "__call__":
        return model(x, training=False)
    return observing.call(model, entry, x)


def errors(found: observing.Observed) -> int:
    return sum(found.errors().values())


def span_left() -> bool:
    """Whether a span is still the current one; it is no longer, afterwards."""
    left = trace.get_current_span() is not trace.INVALID_SPAN
    if left:
        otel_context.attach(otel_context.Context())
    return left


def problem_of(call: Callable[[], Any], y: Any, fault: Fault, found: Any) -> str:
    """Say what is wrong with a call in which a fault is injected; nothing if all is well."""
    counted = errors(found)
    try:
        with fault.injected():
            given = call()
        observing.same_bits(given, y)
    except FaultError:
        return "reached the user"
    finally:
        left = span_left()
    if left:
        return "its span is still the current one"
    if not fault.raised:
        return ""
    return "was not counted" if errors(found) <= counted else ""


@pytest.mark.parametrize(
    ("entry", "traced"),
    [("predict", True), ("predict_on_batch", False), ("__call__", False), ("__call__", True)],
)
def test_a_fault_on_the_way_is_counted_and_nobody_sees_it(entry: str, traced: bool) -> None:
    model, x = fixed()
    without, method = predict(model, entry, x), observing.ENTRY_POINTS[entry]
    options = {"baseline": BASELINE, "traces": traced, "tracer_provider": TracerProvider()}
    problems: dict[Place, str] = {}
    with observing.observed(**options) as found:
        for _ in range(3):
            predict(model, entry, x)
        places = places_of(lambda: predict(model, entry, x))
        assert len(places) >= 3
        assert found.errors() == {}
        for place in places:
            fault = Fault(place, FaultError(str(place)))
            problem = problem_of(lambda: predict(model, entry, x), without, fault, found)
            before = found.samples()[method]
            predict(model, entry, x)
            if found.samples()[method] != before + len(x):
                problem += ", and the next call is not recorded"
            if problem:
                problems[place] = problem
    assert not problems, "\n".join(f"{at}: {problem}" for at, problem in problems.items())


def test_a_fault_in_a_models_first_call_is_counted_and_nobody_sees_it() -> None:
    """What builds the statistics raises as one: their insides are passed over."""
    x = fixed()[1]
    problems: dict[Place, str] = {}
    with observing.observed(baseline=BASELINE):
        followed = places_of(lambda: fixed()[0](x, training=False))
    places = [one for one in followed if "/otel_drift/drift/" not in one.file]
    assert len(places) >= 10
    for place in places:
        with observing.observed(baseline=BASELINE) as found:
            model, fault = fixed()[0], Fault(place, FaultError(str(place)))
            problem = problem_of(lambda m=model: m(x, training=False), x, fault, found)
            if problem:
                problems[place] = problem
    assert not problems, "\n".join(f"{at}: {problem}" for at, problem in problems.items())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_on_the_way_passes_and_leaves_nothing_behind(kind: Any) -> None:
    model, x = fixed()
    options = {"baseline": BASELINE, "tracer_provider": TracerProvider()}
    with observing.observed(**options) as found:
        for _ in range(3):
            model(x, training=False)
        problems: dict[Place, str] = {}
        for place in places_of(lambda: model(x, training=False)):
            fault, error = Fault(place, kind()), None
            try:
                with fault.injected():
                    model(x, training=False)
            except BaseException as caught:
                error = caught
            if (type(error) is kind) != fault.raised:
                problems[place] = "did not pass"
            if span_left():
                problems[place] = "its span is still the current one"
            before = found.samples()["call"]
            model(x, training=False)
            if found.samples()["call"] != before + len(x):
                problems[place] = "the next call is not recorded"
        assert not problems, "\n".join(f"{at}: {problem}" for at, problem in problems.items())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, MemoryError, FaultError]
)
def test_what_a_model_raises_is_the_very_same_object(entry: str, kind: Any) -> None:
    class Raising(keras.Model):
        def call(self, x: Any) -> Any:
            raise error

    model, x = Raising(name="raising"), fixed()[1]
    model.compile(run_eagerly=True)
    for _ in range(2):  # the first call builds the model, and may fail otherwise
        error = kind("from the model")
        without = _raised(lambda: predict(model, entry, x))
    passes = without is error  # Keras puts an error of its own in the place of some
    error = kind("from the model")
    with observing.observed(baseline=BASELINE, tracer_provider=TracerProvider()) as found:
        raised = _raised(lambda: predict(model, entry, x))
        assert type(raised) is type(without)
        assert (raised is error) == passes
        assert raised.args == without.args
        assert type(raised.__context__) is type(without.__context__)
        assert raised.__cause__ is None
        assert found.failed_calls() == {type(without).__qualname__: 1}
        assert found.errors() == {}
    assert not KerasInstrumentor().is_instrumented_by_opentelemetry


def _raised(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
