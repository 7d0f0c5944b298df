"""Faults that were found once, and must not come back."""

import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

import otel_drift
from otel_drift import Baseline, DriftMonitor
from otel_drift.keras import patch
from otel_drift.telemetry import collection

NAME, OUTPUT, CLASS = "keras.model.name", "keras.model.output", "keras.prediction.class"


def watched(collected, baseline, **options):
    return otel_drift.watch(
        "net",
        baseline,
        meter_provider=collected.provider,
        logger_provider=collected.logger_provider,
        **options,
    )


def events_of(collected):
    return [one.log_record for one in collected.log_exporter.get_finished_logs()]


def stream_with_a_rare_class(random, share, size):
    rest = (1 - share) / 9
    return random.choice(10, size=size, p=[share] + [rest] * 9)


def test_the_event_the_gauge_and_the_alarm_have_one_estimate(collected):
    """The event said "x0.02", the nearest bet, where the share was 0.3 times the baseline's."""
    random = np.random.default_rng(1)
    recorder = watched(collected, Baseline.uniform(10))
    recorder.record(random.integers(0, 10, size=3_000))
    recorder.record(stream_with_a_rare_class(random, 0.03, 2_000))
    shares = collected.values("keras.prediction.drift.share", CLASS)
    event = events_of(collected)[-1]
    assert (
        dict(
            zip(
                event.attributes["keras.prediction.drift.classes"],
                event.attributes["keras.prediction.drift.shares"],
                strict=True,
            )
        ).keys()
        == shares.keys()
    )
    assert shares["0"] == pytest.approx(0.03, abs=0.02)
    assert "class 0 from 10% to about" in event.body
    assert "x0." not in event.body


def test_names_are_looked_up_in_the_classes_of_their_own_output(collected):
    """All were looked up in the first output's classes."""
    recorder = watched(
        collected,
        {
            "animal": Baseline.from_counts([5, 5], ["cat", "dog"]),
            "colour": Baseline.from_counts([5, 5, 5], ["red", "dog", "blue"]),
        },
    )
    recorder.record({"animal": np.array(["dog", "cat"]), "colour": np.array(["dog", "blue"])})
    counts = collected.values("keras.predictions", OUTPUT, CLASS)
    assert {key: count for key, count in counts.items() if count} == {
        ("animal", "cat"): 1,
        ("animal", "dog"): 1,
        ("colour", "dog"): 1,
        ("colour", "blue"): 1,
    }


def test_changing_messages_of_one_function_leave_room_for_other_reports(collected, caplog):
    def broken(x, y):
        raise RuntimeError(f"failure {next(number)}")

    number = iter(range(10_000))
    recorder = watched(collected, Baseline.uniform(2), drift_function={"mmd": broken})
    for _ in range(300):
        recorder.record(np.array([0]))
        assert recorder.tests[0].wait(20)
    recorder.record(object())
    recorder.record(np.zeros((2, 2), dtype=complex))
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors["drift_function"] >= 300
    assert errors["output"] == 2
    messages = [one.getMessage() for one in caplog.records]
    assert len([one for one in messages if "'mmd'" in one]) == 1
    assert len([one for one in messages if "output" in one]) == 2


def test_a_collapse_is_one_event_and_its_end_another(collected):
    """A collapse to one class had made 10,000 alarms, and as many events."""
    random = np.random.default_rng(2)
    recorder = watched(collected, Baseline.uniform(10))
    for _ in range(20):
        recorder.record(random.integers(0, 10, size=3_200))
    collected.points()
    for _ in range(8):
        recorder.record(np.full(10_000, 3))
        collected.points()
    alarms = collected.values("keras.prediction.drift.alarms", NAME)["net"]
    assert alarms > 1_000
    states = [one.attributes["keras.prediction.drift.state"] for one in events_of(collected)]
    assert states[0] == "began"
    assert len(states) <= 3
    recorder.record(random.integers(0, 10, size=20_000))
    collected.points()
    last = events_of(collected)[-1]
    assert last.attributes["keras.prediction.drift.state"] == "ended"
    assert last.severity_text == "INFO"
    assert "has ended" in last.body


def test_another_drift_on_top_is_told(collected):
    random = np.random.default_rng(3)
    recorder = watched(collected, Baseline.uniform(10))
    recorder.record(random.integers(0, 10, size=3_200))
    recorder.record(random.integers(1, 10, size=3_000))  # class 0 is lost
    collected.points()
    recorder.record(np.full(2_000, 7))  # now there is nothing but class 7
    collected.points()
    states = [one.attributes["keras.prediction.drift.state"] for one in events_of(collected)]
    assert states[0] == "began"
    assert "changed" in states[1:]
    assert "ended" not in states
    assert "7" in events_of(collected)[-1].attributes["keras.prediction.drift.classes"]


@pytest.mark.parametrize("changed", [1.35, 0.5, 2.0, 0.0])
def test_a_drift_that_stays_as_it_is_is_told_a_few_times_only(changed):
    random = np.random.default_rng(4)
    p = np.full(10, (1 - 0.1 * changed) / 9)
    p[0] = 0.1 * changed
    monitor = DriftMonitor(Baseline.uniform(10))
    monitor.update(random.integers(0, 10, size=3_200))
    for _ in range(100):
        monitor.update(random.choice(10, size=3_000, p=p))
        monitor.snapshot()
    states = [event.state for event in monitor.take_events()]
    assert states[0] == "began"
    assert len(states) <= 6


def test_scores_are_no_labels_though_labels_came_first(collected):
    """Scores of shape (64, 10) were taken for 640 labels, all invalid, and paged."""
    recorder = watched(collected, Baseline.uniform(10))
    recorder.record(np.arange(10))
    recorder.record(np.random.default_rng(1).dirichlet(np.ones(10), 64))
    recorder.record(np.arange(10).reshape(10, 1))  # a column of labels is still labels
    counts = collected.values("keras.predictions", CLASS)
    assert sum(counts.values()) == 20
    assert counts["invalid"] == 0
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors["output"] == 1


def test_another_number_of_classes_is_an_error(collected):
    recorder = watched(collected, Baseline.uniform(3))
    scores = np.random.default_rng(1).dirichlet(np.ones(5), 64)
    recorder.record(scores[:, :3])
    recorder.record(scores)
    assert sum(collected.values("keras.predictions", CLASS).values()) == 64
    assert collected.values("keras.instrumentation.errors", "error.type")["output"] == 1


def test_a_reconfigured_recorder_ends_its_threads(collected):
    """Each reconfiguration had left the thread of a drift function behind."""

    def alive():
        return [one for one in threading.enumerate() if one.name == "otel_drift leaky"]

    for step in range(5):
        recorder = watched(
            collected,
            Baseline.uniform(2),
            tolerance=0.1 + step / 10,
            drift_function={"leaky": lambda x, y: (0.5, 1.0)},
        )
        recorder.record(np.array([0, 1]))
        assert recorder.tests[0].wait(20)
    for thread in alive()[:-1]:
        thread.join(20)
    assert len(alive()) == 1


def test_a_tensor_elsewhere_is_not_copied_to_see_whether_it_is_traced(monkeypatch):
    """Such a tensor is made to look like one of an accelerator, of which there is none here."""
    import torch

    from otel_drift.outputs.arrays import is_traced

    tensor = torch.ones(3)
    copies = []
    monkeypatch.setattr(torch.Tensor, "is_cpu", False, raising=False)
    monkeypatch.setattr(torch.Tensor, "clone", lambda self: copies.append(self) or self)
    assert not is_traced(tensor)
    assert copies == []


@pytest.mark.parametrize(
    "use",
    [
        "from otel_drift.drift import monitor, sequential, chi_square",
        "from otel_drift import Baseline, DriftMonitor, SequentialDetector;"
        "DriftMonitor(Baseline.uniform(3)).update([0, 1, 2])",
    ],
)
def test_the_statistics_need_no_opentelemetry(use):
    block = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('opentelemetry', 'keras', 'wrapt'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    subprocess.run([sys.executable, "-c", block + use], check=True)


def test_the_evidence_reaches_the_threshold_and_stays_there_while_drift_is_active(collected):
    """It starts afresh at an alarm, so that a graph never showed it reach the threshold."""
    random = np.random.default_rng(5)
    recorder = watched(collected, Baseline.uniform(10))
    recorder.record(random.integers(0, 10, size=3_200))
    assert collected.values("keras.prediction.drift.evidence", NAME)["net"] < 6
    for _ in range(30):
        recorder.record(random.integers(1, 10, size=100))
        active = collected.values("keras.prediction.drift.active", NAME)["net"]
        evidence = collected.values("keras.prediction.drift.evidence", NAME)["net"]
        assert (evidence >= 7) == (active == 1)
    assert active == 1
    recorder.record(random.integers(0, 10, size=2_000))
    collected.values("keras.prediction.drift.evidence", NAME)  # may show an alarm of the last drift
    recorder.record(random.integers(0, 10, size=18_000))
    assert collected.values("keras.prediction.drift.evidence", NAME)["net"] < 6


def test_an_alarm_between_two_collections_is_seen_in_the_evidence(collected):
    random = np.random.default_rng(6)
    recorder = watched(collected, Baseline.uniform(10))
    for call in random.integers(0, 10, size=(200, 32)):
        recorder.record(call)
    for call in random.integers(1, 10, size=(20, 32)):
        recorder.record(call)
    recorder.record(random.integers(0, 10, size=20_000))  # over before anybody looks
    points = {name: point for name, _, point in collected.points() if hasattr(point, "value")}
    assert points["keras.prediction.drift.active"].value == 0
    assert points["keras.prediction.drift.alarms"].value > 0
    assert points["keras.prediction.drift.evidence"].value >= 7
    assert collected.values("keras.prediction.drift.evidence", NAME)["net"] < 6


def test_all_series_of_a_collection_are_of_one_moment(collected, monkeypatch):
    """One collection took 24 snapshots of a monitor, so its series could disagree."""
    recorder = watched(collected, Baseline.uniform(10))
    random = np.random.default_rng(7)
    taken = []
    take = collection.take_snapshot

    def take_and_predict(*args, **kwargs):
        snapshot = take(*args, **kwargs)
        taken.append(snapshot)
        recorder.record(random.integers(1, 10, size=1_000))  # drifts while it is collected
        return snapshot

    from otel_drift.telemetry import instruments

    monkeypatch.setattr(instruments, "take_snapshot", take_and_predict)
    for number in range(1, 4):
        points = collected.points()
        assert len(taken) == number
        counts = [point.value for name, _, point in points if name == "keras.predictions"]
        samples = [point.value for name, _, point in points if name == "keras.predict.samples"]
        assert sum(counts) == sum(samples) == 1_000 * (number - 1)


def rows_of(n, classes=3):
    return np.eye(classes, dtype=np.float32)[np.arange(n) % classes]


def counted_by_output(collected):
    found = {}
    for _, attributes, point in collected.points("keras.predictions"):
        found[attributes[OUTPUT]] = found.get(attributes[OUTPUT], 0) + point.value
    return {output: count for output, count in found.items() if count}


@pytest.mark.parametrize(
    ("calls", "counts"),
    [
        # An array that fits, then a list of one that does not: it had the other's series replaced.
        (
            [rows_of(4), [rows_of(2, 2)], rows_of(7), [rows_of(3, 2)]],
            {"output": 11, "output (2 classes)": 5},
        ),
        # The one that does not fit comes first.
        (
            [[rows_of(2, 2)], rows_of(4), [rows_of(3, 2)], rows_of(7)],
            {"output": 5, "output (3 classes)": 11},
        ),
        # Another that does not fit, under a name of its own.
        (
            [rows_of(4), {"output": rows_of(3)}, {"more": rows_of(5, 4)}, [rows_of(2, 4)]],
            {"output": 7, "output (4 classes)": 7},
        ),
        # A list of one that fits is the same output.
        ([rows_of(4), [rows_of(3)], rows_of(7)], {"output": 14}),
    ],
)
def test_an_output_of_another_form_takes_no_series_over(collected, calls, counts):
    recorder = watched(collected, Baseline.uniform(3))
    so_far = 0
    for call in calls:
        recorder.record(call)
        found = counted_by_output(collected)
        assert sum(found.values()) > so_far, "counts fell, or the call is not counted"
        so_far = sum(found.values())
    assert found == counts
    errors = collected.values("keras.instrumentation.errors", "error.type")
    assert errors["output"] == 0


SCORES = np.random.default_rng(5).dirichlet(np.ones(3), 11)


class Given(keras.Model):
    """Returns what the class is told to."""

    y = SCORES

    def call(self, x):
        return self.y


@contextmanager
def instrumented(collected):
    model = Given(name="given")
    otel_drift.instrument_model(
        model, baseline=Baseline.uniform(3), meter_provider=collected.provider
    )
    try:
        yield model
    finally:
        otel_drift.uninstrument_model(model)


def test_what_cannot_be_asked_before_a_call_is_an_error_each_time_and_one_line(
    collected, caplog, monkeypatch
):
    """It was a warning with a traceback at every call, and no error at all."""

    def broken():
        raise RuntimeError("no context")

    with instrumented(collected) as model:
        monkeypatch.setattr(patch, "get_current", broken)
        for _ in range(3):
            assert model(SCORES, training=False) is SCORES
        monkeypatch.undo()
        model(SCORES, training=False)
        assert sum(collected.values("keras.predictions", CLASS).values()) == len(SCORES)
        assert collected.values("keras.instrumentation.errors", "error.type")["internal"] == 3
    assert len([one for one in caplog.records if "that is not recorded" in one.message]) == 1


def test_a_handler_that_raises_does_not_reach_the_user(collected, monkeypatch):
    """What is logged of a failure went on to whoever had called the model."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("no log")

    handler, logger = Broken(), logging.getLogger("otel_drift")
    with instrumented(collected) as model:
        logger.addHandler(handler)
        try:
            monkeypatch.setattr(Given, "y", object())
            assert model(SCORES, training=False) is Given.y
        finally:
            logger.removeHandler(handler)
        assert collected.values("keras.instrumentation.errors", "error.type")["output"] == 1


@pytest.mark.parametrize("baseline", [Baseline.uniform(3), None], ids=["a baseline", "none"])
@pytest.mark.parametrize("first", ["returned", "handed over"])
def test_what_is_returned_and_what_is_handed_over_take_no_series_from_each_other(
    collected, baseline, first
):
    """Each replaced what the other had counted, if it had another number of classes."""
    recorder = watched(collected, baseline)
    recorder.serve(["call"])
    assert recorder.comes_alive()
    if first == "handed over":
        recorder.record(rows_of(2, 2))
    for _ in range(2):
        recorder.methods["call"].returned(rows_of(11), 0.1)
        recorder.record(rows_of(2, 2))
    found = counted_by_output(collected)
    handed_over = 6 if first == "handed over" else 4
    assert sorted(found.values()) == [handed_over, 22]
