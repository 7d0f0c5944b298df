"""Decisions: which label each row of an output gets."""

import math

import numpy as np
import pytest

from otel_drift import Baseline
from otel_drift.outputs.decision import Argmax, Threshold


def test_scores_are_counted_by_argmax_and_rows_with_nan_as_invalid():
    scores = np.array([[0.1, 0.9], [0.7, 0.3], [math.nan, 1.0]])
    baseline = Baseline.from_predictions(scores, ["no", "yes"])
    assert baseline.classes == ("no", "yes", "invalid")
    assert baseline.counts.tolist() == [1, 1, 1]
    assert baseline.decision == Argmax()


def test_probabilities_in_one_column_are_counted_by_threshold():
    baseline = Baseline.from_predictions(np.array([[0.2], [0.7], [0.9]]))
    assert baseline.counts.tolist() == [1, 2]
    assert baseline.decision == Threshold()


def test_regression_is_binned_by_its_quantiles():
    values = np.random.default_rng(1).normal(50, 9, size=(1_000, 1))
    baseline = Baseline.from_predictions(values, bins=8)
    assert baseline.counts.tolist() == [125] * 8
    assert len(baseline.decision.edges) == 7


def test_sequences_count_every_position():
    scores = np.zeros((2, 3, 4))
    scores[..., 1] = 1
    assert Baseline.from_predictions(scores).counts.tolist() == [0, 6, 0, 0]


def test_a_decision_may_be_text():
    baseline = Baseline.from_predictions(np.array([[0.6], [0.8]]), decision="threshold:0.7")
    assert baseline.counts.tolist() == [1, 1]
    assert str(baseline.decision) == "Threshold(score=0.7)"
    with pytest.raises(TypeError, match="decision 5: must be a Decision, or a text"):
        Baseline.from_predictions(np.array([[0.6], [0.8]]), decision=5)
    with pytest.raises(ValueError, match="each label has a baseline of its own"):
        Baseline.from_predictions(np.array([[0.6, 0.8]]), decision="multilabel:0.5")
