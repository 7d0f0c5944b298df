"""What Prometheus has counted teaches a baseline, on the real server."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from otel_drift import Baseline
from otel_drift.baselines.counted_history import counted_history
from otel_drift.cli import main
from otel_drift.drift.calibration import calibrate
from otel_drift.drift.sequential import SequentialDetector
from tests.grafana.prometheus_server import prometheus_alone, write_history

SCRAPE, MINUTES, CALL = 30, 1_000, 64
CALLS = 15
"""Calls of 64 predictions in a scrape of each replica."""
SHARES = np.array([0.5, 0.3, 0.2])
RESTARTED_AT, BORN_AT = 701, 500
"""Scrapes at which the first replica begins again, and the second is first seen."""


class Counted(NamedTuple):
    url: str
    end: float
    truth: np.ndarray


def alike(rng: np.random.Generator, scrapes: int) -> np.ndarray:
    """Class counts of scrapes, of calls that are each of one class."""
    return CALL * rng.multinomial(CALLS, SHARES, scrapes)


def lines(model: str, replica: str, counts: np.ndarray, begin: float) -> Iterator[str]:
    for k in range(counts.shape[1]):
        labels = (
            f'keras_model_name="{model}",keras_model_output="output",'
            f'keras_prediction_class="{k}",instance="{replica}"'
        )
        for at, value in enumerate(counts[:, k]):
            yield f"keras_predictions_total{{{labels}}} {value} {begin + SCRAPE * at}"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    folder = tmp_path_factory.mktemp("history")
    rng = np.random.default_rng(1)
    scrapes = 1 + MINUTES * 60 // SCRAPE
    first, second = alike(rng, scrapes), alike(rng, scrapes)
    grown = np.cumsum(first, axis=0)
    grown[RESTARTED_AT:] -= grown[RESTARTED_AT - 1]
    end = float(math.floor(time.time() / 60) * 60)
    begin = end - SCRAPE * (scrapes - 1)
    text = ["# TYPE keras_predictions_total counter"]
    text += lines("digits", "a", grown, begin)
    born = np.cumsum(second, axis=0)[BORN_AT:]
    text += lines("digits", "b", born, begin + SCRAPE * BORN_AT)
    text += lines("pets", "a", np.cumsum(first, axis=0)[:, :1], begin)
    text.append("# EOF\n")
    write_history(folder, "\n".join(text))
    # What a replica held when it was first seen is nobody's.
    truth = first[1:].sum(axis=0) + second[BORN_AT + 1 :].sum(axis=0)
    with prometheus_alone(folder) as url:
        yield Counted(url, end, truth)


def test_what_the_replicas_counted_is_the_log(counted: Counted):
    log = counted_history(counted.url, "digits", days=1, end=counted.end)
    assert log.classes == ("0", "1", "2")
    assert np.bincount(log.labels).tolist() == counted.truth.tolist()
    assert log.seconds == pytest.approx(MINUTES * 60, abs=120)


def test_dependence_is_seen_although_only_counts_are_known(counted: Counted):
    log = counted_history(counted.url, "digits", days=1, end=counted.end)
    found = calibrate(log.labels, log.classes, steps=log.steps)
    assert CALL <= found.variation.design_effect < 2 * CALL
    again = np.random.default_rng(2).choice(3, 2_000_000 // CALL, p=SHARES).repeat(CALL)
    assert not SequentialDetector(found.reference).update(again)
    lost = np.where(again == 2, 0, again)
    (alarm, *_) = SequentialDetector(found.reference).update(lost)
    assert alarm.prediction < 10_000
    # In the shortest stretches, whose order is not known, all of it looks independent.
    assert calibrate(log.labels, log.classes).variation.design_effects[0] < 2
    assert found.variation.design_effects[0] > CALL / 2


def test_as_a_command(counted: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "digits.baseline.json"
    asked = ["calibrate", "--from-prometheus", counted.url, "--model", "digits", "--days", "1"]
    assert main([*asked, "--save", str(path)]) == 0
    said = capsys.readouterr().out
    assert " predictions of 3 classes in 16." in said
    counts = Baseline.load(path).counts
    assert counts is not None
    # Read on other seconds: what was first seen, and lost at the restart, are other scrapes.
    assert 0 <= counted.truth.sum() - counts.sum() <= 4 * CALL * CALLS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "none"], "model 'none': Prometheus has no series keras_predictions_total"),
        ([], "--from-prometheus needs --model NAME"),
        (["--model", "digits", "--classes", "a,b"], "class '0': not among the 2 classes given"),
        (["--model", "digits", "--days", "0"], "days 0.0: must be above 0"),
        (["--model", "pets"], "a log with one class, '0'"),
    ],
)
def test_what_cannot_be_learnt_is_said(counted: Counted, options, message, capsys):
    assert main(["calibrate", "--from-prometheus", counted.url, *options]) == 2
    assert message in capsys.readouterr().err


def test_whoever_is_no_prometheus_is_named(counted: Counted, capsys):
    for url, message in (
        (f"{counted.url}/nothing", "404"),
        ("http://127.0.0.1:1", "refused"),
        ("localhost:9090", "must begin with http:// or https://"),
    ):
        assert main(["calibrate", "--from-prometheus", url, "--model", "digits"]) == 2
        assert message in capsys.readouterr().err
