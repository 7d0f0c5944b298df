"""The chi-square test equals SciPy's, its windows lose nothing, and its p-values are uniform."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from otel_drift import Baseline, chi_square_test
from otel_drift.drift import chi_square as module
from otel_drift.drift.chi_square import closed_form_tail
from otel_drift.drift.window import Cells, ChiSquareWindow


def random_tables(seed: int, count: int):
    random = np.random.default_rng(seed)
    for _ in range(count):
        k = int(random.integers(2, 60))
        share = random.dirichlet(np.full(k, 2.0))
        yield random, share, random.multinomial(int(random.integers(50, 20_000)), share)


def test_known_baseline_equals_scipy_goodness_of_fit():
    for _, share, counts in random_tables(1, 200):
        ours = chi_square_test(counts, Baseline.from_proportions(share))
        theirs = scipy.stats.chisquare(counts, share * counts.sum())
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-10, abs=1e-300)
        assert ours.degrees_of_freedom == len(share) - 1


def test_counted_baseline_equals_scipy_homogeneity():
    for random, share, counts in random_tables(2, 200):
        reference = random.multinomial(int(random.integers(500, 50_000)), share) + 1
        ours = chi_square_test(counts, Baseline.from_counts(reference))
        theirs = scipy.stats.chi2_contingency([counts, reference], correction=False)
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-10, abs=1e-300)
        assert ours.degrees_of_freedom == theirs.dof


@pytest.mark.parametrize("pinned", [[30, 14, 34, 45, 57, 20], [200, 0, 0, 0, 0, 0]])
def test_p_value_equals_scipy_to_twelve_digits(pinned):
    ours = chi_square_test(pinned, Baseline.uniform(6))
    assert ours.p_value == pytest.approx(scipy.stats.chisquare(pinned).pvalue, rel=1e-12)


def test_impossible_class_of_a_known_baseline():
    result = chi_square_test([10, 10, 1], Baseline.from_proportions([0.5, 0.5, 0]))
    assert result.p_value == 0
    assert math.isinf(result.statistic)


def test_class_that_neither_side_contains_plays_no_part():
    with_empty = chi_square_test([10, 20, 0], Baseline.from_counts([50, 50, 0]))
    without = chi_square_test([10, 20], Baseline.from_counts([50, 50]))
    assert with_empty == without


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"shape \(2,\): the baseline has 3 classes"),
        ([1, -2, 3], "at least 0"),
        ([1, math.nan, 3], "finite"),
        ([0, 0, 0], "nothing to test"),
    ],
)
def test_wrong_counts_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        chi_square_test(counts, Baseline.uniform(3))


def test_closed_form_tail_equals_scipy():
    worst = 0.0
    for degrees in [*range(1, 101), 999, 9_999]:
        for statistic in (1e-3, 0.5, degrees * 0.5, degrees, degrees * 1.5 + 20, degrees + 400):
            exact = scipy.special.chdtrc(degrees, statistic)
            if exact > 1e-290:
                worst = max(worst, abs(closed_form_tail(statistic, degrees) / exact - 1))
    assert worst < 1e-11
    assert closed_form_tail(0, 5) == 1
    assert closed_form_tail(math.inf, 5) == 0
    assert closed_form_tail(1e6, 3) == 0


def test_without_scipy_the_closed_form_is_used(monkeypatch):
    expected = chi_square_test([30, 14, 34], Baseline.uniform(3)).p_value
    monkeypatch.setattr(module, "_scipy_tail", None)
    assert chi_square_test([30, 14, 34], Baseline.uniform(3)).p_value == pytest.approx(expected)


def batches(random: np.random.Generator, sizes: str, total: int) -> list[int]:
    lengths: list[int] = []
    while sum(lengths) < total:
        lengths.append(int(random.integers(1, 1_001)) if sizes == "mixed" else int(sizes))
    return lengths


@pytest.mark.parametrize("sizes", ["1", "7", "32", "200", "1000", "mixed"])
@pytest.mark.parametrize(
    "baseline_of",
    [
        lambda random, share: Baseline.from_proportions(share),
        lambda random, share: Baseline.from_counts(random.multinomial(20_000, share)),
    ],
    ids=["known", "counted"],
)
def test_p_values_are_uniform_without_drift(sizes, baseline_of):
    """Kolmogorov-Smirnov at 1e-4 a case. The counted case draws a new baseline for each stream."""
    random = np.random.default_rng(17)
    share = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    p_values: list[float] = []
    for _ in range(200):
        window = ChiSquareWindow(baseline_of(random, share))
        lengths = batches(random, sizes, 200)
        labels = random.choice(5, size=sum(lengths), p=share)
        # One p-value a stream where the baseline is shared by its windows: those are dependent.
        results = window.update(labels, lengths)
        p_values += [results[0].test.p_value]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("cut", [1, 3, 10, 1_000])
def test_windows_are_the_same_however_the_calls_are_handed_over(cut):
    random = np.random.default_rng(3)
    lengths = [int(n) for n in random.integers(1, 80, size=200)]
    labels = random.integers(0, 10, size=sum(lengths))
    at_once = ChiSquareWindow(Baseline.uniform(10)).update(labels, lengths)
    window, parts, start = ChiSquareWindow(Baseline.uniform(10)), [], 0
    for first in range(0, len(lengths), cut):
        some = lengths[first : first + cut]
        parts += window.update(labels[start : start + sum(some)], some)
        start += sum(some)
    assert [one.counts.tolist() for one in parts] == [one.counts.tolist() for one in at_once]
    assert sum(int(one.counts.sum()) for one in parts) + window.pending == len(labels)


def test_windows_close_at_the_first_call_that_brings_enough():
    window = ChiSquareWindow(Baseline.uniform(2))
    results = window.update(np.zeros(149, dtype=int), [49, 100])
    assert [int(one.counts.sum()) for one in results] == [149]
    assert ChiSquareWindow(Baseline.uniform(2)).update(np.zeros(49, dtype=int), [49]) == []


def test_window_needs_five_expected_of_each_class():
    assert Cells(Baseline.uniform(10)).minimum == 50
    assert Cells(Baseline.from_proportions([0.95, 0.05])).minimum == 100
    assert Cells(Baseline.uniform(1_000)).minimum == 5_000


def test_rare_classes_are_pooled_and_one_surprise_does_not_alarm():
    cells = Cells(Baseline.from_proportions([0.5, 0.4999, 0.0001]))
    assert cells.minimum == 50
    assert cells.test(np.array([[25, 25, 1]]))[0].p_value > 0.5
    many = Baseline.from_proportions([0.9, *([0.001] * 100)])
    assert Cells(many).test(np.array([[900, *([1] * 100)]]))[0].degrees_of_freedom == 1


def test_window_after_pooling_equals_scipy_on_the_pooled_table():
    baseline = Baseline.from_counts([5_000, 4_000, 8, 2])
    counts = np.array([400, 580, 15, 5])
    ours = Cells(baseline).test(counts[None])[0]
    theirs = scipy.stats.chi2_contingency([[400, 600], [5_000, 4_010]], correction=False)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)


def test_effect_sizes_of_a_lost_class():
    window = ChiSquareWindow(Baseline.uniform(4))
    effect = window.update(np.repeat([0, 1, 2], 100), [300])[0].effect
    assert effect.tvd == pytest.approx(0.25)
    assert effect.cramers_v == pytest.approx(math.sqrt(100 / 3 / 300))
    assert math.isfinite(effect.psi)
    assert effect.psi > 0.2
