"""The command, as it is typed."""

import subprocess
import sys

import numpy as np
import pytest

from otel_drift import Baseline
from otel_drift.cli import average_run_length, main


def test_average_run_length_of_traffic():
    assert average_run_length(100, 1) == 788_940_000
    assert average_run_length(1 / 60, 4) == 32_873


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predictions-per-second", "0"], "predictions per second 0.0: must be above 0"),
        (
            ["--predictions-per-second", "1", "--false-alarms-per-quarter", "-1"],
            "false alarms per quarter -1.0: must be above 0",
        ),
        (["--predictions-per-second", "1e-9"], "must be a number of predictions per false alarm"),
    ],
)
def test_traffic_that_makes_no_sense(arguments, message, capsys):
    assert main(["average-run-length", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_baseline_is_shown_with_its_band(tmp_path, capsys):
    path = Baseline.from_counts([100_000, 300_000], ["cat", "dog"]).save(tmp_path / "a.json")
    assert main(["baseline", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "output: 2 classes, 400,000 predictions" in shown
    assert "cat                    25.00%  20.00% to 30.00%" in shown


def test_replay_finds_the_drift_and_says_so_by_its_exit_status(tmp_path, capsys):
    random = np.random.default_rng(1)
    path = Baseline.uniform(10).save(tmp_path / "a.json")
    quiet = random.integers(0, 10, size=20_000)
    np.save(tmp_path / "quiet.npy", quiet)
    np.savetxt(tmp_path / "lost.txt", np.append(quiet, random.integers(0, 9, size=500)), fmt="%d")
    assert main(["replay", str(path), str(tmp_path / "quiet.npy")]) == 0
    assert "20,000 predictions, 0 alarms" in capsys.readouterr().out
    assert main(["replay", str(path), str(tmp_path / "lost.txt")]) == 1
    assert "class 9 from 10.00% to 0." in capsys.readouterr().out


def test_replay_reads_calls_keys_and_times_of_a_log(tmp_path, capsys):
    path = Baseline.uniform(10).save(tmp_path / "a.json")
    random = np.random.default_rng(2)
    of_call = random.integers(0, 10, size=1_000)
    log = {"label": np.repeat(of_call, 100), "time": np.repeat(np.arange(1_000) * 60, 100)}
    calls = {"call": np.repeat(np.arange(1_000), 100)}
    np.savez(tmp_path / "calls.npz", **log, **calls)
    np.savez(tmp_path / "keys.npz", **log, key=calls["call"])
    assert main(["replay", str(path), str(tmp_path / "calls.npz")]) == 0
    assert "100,000 predictions, 0 alarms" in capsys.readouterr().out
    assert main(["replay", str(path), str(tmp_path / "keys.npz")]) == 0
    assert "1,000 predictions, 0 alarms" in capsys.readouterr().out
    drifted = np.concatenate([random.integers(0, 10, 9_000), random.integers(0, 9, 1_000)])
    np.savez(tmp_path / "drifted.npz", label=drifted, time=np.arange(10_000))
    assert main(["replay", str(path), str(tmp_path / "drifted.npz")]) == 1
    assert "(1970-01-01 02:3" in capsys.readouterr().out


def test_broken_files_are_named(tmp_path, capsys):
    assert main(["baseline", str(tmp_path / "none.json")]) == 2
    assert "none.json: there is no such baseline file" in capsys.readouterr().err


def test_it_is_installed():
    shown = subprocess.run(
        [sys.executable, "-m", "otel_drift.cli", "--version"], capture_output=True, text=True
    )
    assert shown.stdout.strip() == "0.1.0"
