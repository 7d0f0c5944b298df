"""The example's scripts: other data, other drifts, and errors that say what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.demo.stack import ROOT
from otel_drift import Baseline

pytestmark = pytest.mark.pipeline

SCRIPTS = ROOT / "examples/digits"


def run(script: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_any_images_will_do(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    y = random.permutation(np.repeat([0, 1, 2], 200))
    x = random.integers(0, 40, (600, 6, 5), dtype=np.uint8)
    x[np.arange(600), y] += 200  # a bright row tells the class
    file = tmp_path / "rows.npz"
    np.savez(file, x=x, y=y)

    trained = run("train.py", "--dataset", file, "--output", tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "held-out accuracy 1.0000 on" in trained.stdout
    baseline = Baseline.load(tmp_path / "rows.baseline.json")
    assert baseline.size == 300  # the half it was not trained on

    report = tmp_path / "report.jsonl"
    sent = ("--predictions", "20000", "20000", "--rate", "0", "--drift", "scale:2:0.5")
    model = ("--model", tmp_path / "rows.keras", "--dataset", file)
    predicted = run("drift.py", *model, *sent, "--report", report)
    assert predicted.returncode == 0, predicted.stderr
    records = [json.loads(text) for text in report.read_text().splitlines()]
    drifted_from = next(one["predictions"] for one in records if one["phase"] == "drifted")
    assert drifted_from == 20_000
    counts = np.array([records[-1]["counts"][str(k)] for k in range(3)])
    assert counts.sum() == 40_000
    halved = baseline.proportions * [1, 1, 0.5]
    expected = 20_000 * (baseline.proportions + halved / halved.sum())
    # Six standard deviations: once in 500 million runs with other seeds.
    assert np.abs(counts - expected).max() < 6 * np.sqrt(40_000 * 0.25)


def test_mistakes_are_named(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((4, 2)), y=np.zeros(4, dtype=int))
    mistakes = {
        ("drift.py", "--model", model, "--drift", "drop:10"): "there is no class 10",
        ("drift.py", "--model", model, "--drift", "melt:1"): "must be drop, scale or swap",
        ("drift.py", "--model", model, "--drift", "swap:3:5:0.5"): "a share below 0",
        ("drift.py", "--model", tmp_path / "no.keras"): "no such model",
        ("drift.py", "--dataset", "cifar"): "must be digits, mnist or a file that ends in .npz",
        ("drift.py", "--dataset", tmp_path / "odd.npz"): "x has shape (4, 2)",
    }
    for (script, *options), message in mistakes.items():
        done = run(script, *options)
        assert done.returncode == 1
        assert message in done.stderr.splitlines()[-1], done.stderr
