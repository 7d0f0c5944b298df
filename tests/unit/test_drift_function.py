"""The user's own test: same series, no harm to anybody."""

import threading
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import chisquare

import otel_drift
from otel_drift import Baseline
from otel_drift.telemetry.drift_function import ROOM, DriftFunction

SECONDS = 20


def errors_of(collected):
    return collected.values("keras.instrumentation.errors", "error.type")


def watched(collected, function):
    recorder = otel_drift.watch(
        "digits",
        Baseline.uniform(3),
        drift_function={"mmd": function},
        meter_provider=collected.provider,
    )
    return recorder, recorder.tests[0]


def test_p_values_and_statistics_are_in_the_series_under_the_given_name(collected):
    seen = []

    def mmd(x, y):
        seen.append(y.tolist())
        return (0.25, 3.5) if len(seen) > 1 else None

    recorder, test = watched(collected, mmd)
    recorder.record(np.array([0, 1]))
    recorder.record(np.array([2]))
    assert test.wait(SECONDS)
    assert seen == [[0, 1], [2]]
    assert collected.values("keras.prediction.drift.p_value", "keras.model.output") == {"mmd": 0.25}
    assert collected.values("keras.prediction.drift.statistic", "keras.model.output")["mmd"] == 3.5
    histogram = [
        point
        for _, attributes, point in collected.points("keras.prediction.drift.test.p_value")
        if attributes["keras.model.output"] == "mmd"
    ]
    assert [(one.count, one.sum) for one in histogram] == [(1, 0.25)]


class Drift(NamedTuple):
    """What a gangplank drift function returns."""

    drift_detected: int | None = None
    p_value: float | None = None
    test_statistic: float | None = None


def test_results_with_names_are_read_by_them(collected):
    """A pair from SciPy would otherwise be read the wrong way round."""
    results = iter([Drift(), Drift(p_value=0.25, test_statistic=3.5), chisquare([10, 14])])
    recorder, test = watched(collected, lambda x, y: next(results))
    found = []
    for _ in range(3):
        recorder.record(np.array([0]))
        assert test.wait(SECONDS)
        found.append(test.newest)
    expected = chisquare([10, 14])
    assert found == [None, (0.25, 3.5), (expected.pvalue, expected.statistic)]
    assert errors_of(collected)["drift_function"] == 0


@pytest.mark.parametrize(
    "returned",
    [5, "p", (0.5,), (1.5, 2.0), (-0.1, 2.0), (float("nan"), 1.0), (0.5, float("inf")), ("a", "b")],
)
def test_nonsense_is_counted_and_warned_of_once(collected, caplog, returned):
    recorder, test = watched(collected, lambda x, y: returned)
    for _ in range(3):
        recorder.record(np.array([0]))
    assert test.wait(SECONDS)
    assert errors_of(collected)["drift_function"] == 3
    assert len(caplog.records) == 1
    assert "'mmd'" in caplog.text
    assert collected.values("keras.predictions", "keras.prediction.class")["0"] == 3


def test_a_function_that_raises_goes_on_with_the_next_prediction(collected):
    def picky(x, y):
        if y[0] == 0:
            raise RuntimeError("no zeros please")
        return 0.5, 1.0

    recorder, test = watched(collected, picky)
    for label in (0, 1, 0, 1):
        recorder.record(np.array([label]))
    assert test.wait(SECONDS)
    assert errors_of(collected)["drift_function"] == 2
    assert test.take_results() == []  # handed out above
    assert test.newest == (0.5, 1.0)


class UnshownError(Exception):
    def __repr__(self):
        raise RuntimeError("not to be shown")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, UnshownError])
def test_whatever_a_function_raises_its_thread_goes_on(collected, kind):
    """What is no Exception ended the thread, and nothing was tested any longer."""
    results = iter([kind(1), (0.25, 3.5)])

    def function(x, y):
        if isinstance(result := next(results), BaseException):
            raise result
        return result

    recorder, test = watched(collected, function)
    for _ in range(2):
        recorder.record(np.array([0]))
        assert test.wait(SECONDS)
    assert test.newest == (0.25, 3.5)
    assert errors_of(collected)["drift_function"] == 1


def test_a_slow_function_delays_nobody_and_what_finds_no_room_is_counted(collected):
    begun, go_on = threading.Event(), threading.Event()

    def slow(x, y):
        begun.set()
        go_on.wait(SECONDS)
        return 0.5, 1.0

    recorder, test = watched(collected, slow)
    recorder.record(np.array([0]))
    assert begun.wait(SECONDS)
    for _ in range(ROOM + 10):
        recorder.record(np.array([1]))
    assert collected.values("keras.predictions", "keras.prediction.class")["1"] == ROOM + 10
    assert errors_of(collected)["drift_function_overflow"] == 10
    go_on.set()
    assert test.wait(SECONDS)


def test_the_result_of_gangplank_is_understood(collected):
    """Its users keep their function: a named tuple whose fields may be None."""

    class Drift(NamedTuple):
        drift_detected: int | None = None
        p_value: float | None = None
        test_statistic: float | None = None

    found = iter([Drift(), Drift(p_value=0.5, test_statistic=2.0), Drift(drift_detected=1)])
    recorder, test = watched(collected, lambda x, y: next(found))
    for _ in range(3):
        recorder.record(np.array([0]))
    assert test.wait(SECONDS)
    assert test.take_results() == [(0.5, 2.0)]
    assert errors_of(collected)["drift_function"] == 0


def test_the_function_sees_what_was_predicted_though_the_caller_writes_on():
    held, seen = threading.Event(), []

    def look(x, y):
        held.wait(SECONDS)
        seen.append((x["image"].tolist(), y[0].tolist()))

    test = DriftFunction("look", look, failed=lambda *_, **__: None)
    x, y = {"image": np.zeros(2)}, [np.ones(2)]
    test.submit(x, y)
    x["image"][:] = 9
    y[0][:] = 9
    held.set()
    assert test.wait(SECONDS)
    assert seen == [([0, 0], [1, 1])]
