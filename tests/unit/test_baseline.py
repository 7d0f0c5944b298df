"""Baselines: what they count, what they refuse, and the band that they tolerate."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from otel_drift import Baseline
from otel_drift.baselines.baseline import (
    baselines_from_predictions,
    load_baselines,
    save_baselines,
)
from otel_drift.baselines.files import path_beside
from otel_drift.drift import band as module
from otel_drift.drift.band import confidence_limits
from otel_drift.outputs.decision import MultiLabel


def test_uniform():
    baseline = Baseline.uniform(4)
    assert baseline.proportions.tolist() == [0.25] * 4
    assert baseline.classes == ("0", "1", "2", "3")
    assert baseline.size is None


def test_counted():
    baseline = Baseline.from_counts([1, 3], ["a", "b"])
    assert baseline.proportions.tolist() == [0.25, 0.75]
    assert baseline.size == 4


def test_labels_as_numbers_and_names():
    assert Baseline.from_labels([0, 2, 2]).counts.tolist() == [1, 0, 2]
    assert Baseline.from_labels(np.array([0, 1]), ["x", "y", "z"]).counts.tolist() == [1, 1, 0]
    named = Baseline.from_labels(["cat", "dog", "cat"])
    assert named.classes == ("cat", "dog")
    assert named.counts.tolist() == [2, 1]
    assert Baseline.from_labels(["cat"], ["dog", "cat"]).counts.tolist() == [0, 1]


def test_several_outputs_and_labels_have_a_baseline_each():
    found = baselines_from_predictions({"kind": np.eye(3), "sure": np.array([[0.1], [0.8]])})
    assert [*found] == ["kind", "sure"]
    assert found["sure"].counts.tolist() == [1, 1]
    found = baselines_from_predictions(
        np.array([[0.9, 0.1], [0.8, 0.7]]), ["rock", "jazz"], decision=MultiLabel()
    )
    assert {name: one.counts.tolist() for name, one in found.items()} == {
        "output.rock": [0, 2],
        "output.jazz": [1, 1],
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Baseline.uniform(1), "k=1: a baseline has 2 to 10000 classes"),
        (lambda: Baseline.uniform(10_001), "2 to 10000"),
        (lambda: Baseline.from_counts([5]), "has 1 classes: must be 2 to 10000"),
        (lambda: Baseline.from_counts([5, -1]), r"counts\[1\] is -1.0: .* at least 0"),
        (lambda: Baseline.from_counts([5, 1.5]), r"counts\[1\] is .*1.5.*: must be a whole number"),
        (lambda: Baseline.from_counts([5, math.nan]), r"counts\[1\] is nan"),
        (lambda: Baseline.from_counts([0, 0]), "all 0"),
        (lambda: Baseline.from_counts([[1, 2]]), r"shape \(1, 2\)"),
        (lambda: Baseline.from_counts("many"), "must be a list of numbers"),
        (lambda: Baseline.from_counts([1, 2], ["a"]), "names 1 classes, but there are 2"),
        (lambda: Baseline.from_counts([1, 2], ["a", "a"]), "names 'a' twice"),
        (lambda: Baseline.from_proportions([0.5, 0.6]), "sum to 1.1"),
        (lambda: Baseline.from_proportions([1.5, -0.5]), r"proportions\[1\] is -0.5"),
        (lambda: Baseline.from_labels([0, -1]), "label -1: .* 0 to 0"),
        (lambda: Baseline.from_labels([0, 7], ["a", "b"]), "label 7: .* 0 to 1"),
        (lambda: Baseline.from_labels(["bird"], ["cat", "dog"]), "label 'bird': not among the 2"),
        (lambda: Baseline.from_predictions(np.zeros((0, 3))), r"shape \(0, 3\)"),
        (lambda: Baseline.uniform(3).tolerated_band(0), "tolerance=0: .* above 0 and below 1"),
        (lambda: Baseline.uniform(3).tolerated_band(1.5), "tolerance=1.5"),
    ],
)
def test_nonsense_is_refused_with_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_band_of_known_proportions_is_the_tolerance():
    lower, upper = Baseline.from_proportions([0.8, 0.2, 0]).tolerated_band(0.25)
    assert lower == pytest.approx([0.6, 0.15, 0])
    assert upper == pytest.approx([1.0, 0.25, 0.001])


def test_confidence_limits_are_clopper_and_pearsons():
    counts = np.array([0, 1, 40, 959])
    low, high = confidence_limits(counts, 0.001)
    for x, below, above in zip(counts, low, high, strict=True):
        interval = scipy.stats.binomtest(int(x), 1_000).proportion_ci(0.998, "exact")
        assert below == pytest.approx(interval.low, abs=1e-12)
        assert above == pytest.approx(interval.high, rel=1e-9)


def test_confidence_limits_without_scipy_are_close(monkeypatch):
    counts = np.array([0, 3, 20, 400, 20_000])
    low, high = confidence_limits(counts, 0.0005)
    monkeypatch.setattr(module, "_beta_quantile", None)
    low_poisson, high_poisson = confidence_limits(counts, 0.0005)
    assert low_poisson[:4] == pytest.approx(low[:4], rel=0.3, abs=1e-5)
    assert high_poisson[:4] == pytest.approx(high[:4], rel=0.05)


def test_band_of_a_counted_baseline_covers_the_truth_for_all_classes_at_once():
    """At 99 % over 2,000 baselines, misses are binomial: more than 36 has probability below 1e-3.

    The band also holds the tolerance, which only widens it: taken here so small that it is idle.
    """
    random = np.random.default_rng(5)
    truth = random.dirichlet(np.full(20, 1.5))
    missed = 0
    for _ in range(2_000):
        lower, upper = Baseline.from_counts(random.multinomial(2_000, truth)).tolerated_band(1e-9)
        missed += bool((truth < lower).any() or (truth > upper).any())
    assert missed <= scipy.stats.binom.isf(1e-3, 2_000, 0.01)


def test_unseen_reserved_classes_may_occur_now_and_then():
    baseline = Baseline.from_counts([5_000_000, 5_000_000]).with_reserved_classes()
    assert baseline.classes[-2:] == ("other", "invalid")
    assert baseline.tolerated_band()[1][-2:].tolist() == [0.001, 0.001]


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=50).filter(any),
    st.floats(0.01, 0.99),
)
def test_band_always_holds_the_baseline_and_some_distribution(counts, tolerance):
    baseline = Baseline.from_counts(counts)
    lower, upper = baseline.tolerated_band(tolerance)
    assert (lower >= 0).all()
    assert (upper <= 1).all()
    assert (lower <= baseline.proportions).all()
    assert (upper >= baseline.proportions).all()
    start = baseline.starting_proportions()
    assert (start > 0).all()
    assert start.sum() == pytest.approx(1)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=30).filter(any))
def test_counted_round_trip(tmp_path_factory, counts):
    baseline = Baseline.from_counts(counts)
    path = baseline.save(tmp_path_factory.mktemp("baselines") / "a.baseline.json")
    assert Baseline.load(path) == baseline


def test_round_trips_of_every_kind(tmp_path):
    kinds = {
        "known": Baseline.from_proportions([0.1, 0.2, 0.7], ["a", "b", "c"]),
        "bins": Baseline.from_predictions(np.arange(100.0)),
        "threshold": Baseline.from_predictions(np.array([0.1, 0.9])),
        "scores": Baseline.from_predictions(np.eye(5)),
    }
    path = save_baselines(kinds, tmp_path / "all.baseline.json")
    loaded = load_baselines(path)
    for name, baseline in kinds.items():
        assert loaded[name].fingerprint == baseline.fingerprint
        assert loaded[name].decision == baseline.decision
        assert loaded[name].output == name
    assert Baseline.load(path, "bins").decision == kinds["bins"].decision
    with pytest.raises(ValueError, match="output None is not in field 'outputs', which has known"):
        Baseline.load(path)


def test_a_baseline_lies_beside_its_model(tmp_path):
    assert path_beside("a/digits.keras") == Path("a/digits.baseline.json")
    assert path_beside("digits.weights.h5") == Path("digits.baseline.json")
    assert path_beside("saved/digits") == Path("saved/digits.baseline.json")
    saved = Baseline.uniform(2).save(tmp_path / "digits.keras")
    assert saved == tmp_path / "digits.baseline.json"


def valid_content() -> dict:
    return {
        "schema_version": 1,
        "outputs": {"output": {"classes": ["a", "b"], "counts": [3, 4]}},
    }


def change(path: str, value: object) -> dict:
    content = valid_content()
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (change("schema_version", 99), "field 'schema_version' is 99: .* reads 1 and 2"),
        (change("schema_version", None), "field 'schema_version' is None"),
        ([], "the file is .*: must be a JSON object"),
        (change("outputs", {}), "field 'outputs' is empty"),
        (change("outputs", [1]), "field 'outputs' is .*: must be a JSON object"),
        (change("outputs.output", 5), "field 'outputs.output' is 5"),
        (change("outputs.output.classes", "ab"), "field 'outputs.output.classes' is 'ab'"),
        (change("outputs.output.classes", ["a"]), "names 1 classes, but there are 2"),
        (change("outputs.output.counts", [1, -4]), r"outputs.output.counts'\[1\] is -4.0"),
        (change("outputs.output.counts", [1, math.nan]), r"outputs.output.counts'\[1\] is nan"),
        (change("outputs.output.counts", [7]), "names 2 classes, but there are 1"),
        (change("outputs.output.counts", None), "counts' is missing"),
        (change("outputs.output.decision", {"kind": "guess"}), "decision kind 'guess'"),
        (change("outputs.output.decision", {"kind": "bins"}), "bins need at least one"),
    ],
)
def test_broken_files_are_refused_by_file_field_and_value(tmp_path, content, message):
    path = tmp_path / "broken.baseline.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        Baseline.load(path)
    assert str(path) in str(caught.value)


def test_one_class_in_a_file_is_refused(tmp_path):
    path = tmp_path / "one.baseline.json"
    path.write_text(json.dumps(change("outputs.output", {"classes": ["a"], "counts": [1]})))
    with pytest.raises(ValueError, match="field 'classes' has 1 classes: must be 2 to 10000"):
        Baseline.load(path)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such baseline file"):
        Baseline.load(tmp_path / "nowhere.json")
    path = tmp_path / "text.baseline.json"
    path.write_text("{half")
    with pytest.raises(ValueError, match="not a JSON file"):
        Baseline.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = Baseline.uniform(2).save(tmp_path / "a.baseline.json")
    before = path.read_text()

    def full_disk(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        Baseline.uniform(3).save(path)
    assert path.read_text() == before


def test_baselines_cannot_be_changed_by_accident():
    baseline = Baseline.from_counts([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        baseline.counts[0] = 5
