"""The monitor counts exactly, whoever calls it, and hands its labels on in order."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from otel_drift import Baseline, DriftMonitor, SequentialDetector
from otel_drift.drift.exported_classes import MAXIMUM_EXPORTED
from otel_drift.drift.keys import REMEMBERED, Keys
from otel_drift.drift.monitor import BUFFERED_CALLS
from otel_drift.drift.reference import INVALID, OTHER
from otel_drift.drift.variation import Variation
from otel_drift.drift.window import ChiSquareWindow


def test_counts_are_the_truth_whatever_the_batches():
    random = np.random.default_rng(1)
    monitor, truth = DriftMonitor(Baseline.uniform(7)), np.zeros(7, dtype=int)
    for size in random.integers(0, 500, size=1_000):
        labels = random.integers(0, 7, size=size)
        truth += np.bincount(labels, minlength=7)
        monitor.update(labels)
    snapshot = monitor.snapshot()
    assert snapshot.counts.tolist() == [*truth.tolist(), 0, 0]
    assert snapshot.predictions == truth.sum()


def test_counts_are_the_truth_under_threads_that_read_and_write():
    monitor = DriftMonitor(Baseline.uniform(3))
    stop = threading.Event()

    def write(label: int) -> None:
        for _ in range(5_000):
            monitor.append(np.full(3, label))

    def read() -> int:
        last = 0
        while not stop.is_set():
            now = monitor.snapshot().predictions
            assert now >= last
            last = now
        return last

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, label) for label in (0, 1, 2, 2)]:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert monitor.snapshot().counts.tolist() == [15_000, 15_000, 30_000, 0, 0]
    assert 0 < len(monitor.take_p_values()) <= 60_000 / 50


def test_a_buffer_that_nobody_reads_stays_small():
    monitor = DriftMonitor(Baseline.uniform(2))
    for _ in range(20 * BUFFERED_CALLS):
        monitor.append(np.array([0, 1]))
        assert len(monitor._buffer) <= BUFFERED_CALLS
    monitor.append(np.zeros(70_000, dtype=int))
    assert len(monitor._buffer) == 0


def test_labels_outside_the_baseline_are_invalid_or_other():
    monitor = DriftMonitor(Baseline.uniform(3))
    monitor.append(np.array([0, 2, INVALID, OTHER, 99, -7]))
    monitor.update([1.0, float("nan"), float("inf"), 1.5])
    snapshot = monitor.snapshot()
    assert dict(zip(snapshot.classes, snapshot.counts.tolist(), strict=True)) == {
        "0": 1,
        "1": 1,
        "2": 1,
        "other": 1,
        "invalid": 6,
    }


def test_tests_and_detector_see_the_stream_in_order():
    random = np.random.default_rng(2)
    baseline = Baseline.from_counts([400, 300, 300])
    calls = [random.integers(0, 3, size=size) for size in random.integers(1, 33, size=700)]
    monitor = DriftMonitor(baseline)
    for call in calls:
        monitor.update(call)
    reserved = baseline.with_reserved_classes()
    detector, window = SequentialDetector(reserved, calls=True), ChiSquareWindow(reserved)
    lengths = [len(call) for call in calls]
    detector.update(np.concatenate(calls), lengths)
    expected = window.update(np.concatenate(calls), lengths)
    assert monitor.snapshot().evidence == pytest.approx(detector.evidence, rel=1e-9)
    assert monitor.take_p_values() == [one.test.p_value for one in expected]


def test_calls_that_are_sorted_by_class_are_no_drift():
    """A detector that reads them in their order sees one class after the other collapse."""
    random = np.random.default_rng(3)
    calls = np.sort(random.integers(0, 10, size=(10, 20_000)), axis=1)
    in_order, monitor = SequentialDetector(Baseline.uniform(10)), DriftMonitor(Baseline.uniform(10))
    for call in calls:
        in_order.update(call)
        monitor.update(call)
    snapshot = monitor.snapshot()
    assert in_order.alarms > 0
    assert snapshot.alarms == 0
    assert snapshot.design_effect == 1
    assert not snapshot.dependent


def test_calls_that_are_alike_are_said_to_be_dependent_and_raise_nothing():
    random = np.random.default_rng(4)
    monitor = DriftMonitor(Baseline.uniform(10))
    for label in random.integers(0, 10, size=1_000):
        monitor.update(np.full(32, label))
    snapshot = monitor.snapshot()
    assert snapshot.alarms == 0
    assert snapshot.dependent
    assert snapshot.design_effect == pytest.approx(32, rel=0.3)
    # The windows count 32 rows as one, so that their p-values are not all near 0.
    p_values = monitor.take_p_values()
    assert len(p_values) > 10
    assert np.median(p_values[len(p_values) // 2 :]) > 0.1


def test_of_each_unit_the_first_is_tested_and_all_are_counted():
    """50 visitors at a time, all predictions of a visit alike: without keys, that is dependence."""
    random = np.random.default_rng(5)
    visits = random.integers(0, 50, size=40_000) + 50 * (np.arange(40_000) // 400)
    labels = random.integers(0, 10, size=5_000)[visits]
    monitor, truth = DriftMonitor(Baseline.uniform(10)), np.bincount(labels, minlength=12)
    for start in range(0, len(labels), 100):
        part = slice(start, start + 100)
        monitor.append(labels[part], visits[part])
    snapshot = monitor.snapshot()
    _, first, sizes = np.unique(visits, return_index=True, return_counts=True)
    alone = ChiSquareWindow(Baseline.uniform(10).with_reserved_classes())
    tested = [alone.update(labels[[row]], [1]) for row in sorted(first)]
    assert snapshot.counts.tolist() == truth.tolist()
    assert snapshot.alarms == 0
    assert not snapshot.dependent
    assert snapshot.design_effect == pytest.approx((sizes**2).sum() / sizes.sum())
    assert snapshot.expected_design_effect == snapshot.design_effect
    assert 0 < len(monitor.take_p_values()) <= sum(map(len, tested))


def test_units_that_are_remembered_are_bounded():
    keys = Keys()
    for start in range(0, 3 * REMEMBERED, 1_000):
        assert keys.first(np.arange(start, start + 1_000)).all()
    assert len(keys._sizes) == REMEMBERED
    assert keys.design_effect == 1
    assert not keys.first(np.array([3 * REMEMBERED - 1]))[0]


def test_a_window_is_compared_with_the_nearest_shares_that_a_log_had():
    hull = Variation(1.0, (1.0,), np.array([0.3, 0.4]), np.array([0.6, 0.7]), 512, 40)
    baseline = Baseline.from_proportions([0.5, 0.5])
    labels, varied = np.repeat([0, 1], [330, 670]), replace(baseline, variation=hull)
    (known,) = ChiSquareWindow(baseline).update(labels, [1_000])
    (inside,) = ChiSquareWindow(varied).update(labels, [1_000])
    (outside,) = ChiSquareWindow(varied).update(np.repeat([0, 1], [200, 800]), [1_000])
    assert known.test.p_value < 1e-9
    assert inside.test.p_value > 0.9
    assert outside.test.p_value < 1e-9
    assert inside.effect.tvd == pytest.approx(0.17)


def test_reading_changes_nothing_and_results_are_handed_out_once():
    random = np.random.default_rng(3)
    often, once = DriftMonitor(Baseline.uniform(4)), DriftMonitor(Baseline.uniform(4))
    for _ in range(300):
        labels = random.integers(0, 3, size=17)
        often.update(labels)
        once.update(labels)
        often.snapshot()
    first, second = often.snapshot(), once.snapshot()
    assert first.evidence == second.evidence
    assert first.alarms == second.alarms > 0
    assert first.last_alarm.alarm == second.last_alarm.alarm
    p_values = often.take_p_values()
    assert p_values == once.take_p_values()
    assert len(p_values) > 10
    assert often.take_p_values() == []
    assert [event.state for event in often.take_events()] == ["began"]
    assert often.take_events() == []


def test_an_alarm_names_the_class_and_the_time_of_its_onset():
    random = np.random.default_rng(4)
    monitor = DriftMonitor(Baseline.uniform(10))
    for _ in range(30):
        monitor.update(random.integers(0, 10, size=100))
    before = monitor.snapshot()
    for _ in range(10):
        monitor.update(random.integers(1, 10, size=100))
    alarm = monitor.snapshot().last_alarm
    assert not before.active
    assert [one.name for one in alarm.moved] == ["0"]
    assert alarm.onset <= alarm.time
    assert alarm.window is not None


def test_first_predictions_become_the_baseline():
    random = np.random.default_rng(5)
    monitor = DriftMonitor(None, classes=["a", "b", "c"], first=1_000)
    monitor.update(random.integers(0, 3, size=999))
    assert monitor.snapshot().evidence is None
    monitor.update([0])
    assert monitor.snapshot().evidence == 0
    assert monitor.baseline.size == 1_000
    assert monitor.snapshot().counts.sum() == 1_000
    for _ in range(30):
        monitor.update(random.integers(0, 2, size=100))
    assert monitor.snapshot().active


def test_without_a_baseline_there_are_counts_only():
    monitor = DriftMonitor(None, classes=["a", "b"])
    monitor.update([0] * 500)
    snapshot = monitor.snapshot()
    assert snapshot.counts.tolist() == [500, 0, 0, 0]
    assert (snapshot.window, snapshot.evidence, snapshot.active) == (None, None, False)
    with pytest.raises(ValueError, match="needs a baseline, or the names of the classes"):
        DriftMonitor(None)


def test_many_classes_are_exported_as_the_commonest_and_other():
    share = np.full(300, 1.0)
    share[250:] = 100
    monitor = DriftMonitor(Baseline.from_counts(share))
    exported = monitor.exported
    assert len(exported.classes) == MAXIMUM_EXPORTED + 2
    assert {str(k) for k in range(250, 300)} <= set(exported.classes)
    assert exported.baseline.proportions.sum() == pytest.approx(1)
    assert exported.classes[exported.position[-1]] == "invalid"
    assert exported.lower.shape == exported.upper.shape == (MAXIMUM_EXPORTED + 2,)


def test_a_replaced_monitor_goes_on_counting():
    first = DriftMonitor(Baseline.uniform(2))
    first.update([0, 0, 1])
    second = DriftMonitor(Baseline.from_counts([30, 70, 10], ["0", "1", "2"]))
    second.carry_over(first)
    second.update([1, 2])
    assert second.snapshot().counts.tolist() == [2, 2, 1, 0, 0]
    assert second._detector.predictions == 2


def test_reset_forgets_what_the_parent_of_a_fork_counted():
    monitor = DriftMonitor(Baseline.uniform(2))
    monitor.update([0] * 1_000)
    assert monitor.snapshot().active
    monitor._lock.acquire()  # as another thread may have held it at the fork
    monitor.update([0])
    monitor.reset()
    monitor.update([1, 1])
    snapshot = monitor.snapshot()
    assert snapshot.counts.tolist() == [0, 2, 0, 0]
    assert not snapshot.active


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 1.2}, "tolerance"),
        ({"average_run_length": 5}, "average_run_length"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        DriftMonitor(Baseline.uniform(3), **options)


def test_labels_that_are_none():
    with pytest.raises(ValueError, match="must be whole numbers"):
        DriftMonitor(Baseline.uniform(3)).update(["cat"])


def test_a_copy_under_threads_is_of_one_moment():
    monitor = DriftMonitor(Baseline.uniform(3))
    done = threading.Event()

    def predict():
        for _ in range(2_000):
            monitor.append(np.array([0, 1, 2]))
        done.set()

    thread = threading.Thread(target=predict)
    thread.start()
    copies = []
    while not done.is_set():
        copies.append(copy.copy(monitor))
        monitor.take_p_values()
    thread.join()
    copies.append(copy.copy(monitor))
    for one in copies:
        assert len(set(one.snapshot().counts[:3].tolist())) == 1
    assert copies[-1].snapshot().predictions == monitor.snapshot().predictions == 6_000


def dependent_calls(random: np.random.Generator) -> list[np.ndarray]:
    """Give calls of several lengths, a call of which is mostly of one class."""
    sizes = random.choice([1, 7, 40, 700], size=400, p=[0.5, 0.3, 0.15, 0.05])
    return [
        np.where(random.random(size) < 0.4, random.integers(6), random.integers(0, 6, size))
        for size in sizes.tolist()
    ]


@pytest.mark.parametrize("first", [None, 3_000])
@pytest.mark.parametrize("keyed", [False, True])
def test_windows_do_not_depend_on_when_the_buffer_is_worked_off(first, keyed):
    """A window was as long as the design effect said at the end of what was worked off."""
    random = np.random.default_rng(11)
    calls = dependent_calls(random)
    keys = [random.integers(0, 20_000, len(call)) if keyed else None for call in calls]
    found = []
    for work_off in (
        lambda one, number: None,
        lambda one, number: one.snapshot(),
        lambda one, number: list(one.works(37)) if number % 3 == 0 else None,
        lambda one, number: one.snapshot() if number % 50 == 0 else None,
    ):
        monitor = DriftMonitor(
            None if first else Baseline.uniform(6), classes="abcdef", first=first
        )
        for number, (call, of_units) in enumerate(zip(calls, keys, strict=True)):
            monitor.hold(call, of_units)
            work_off(monitor, number)
        snapshot = monitor.snapshot()
        assert snapshot.design_effect > 1.5
        found.append((snapshot.window.counts.tolist(), monitor.take_p_values()))
    assert len(found[0][1]) >= 5
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_who_gives_up_working_off_takes_no_labels_along(steps):
    """Between detector and windows, the windows missed them, and alarms had no event."""
    random = np.random.default_rng(12)
    calls = [random.integers(0, 6 if number < 40 else 4, 100) for number in range(80)]
    given_up, whole = DriftMonitor(Baseline.uniform(6)), DriftMonitor(Baseline.uniform(6))
    for call in calls:
        given_up.hold(call)
        working = given_up.works(64)
        for _ in range(steps):
            next(working, None)
        working.close()
        whole.append(call)
    assert given_up.snapshot().window.counts.tolist() == whole.snapshot().window.counts.tolist()
    assert given_up.take_p_values() == whole.take_p_values()
    assert given_up.snapshot().alarms == whole.snapshot().alarms > 0
    assert [event.state for event in given_up.take_events()] == ["began"]
