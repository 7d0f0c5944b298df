"""What a log of predictions teaches: how they depend on each other and how far shares move.

The log is a stream on which nothing was wrong, in order. `calibrate` takes from it the design
effect and the hull of the shares of its blocks, and replays each quarter of the log with what the
other three teach. It widens the hull until that raises no alarm.

>>> import numpy as np
>>> rng = np.random.default_rng(1)
>>> alike = np.repeat(rng.integers(0, 4, 2_000), 16)  # calls of 16 rows, each call of one class
>>> found = calibrate(alike, ("a", "b", "c", "d"))
>>> found.alarms
0
>>> 16 <= found.variation.design_effect <= 26
True
>>> round(found.delays[0].lost, -2)  # predictions until it is noticed that class a is lost
2000.0
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.band import DEFAULT_TOLERANCE
from otel_drift.drift.calls import correlation, grouped, logged_design_effects
from otel_drift.drift.chunks import CHUNK
from otel_drift.drift.design_effect import BEYOND, LENGTHS, PARTS, SAFE
from otel_drift.drift.dispersion import (
    CELLS,
    NEIGHBOURS,
    block_ratios,
    cells_of,
    clear,
    in_cells,
    relative_spread,
)
from otel_drift.drift.projection import projection_scale
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.sequential import DEFAULT_AVERAGE_RUN_LENGTH, SequentialDetector
from otel_drift.drift.variation import CALL_LENGTHS, CallVariation, Variation

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

FOLDS = 4
"""Parts of the log, each replayed with what the others teach."""
EVERYTHING = range(FOLDS)
MINIMUM_BLOCKS = 6
"""Blocks that the other folds must have for a hull of them."""
MINIMUM_LOG = 8_192
"""Predictions below which nothing can be learnt."""
TEMPERINGS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""What the design effect is multiplied by, until the log's blocks in random order are quiet: where
units differ much in size, their variance alone does not tell how far they go."""
MARGINS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""What the hull's reach is multiplied by, until each fold is quiet with what the others teach."""
REPLAYED, REPLAYED_TIMES = 4_000_000, 8
"""Predictions of a replay in random order, at most, and of how many logs."""
USUAL_GROWTH, DOUBLINGS = 1.2, 8
"""How much wider the range of independent draws becomes when there are twice as many; for how many
doublings more than that is taken to go on."""
UPPER_LIMIT = 1.645
"""Standard deviations to the upper 95 % limit of a design effect."""
VISIBLE_SHARE = 0.01
"""Classes with a larger share choose among the lengths of blocks."""
SHARES = 32
"""Parts of the log whose shares tell whether their range still grows."""
SEGMENTS, LONGEST_EXCEPTION = 20, 5
"""Parts of the log in which one that is not like the others is looked for, and its length."""


class Delays(NamedTuple):
    """Predictions until a change of one class is found, about; infinite where it never is."""

    lost: float
    halved: float
    doubled: float


class Exceptional(NamedTuple):
    """A part of the log that is not like the rest."""

    start: int
    stop: int
    """Places in the log."""
    position: int
    """The class that differs most."""
    share: float
    lowest: float
    highest: float
    """Its share there, and the lowest and the highest elsewhere."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a log has taught.

    Attributes
    ----------
    reference
        Shares, counts and variation of the log.
    alarms
        Alarms when each quarter of the log was replayed with what the others taught.
    uncalibrated_alarms
        Alarms when all of it was replayed with its class counts alone.
    delays
        Of each class.
    margin
        What the hull's reach was multiplied by.
    growth
        How much wider the range of the shares became as the log became twice as long; clearly more
        than 1.2 says that the log is too short to show how far they go.
    exceptional
        A part that is not like the rest, if there is one.
    """

    reference: ReferenceDistribution
    alarms: int
    uncalibrated_alarms: int
    delays: tuple[Delays, ...]
    margin: float
    growth: float
    exceptional: Exceptional | None

    @property
    def variation(self) -> Variation:
        """How the log varied."""
        return _variation(self.reference)


def calibrate(
    labels: Labels,
    classes: Sequence[str],
    *,
    calls: Labels | None = None,
    units: Labels | None = None,
    steps: Labels | None = None,
    average_run_length: float = DEFAULT_AVERAGE_RUN_LENGTH,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Calibration:
    """Learn from a log on which nothing was wrong.

    Parameters
    ----------
    labels
        Places of the predicted classes, in stream order, shape (n,).
    classes
        Names of the K classes.
    calls
        How many of the predictions each call brought, in order, shape (calls,).
    units
        Which session or other unit each prediction is of, shape (n,), any whole numbers; calls do
        not count then.
    steps
        Where only counts are known: the step of time that each prediction was counted in, shape
        (n,), not falling. The order within a step means nothing.
    average_run_length, tolerance
        Of the detector that the log is replayed with.

    Raises
    ------
    ValueError
        If the log has fewer than 8,192 predictions, or only one class.
    """
    if len(labels) < MINIMUM_LOG:
        raise ValueError(
            f"a log of {len(labels):,} predictions: must have at least {MINIMUM_LOG:,}, "
            f"and should cover whole days, better two weeks"
        )
    counts = np.bincount(labels, minlength=len(classes))
    if np.count_nonzero(counts) < 2:
        only = classes[int(counts.argmax())]
        raise ValueError(f"a log with one class, {only!r}: must have at least 2")
    if calls is not None and units is None:
        units = np.repeat(np.arange(len(calls)), calls)
    else:
        calls = None
    search = _Search(
        _Part(labels, calls), tuple(classes), units, steps, average_run_length, tolerance
    )
    return search.best()


class _Part(NamedTuple):
    """Predictions that follow each other, and the lengths of their calls, where these are known."""

    labels: Labels
    calls: Labels | None

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, size: int) -> list[_Part]:
        """Cut into parts of at least a size, each to the end of a call; leave out what is left."""
        if self.calls is None:
            starts = range(0, len(self.labels) - size + 1, size)
            return [_Part(self.labels[start : start + size], None) for start in starts]
        ends = np.cumsum(self.calls)
        parts: list[_Part] = []
        start, call = 0, 0
        while start + size <= len(self.labels):
            last = int(np.searchsorted(ends, start + size))
            stop = int(ends[last])
            parts.append(_Part(self.labels[start:stop], self.calls[call : last + 1]))
            start, call = stop, last + 1
        return parts


def _joined(parts: Sequence[_Part]) -> _Part:
    labels = np.concatenate([part.labels for part in parts])
    calls = [part.calls for part in parts if part.calls is not None]
    return _Part(labels, np.concatenate(calls) if calls else None)


@dataclass
class _Search:
    """The lengths of blocks and the margins, tried on the log."""

    log: _Part
    classes: tuple[str, ...]
    units: Labels | None
    steps: Labels | None
    average_run_length: float
    tolerance: float

    def __post_init__(self) -> None:
        labels = self.log.labels
        self.folds = _quarters(self.log)
        counts = np.bincount(labels, minlength=len(self.classes))
        self.cells = cells_of(counts / len(labels))
        order = np.argsort(-counts, kind="stable")
        self.unit_effect = (
            1.0 if self.units is None else unit_design_effect(labels, self.units, counts)
        )
        self.step_effect = (
            1.0 if self.steps is None else step_design_effect(labels, self.steps, order)
        )
        self.ratios = [_ratios(fold.labels, self.cells) for fold in self.folds]
        self.call_variations: dict[tuple[int, ...], list[CallVariation]] = {}

    def best(self) -> Calibration:
        others = len(self.log) * (FOLDS - 1) // FOLDS
        lengths = [at for at in range(LENGTHS) if others // block_length(at) >= MINIMUM_BLOCKS]
        starts = sorted((self._cost(self.learn(EVERYTHING, at, 1, 1)), at) for at in lengths)
        found: list[tuple[int, float, int, float, float, float]] = []
        for cost, length in starts:
            if found and min(found)[0] == 0 and min(found)[1] <= cost:
                break  # a wider band and a larger design effect only cost more
            found.append(self._settled(length))
        alarms, _, length, tempering, margin, growth = min(found)
        reference = self.learn(EVERYTHING, length, tempering, margin)
        plain = ReferenceDistribution(self.classes, reference.proportions.copy(), reference.counts)
        return Calibration(
            reference,
            alarms,
            self._alarms(plain, self.log),
            self._delays(reference),
            margin,
            growth,
            exceptional(self.log.labels, reference, self.tolerance),
        )

    def _settled(self, length: int) -> tuple[int, float, int, float, float, float]:
        """Settle tempering and margin for one length of blocks; alarms and cost come first."""
        mixed = self._in_random_order(block_length(length))
        known = _variation(self.learn(EVERYTHING, length, 1, 1))
        effect = (known.calls or known).design_effect
        temperings = [one for one in TEMPERINGS if one >= SAFE or effect < BEYOND]
        tempering = next(
            (
                one
                for one in temperings
                if not self._alarms(self.learn(EVERYTHING, length, one, 1), mixed)
            ),
            TEMPERINGS[-1],
        )
        seen = self.learn(EVERYTHING, length, tempering, 1)
        block = len(self.log) // SHARES
        shares = block_shares(self.log.labels, block, len(self.classes))
        growth = range_growth(shares, seen.proportions, _variation(seen).design_effect / block)
        beyond = max(1.0, growth / USUAL_GROWTH) ** DOUBLINGS
        alarms, margin = 0, 1.0
        for margin in (beyond * one for one in MARGINS):
            alarms = self._cross_validated(length, tempering, margin)
            if not alarms:
                break
        reference = self.learn(EVERYTHING, length, tempering, margin)
        alarms += self._alarms(reference, self.log)
        return alarms, self._cost(reference), length, tempering, margin, growth

    def _in_random_order(self, block: int) -> _Part:
        """Draw whole blocks of the log again and again: its dependence, without its slow ways."""
        rng = np.random.default_rng(0)
        blocks = self.log.cut(block)
        times = max(1, min(REPLAYED // len(self.log), REPLAYED_TIMES))
        drawn: list[int] = rng.integers(0, len(blocks), len(blocks) * times).tolist()
        return _joined([blocks[number] for number in drawn])

    def learn(
        self, folds: Sequence[int], length: int, tempering: float, margin: float
    ) -> ReferenceDistribution:
        """Take shares, design effect and hull from some folds."""
        k, block = len(self.classes), block_length(length)
        labels = [self.folds[f].labels for f in folds]
        counts = np.bincount(np.concatenate(labels), minlength=k).astype(np.int64)
        p: Floats = counts / float(counts.sum())
        rows = [np.concatenate([self.ratios[f][at] for f in folds]) for at in range(LENGTHS)]
        effects, limit = _design_effects(rows, length, self.step_effect)
        design_effect = max(limit, self.unit_effect, self.step_effect)
        shares = np.concatenate([block_shares(one, block, k) for one in labels])
        lower, upper = hull(shares, p, design_effect / block, margin)
        calls = self._of_calls(tuple(folds), length)
        if calls is not None:
            calls = replace(
                calls,
                design_effect=calls.design_effect * tempering,
                worth_one=calls.worth_one * tempering,
            )
            tempering = max(tempering, SAFE if design_effect >= BEYOND else 1.0)
        design_effect = float(design_effect * tempering)
        known = Variation(design_effect, effects, lower, upper, block, len(shares), calls)
        return ReferenceDistribution(self.classes, p, counts, known)

    def _of_calls(self, folds: tuple[int, ...], length: int) -> CallVariation | None:
        """Take dependence within calls, and what is left between them, from some folds."""
        if self.log.calls is None:
            return None
        if folds not in self.call_variations:
            of_folds = [self.folds[f] for f in folds]
            self.call_variations[folds] = call_variations(of_folds, self.cells)
        return self.call_variations[folds][length]

    def _cross_validated(self, length: int, tempering: float, margin: float) -> int:
        alarms = 0
        for held in EVERYTHING:
            others = [fold for fold in EVERYTHING if fold != held]
            alarms += self._alarms(self.learn(others, length, tempering, margin), self.folds[held])
        return alarms

    def _alarms(self, reference: ReferenceDistribution, part: _Part) -> int:
        detector = SequentialDetector(
            reference, self.average_run_length, self.tolerance, calls=part.calls is not None
        )
        return len(detector.update(part.labels, part.calls))

    def _delays(self, reference: ReferenceDistribution) -> tuple[Delays, ...]:
        return expected_delays(reference, self.average_run_length, self.tolerance)

    def _cost(self, reference: ReferenceDistribution) -> float:
        visible = reference.proportions >= min(VISIBLE_SHARE, float(reference.proportions.max()))
        delays = np.array(self._delays(reference))[visible]
        return float(np.log(np.minimum(delays, 1e9)).mean())


def _quarters(log: _Part) -> list[_Part]:
    """Cut a log into folds; where calls are known, between them."""
    edges = np.linspace(0, len(log), FOLDS + 1).astype(int)
    if log.calls is None:
        return [_Part(log.labels[a:b], None) for a, b in itertools.pairwise(edges)]
    ends = np.concatenate([[0], np.cumsum(log.calls)])
    calls = np.searchsorted(ends, edges)
    return [
        _Part(log.labels[ends[a] : ends[b]], log.calls[a:b]) for a, b in itertools.pairwise(calls)
    ]


def _design_effects(
    rows: Sequence[Floats], length: int, least: float
) -> tuple[tuple[float, ...], float]:
    """Give the design effects of all lengths of stretches, and the upper limit of one.

    Parameters
    ----------
    rows
        `block_ratios` of each length.
    length
        The longest one that counts for the limit.
    least
        What each design effect is at the least.
    """
    effects: list[float] = []
    limit = 1.0
    for at, of_length in enumerate(rows):
        if not len(of_length):
            break
        found = float(clear(of_length))
        effects.append(max(found, least))
        if at <= length:
            limit = max(limit, found * (1 + UPPER_LIMIT * relative_spread(of_length)))
    return tuple(effects), limit


def call_variations(
    parts: Sequence[_Part], cells: tuple[int, NDArray[np.intp]]
) -> list[CallVariation]:
    """Take dependence within calls, and between them up to each length of stretches."""
    correlations = call_correlations(parts, cells)
    ratios: list[list[Floats]] = []
    worth, predictions = 0.0, 0
    for labels, calls in parts:
        if calls is None:
            raise ValueError("a part of a log without its calls")
        read_with = logged_design_effects(correlations, calls)
        worth += float((calls / read_with).sum())
        predictions += len(labels)
        ratios.append(_ratios(labels, cells, np.repeat(1 / read_with, calls)))
    rows = [np.concatenate([of_part[at] for of_part in ratios]) for at in range(LENGTHS)]
    found: list[CallVariation] = []
    for length in range(LENGTHS):
        effects, limit = _design_effects(rows, length, 1.0)
        found.append(CallVariation(correlations, limit, effects, predictions / worth * limit))
    return found


def call_correlations(
    parts: Sequence[_Part], cells: tuple[int, NDArray[np.intp]]
) -> tuple[float, ...]:
    """Upper limits of the intra-class correlations of calls of each length, NaN where unknown."""
    counts: dict[int, list[Floats]] = {}
    for labels, calls in parts:
        if calls is not None:
            for group, _, of_group in grouped(labels, calls, cells):
                counts.setdefault(group, []).append(of_group)
    known = np.full(len(CALL_LENGTHS), np.nan)
    for group, found in counts.items():
        of_group = np.concatenate(found)
        blocks = len(of_group) // NEIGHBOURS
        if blocks:
            rows = block_ratios(of_group[: blocks * NEIGHBOURS].reshape(blocks, NEIGHBOURS, -1))
            limit = clear(rows) * (1 + UPPER_LIMIT * relative_spread(rows))
            limit = np.where(clear(rows) > 1, limit, 1.0)
            known[group] = correlation(limit, np.median(rows[:, 2], keepdims=True))[0]
    return tuple(known.tolist())


def block_length(length: int) -> int:
    """Predictions in a block of stretches of one length.

    >>> [block_length(length) for length in range(LENGTHS)]
    [1024, 4096, 16384, 65536]
    """
    return NEIGHBOURS * CHUNK * PARTS ** (length + 1)


def block_shares(labels: Labels, block: int, k: int) -> Floats:
    """Shares of the classes in whole blocks, shape (blocks, K)."""
    blocks = len(labels) // block
    cells = labels[: blocks * block] + np.repeat(np.arange(blocks) * k, block)
    return np.bincount(cells, minlength=blocks * k).reshape(blocks, k) / block


def hull(shares: Floats, p: Floats, noise: float, margin: float) -> tuple[Floats, Floats]:
    """Least and greatest share of each class in the blocks, without what is noise.

    Parameters
    ----------
    shares
        Of the blocks, shape (blocks, K).
    p
        Mean shares, shape (K,).
    noise
        Variance of a share over ``p (1 - p)`` if only dependence within blocks made it vary.
    margin
        What the reach from the mean is multiplied by, in log-odds: a class and all others together
        reach equally far, and no share that was seen is stretched to 0 or 1.
    """
    left = beyond_noise(shares, p, noise)
    lower = p - left * np.maximum(p - shares.min(axis=0), 0)
    upper = p + left * np.maximum(shares.max(axis=0) - p, 0)
    predicted = p > 0
    if margin <= 1:
        return lower, upper
    # What has been seen is not all: a class may go as far as most others, and the other way.
    at = log_odds(p[predicted])
    seen = np.array([at - log_odds(lower[predicted]), log_odds(upper[predicted]) - at])
    # A class that the log had lost, or nothing else than, may be so again: that edge stays.
    reach = np.where(np.isfinite(seen), seen, 0.0).max(axis=0)
    reach = margin * np.maximum(reach, np.median(reach))
    lower[predicted] = np.minimum(lower[predicted], share_of(at - reach))
    upper[predicted] = np.maximum(upper[predicted], share_of(at + reach))
    return lower, upper


def log_odds(share: Floats) -> Floats:
    """Logarithm of the odds of a share: infinite for 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(share) - np.log1p(-share)


def share_of(log_odds: Floats) -> Floats:
    """Share with these log-odds."""
    return np.exp(-np.logaddexp(0, -log_odds))


def range_growth(shares: Floats, p: Floats, noise: float) -> float:
    """How much wider the range of shares becomes from a log half as long to the whole of it.

    Over two doublings, from the mean of the quarters, and over all classes whose shares vary by
    more than noise; `USUAL_GROWTH` where there are none.

    Parameters
    ----------
    shares, p, noise
        As of `hull`.
    """
    left = beyond_noise(shares, p, noise)
    quarters = np.mean([np.ptp(one, axis=0) for one in np.array_split(shares, 4)], axis=0)
    if not (left @ quarters) > 0:
        return USUAL_GROWTH
    return math.sqrt(float(left @ np.ptp(shares, axis=0)) / float(left @ quarters))


def beyond_noise(shares: Floats, p: Floats, noise: float) -> Floats:
    """Give what is left of the deviation of each class when noise is taken off: 0 to 1.

    The root of the part of the variance that noise does not explain, which has to be more than two
    standard deviations of the estimate.
    """
    variance = np.maximum(((shares - p) ** 2).mean(axis=0), 1e-300)
    explained = noise * p * (1 - p) * (1 + 2 * math.sqrt(2 / len(shares)))
    return np.sqrt(np.maximum(0.0, 1 - explained / variance))


def unit_design_effect(labels: Labels, units: Labels, counts: Labels) -> float:
    """Design effect of the labels of units, whose mean square is compared with independent ones.

    >>> labels, units = np.repeat([0, 1, 1, 0], 8), np.repeat(np.arange(4), 8)
    >>> unit_design_effect(labels, units, np.array([16, 16]))
    8.0
    """
    k = len(counts)
    number = np.unique(units, return_inverse=True)[1].astype(np.int64)
    size = np.bincount(number).astype(np.float64)
    cell, times = np.unique(number * k + labels, return_counts=True)
    p: Floats = counts / float(counts.sum())
    squares = float((times.astype(np.float64) ** 2 / p[cell % k]).sum())
    freedom = len(labels) * (int(np.count_nonzero(counts)) - 1)
    return max(1.0, (squares - float((size * size).sum())) / freedom)


def step_design_effect(labels: Labels, steps: Labels, order: NDArray[np.intp]) -> float:
    """Give the upper limit of the design effect of counts, each step compared with its neighbours.

    Parameters
    ----------
    labels, steps
        Places of the classes, and the steps that they were counted in, shape (n,).
    order
        Places of all K classes, the commonest first.

    >>> rng = np.random.default_rng(1)
    >>> labels, steps = np.repeat(rng.integers(0, 2, 4_000), 8), np.repeat(np.arange(320), 100)
    >>> round(step_design_effect(labels, steps, np.arange(2)))
    11
    """
    k = len(order)
    number = np.unique(steps, return_inverse=True)[1].astype(np.int64)
    count = int(number[-1]) + 1
    counts = np.bincount(number * k + labels, minlength=count * k).reshape(count, k)
    blocks = count // NEIGHBOURS
    if not blocks:
        return 1.0
    cells = in_cells(counts.astype(np.float64), order if k > CELLS else None)
    rows = block_ratios(cells[: blocks * NEIGHBOURS].reshape(blocks, NEIGHBOURS, -1))
    return float(clear(rows)) * (1 + UPPER_LIMIT * relative_spread(rows))


def expected_delays(
    reference: ReferenceDistribution, average_run_length: float, tolerance: float
) -> tuple[Delays, ...]:
    """Lorden's limit for the loss, halving and doubling of each class, times the design effect."""
    lower, upper = reference.tolerated_band(tolerance)
    design_effect = _variation(reference).worth_one
    base = reference.starting_proportions()

    def delay(position: int, ratio: float) -> float:
        share = ratio * base[position]
        if share >= 1:
            return math.inf
        q = base * (1 - share) / (1 - base[position])
        q[position] = share
        nearest = np.clip(projection_scale(q, lower, upper) * q, lower, upper)
        divergence = float((q * np.log(q / nearest)).sum())
        if divergence < 1e-9:
            return math.inf
        return CHUNK + design_effect * math.log(average_run_length) / divergence

    return tuple(
        Delays(*(delay(position, ratio) for ratio in (0.001, 0.5, 2.0)))
        for position in range(len(base))
    )


def exceptional(
    labels: Labels, reference: ReferenceDistribution, tolerance: float
) -> Exceptional | None:
    """Find the part of the log, at most a quarter, that is least like the rest.

    A part is not like the rest if the share of a class lies beyond all shares elsewhere by more
    than the tolerance and four standard deviations.
    """
    k, block = len(reference.classes), len(labels) // SEGMENTS
    shares = block_shares(labels, block, k)
    p = reference.proportions
    worst, found = 0.0, None
    for width in range(1, LONGEST_EXCEPTION + 1):
        noise = 4 * np.sqrt(_variation(reference).design_effect * p * (1 - p) / (block * width))
        for first in range(SEGMENTS - width + 1):
            inside = np.zeros(SEGMENTS, bool)
            inside[first : first + width] = True
            share, others = shares[inside].mean(axis=0), shares[~inside]
            low, high = others.min(axis=0), others.max(axis=0)
            beyond = np.maximum(share - high * (1 + tolerance), low * (1 - tolerance) - share)
            excess = (beyond - noise) / np.sqrt(p * (1 - p) + 1e-12) * math.sqrt(width)
            position = int(excess.argmax())
            if excess[position] > worst:
                worst = float(excess[position])
                found = Exceptional(
                    first * block,
                    (first + width) * block,
                    position,
                    float(share[position]),
                    float(low[position]),
                    float(high[position]),
                )
    return found


def _variation(reference: ReferenceDistribution) -> Variation:
    if reference.variation is None:
        raise ValueError("a reference distribution without variation: take it from `calibrate`")
    return reference.variation


def exceptional_part(part: Exceptional, classes: Sequence[str]) -> str:
    """Say which part of a log is not like the rest."""
    return (
        f"from prediction {part.start:,} to {part.stop:,} the log is not like the rest: class "
        f"{classes[part.position]!r} has {part.share:.1%} there, and {part.lowest:.1%} to "
        f"{part.highest:.1%} elsewhere"
    )


def _ratios(
    labels: Labels, cells: tuple[int, NDArray[np.intp]], weights: Floats | None = None
) -> list[Floats]:
    """`block_ratios` of each length of stretches, of the commonest classes and the rest as one."""
    size, cell_of = cells
    stretch = CHUNK * PARTS
    stretches = len(labels) // stretch
    kept = slice(stretches * stretch)
    places = cell_of[labels[kept]] + np.repeat(np.arange(stretches) * size, stretch)
    if weights is not None:
        weights = weights[kept]
    counts = np.bincount(places, weights, minlength=stretches * size).reshape(stretches, size)
    found: list[Floats] = []
    for _ in range(LENGTHS):
        blocks = len(counts) // NEIGHBOURS
        whole = counts[: blocks * NEIGHBOURS].reshape(blocks, NEIGHBOURS, size)
        found.append(block_ratios(whole.astype(np.float64)))
        longer = len(counts) // PARTS
        counts = counts[: longer * PARTS].reshape(longer, PARTS, size).sum(axis=1)
    return found
