"""Logs of predictions: what is read, and what is refused with its place and value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from otel_drift import Baseline, load_baselines
from otel_drift.baselines.log import prediction_log, read_log
from otel_drift.cli import main

ROWS = [("2026-01-01T00:00:00+00:00", "cat", 1), ("2026-01-01T00:00:02+00:00", "dog", 1)]


def test_the_three_kinds_of_files_are_read_alike(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [(time, label, str(key)) for time, label, key in ROWS]
    (tmp_path / "a.csv").write_text(
        "time,label,key\n" + "".join(f"{t},{label},{key}\n" for t, label, key in rows)
    )
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("time", "label", "key"))}
    np.savez(tmp_path / "a.npz", **{name: np.array(column) for name, column in columns.items()})
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    for suffix in ("csv", "npz", "parquet"):
        log = read_log(tmp_path / f"a.{suffix}")
        assert log.classes == ("cat", "dog")
        assert log.labels.tolist() == [0, 1]
        assert log.seconds == 2
        assert log.units.tolist() == [0, 0]


def test_times_may_be_numbers_texts_or_datetimes():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start, start + timedelta(seconds=5)]
    for times in (
        [one.timestamp() for one in moments],
        moments,
        [one.isoformat() for one in moments],
        np.array(["2026-01-01T00:00:00", "2026-01-01T00:00:05"], "datetime64[s]"),
        ["2026-01-01T01:00:00+01:00", "2026-01-01T00:00:05+00:00"],
    ):
        assert prediction_log([0, 1], times).times == pytest.approx(
            [one.timestamp() for one in moments]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [2, 1]}, r"times\[1\] lies before times\[0\]: sort the log by time"),
        ({"times": [1, float("nan")]}, r"times\[1\] is .*nan.*: must be a time"),
        ({"times": ["2026-01-01", "noon"]}, r"times\[1\] is 'noon': must be ISO 8601"),
        (
            {"times": ["2026-01-01T00:00", "2026-01-01T00:00+00:00"]},
            "either all or none must name their time zone",
        ),
        ({"times": [1, 2, 3]}, "times: 3 values, but there are 2 labels"),
        ({"calls": [1]}, "calls: 1 values, but there are 2 labels"),
        ({"classes": ["a"]}, "label 1: must be a whole number from 0 to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prediction_log([0, 1], **arguments)


def test_a_missing_column_and_another_kind_of_file_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("time,class\n1,0\n2,1\n")
    with pytest.raises(ValueError, match=r"a\.csv: column 'label' is missing: it has time, class"):
        read_log(tmp_path / "a.csv")
    assert read_log(tmp_path / "a.csv", label="class").labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"a\.txt: must end in \.csv, \.parquet or \.npz"):
        read_log(tmp_path / "a.txt")


def dependent(calls: int = 1_000, rows: int = 16) -> np.ndarray:
    return np.repeat(np.random.default_rng(1).integers(0, 3, calls), rows)


def test_what_a_log_teaches_is_saved_and_read(tmp_path):
    learnt = Baseline.from_log(dependent(), classes=["a", "b", "c"])
    assert learnt.variation.design_effect > 10
    path = learnt.save(tmp_path / "a.json")
    again = Baseline.load(path)
    assert again == learnt
    assert again.variation.to_json() == learnt.variation.to_json()
    assert [edge.tolist() for edge in again.tolerated_band()] == [
        edge.tolist() for edge in learnt.tolerated_band()
    ]
    assert again != Baseline.from_counts(learnt.counts, learnt.classes)
    for one in (again.with_reserved_classes(), again.pooled(np.array([0, 1, 1]), ("a", "rest"))):
        lower, upper = one.tolerated_band()
        assert len(one.variation.lower) == len(lower)
        assert (lower <= one.proportions).all()
        assert (one.proportions <= upper).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("design_effect", 0.5, "design effect 0.5: must be a number from 1"),
        ("lower", [2, 0, 0], "must be shares from 0 to 1"),
        ("upper", [0.1, 0.1, 0.1], "lower edges must lie below upper ones"),
        ("upper", [0.5, 0.5], "lower edges must lie below upper ones"),
        ("blocks", None, "int"),
    ],
)
def test_a_damaged_variation_is_refused_by_file_and_field(tmp_path, field, value, message):
    import json

    path = Baseline.from_log(dependent(), classes=["a", "b", "c"]).save(tmp_path / "a.json")
    content = json.loads(path.read_text())
    content["outputs"]["output"]["variation"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        load_baselines(path)
    assert "a.json: field 'outputs.output.variation'" in str(error.value)


def test_a_log_with_a_drift_inside_is_not_learnt_silently():
    labels = np.random.default_rng(2).integers(0, 3, 60_000)
    labels[30_000:36_000] = 0
    with pytest.raises(ValueError, match="from prediction 30,000 to 36,000 the log is not like"):
        Baseline.from_log(labels)
    assert Baseline.from_log(labels, accept=True).size == 60_000


def test_the_command_reports_saves_and_says_by_its_exit_status(tmp_path, capsys):
    times = 1.8e9 + np.arange(16_000) / 2
    np.savez(tmp_path / "log.npz", label=dependent(), time=times)
    saved = tmp_path / "a.json"
    assert main(["calibrate", str(tmp_path / "log.npz"), "--save", str(saved)]) == 0
    shown = capsys.readouterr().out
    assert "16,000 predictions of 3 classes in 2.2 h, 2 a second" in shown
    assert "predictions say as much as one independent one" in shown
    assert "each quarter with what the others teach: 0" in shown
    assert Baseline.load(saved).variation.design_effect > 10

    drifted = np.random.default_rng(2).integers(0, 3, 60_000)
    drifted[30_000:36_000] = 0
    np.savez(tmp_path / "drifted.npz", label=drifted)
    other = tmp_path / "b.json"
    assert main(["calibrate", str(tmp_path / "drifted.npz"), "--save", str(other)]) == 1
    assert (
        "from prediction 30,000 to 36,000 the log is not like the rest" in capsys.readouterr().out
    )
    assert not other.exists()
    assert main(["calibrate", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err


def test_the_command_takes_classes_and_decision_from_a_baseline(tmp_path):
    before = Baseline.from_predictions(np.array([[0.2, 0.3, 0.5]]), ["a", "b", "c"])
    path = before.save(tmp_path / "a.json")
    np.savez(tmp_path / "log.npz", label=dependent())
    log = str(tmp_path / "log.npz")
    assert main(["calibrate", log, "--baseline", str(path), "--save", str(path)]) == 0
    after = Baseline.load(path)
    assert after.classes == ("a", "b", "c")
    assert after.decision == before.decision
    assert after.variation is not None
