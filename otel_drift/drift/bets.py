"""The bets of the sequential detector: which changed distributions evidence is sought for.

Two families are fixed, and stand here: one class moved by a ratio, or two classes moved alike. Two
are learnt from the recent past (`learnt`). Each bet q is held against the tolerated distribution p*
nearest to it, and a chunk with counts c brings it ``sum_k c_k log(q_k / p*_k)``.

>>> base = np.full(3, 1 / 3)
>>> bets = fixed_bets(base, base * 0.8, base * 1.2)
>>> brought = np.array([0, 16, 16]) @ bets.log_ratios(np.arange(3), np.arange(bets.size))
>>> brought[:3].round(2).tolist()  # that class 0, 1 or 2 is lost, on a chunk without 0
[9.71, -54.17, -54.17]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_drift.drift.learnt import learnt_weights

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

RATIOS = (0.02, 0.5, 2.0, 3.5, 8.0)
"""One class moved: its new share over the old."""
PAIR_RATIOS = (0.02, 0.5, 2.0)
"""Two classes moved alike."""
PAIRED_CLASSES = 10
"""The commonest classes, of which every two are bet on."""
SINGLE_WEIGHT, PAIR_WEIGHT = 0.40, 0.15
LARGEST_SHARE = 0.9
"""Bets that give the moved classes more than this together are left out."""

GRAIN = 2.0**-40
"""Logarithms are held as multiples of it: what a chunk brings is then summed exactly, in any order,
and does not depend on how many chunks are worked out at once."""
ARGUMENT_ROUNDING = 2.0**-23
"""Part of each logarithm that is taken off: pays for rounding what a chunk brings to float32."""


@dataclass(frozen=True)
class FixedBets:
    """Bets that one class, or two alike, have moved by a ratio and the rest in proportion.

    With base proportions b, bet i gives a moved class k the share ``ratio_i b_k`` and any other
    ``rest_i b_k``. Projecting it leaves the log ratio ``log(q_k / p*_k)`` the same for all classes
    that are not moved, unless one of them meets an edge of its band. So three numbers a bet stand
    for its K log ratios; bets where a class does meet an edge are worked out class by class.

    Shapes: F bets, 5 * K of one class (ratio by ratio), then the pairs (likewise).
    """

    first: Indices
    second: Indices
    """Moved classes; the same twice where one moved."""
    ratio: Floats
    rest: Floats
    used: NDArray[np.bool_]
    """False where a bet is inside the band or impossible: it has weight 0."""
    log_rest: Floats
    """Log ratio of the classes that did not move."""
    gain_first: Floats
    gain_second: Floats
    """Log ratios of the moved classes, less `log_rest`."""
    paired: Indices
    """Classes of which every two are bet on, and what a count of each adds to each such bet."""
    pair_gains: Floats
    edged: Indices
    """Bets where a class that did not move meets an edge of its band."""
    log_scale: Floats
    """Logarithm of p* over the base of classes that did not move, where they meet no edge."""
    log_lower: Floats
    log_upper: Floats
    """Shape (K,): edges of the band over the base."""

    @property
    def size(self) -> int:
        """Number of bets F."""
        return len(self.ratio)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.log_lower)

    @property
    def singles(self) -> int:
        """Number of bets on one class."""
        return self.classes * len(RATIOS)

    def log_ratios(self, classes: Indices, bets: Indices) -> Floats:
        """``log(q_k / p*_k)``, paid for rounding: shape (classes, bets)."""
        logs = _paid(
            np.log(self.rest[bets])
            - np.clip(
                self.log_scale[bets], self.log_lower[classes, None], self.log_upper[classes, None]
            )
        )
        second = (self.log_rest + self.gain_second)[bets]
        logs = np.where(classes[:, None] == self.second[bets], second, logs)
        first = (self.log_rest + self.gain_first)[bets]
        return np.where(classes[:, None] == self.first[bets], first, logs)

    def most_probable(self, evidence: Floats) -> tuple[tuple[int, ...], float]:
        """Find the class or pair with most evidence, and its posterior probability."""
        total = float(evidence.sum())
        if not total > 0:
            return (), 0.0
        one = evidence[: self.singles].reshape(len(RATIOS), -1)
        two = evidence[self.singles :].reshape(len(PAIR_RATIOS), -1)
        alike = np.concatenate([one.sum(axis=0), two.sum(axis=0)])
        best = int(alike.argmax())
        probability = float(alike[best]) / total
        if best < one.shape[1]:
            return (best,), probability
        pair = best - one.shape[1]
        bet = self.singles + pair
        return (int(self.first[bet]), int(self.second[bet])), probability

    def mixture(self, weights: Floats, base: Floats) -> Floats:
        """Weighted sum of the bets, shape (K,)."""
        change = weights * (self.ratio - self.rest)
        moved = np.bincount(self.first, weights=change, minlength=len(base))
        pairs = slice(self.singles, None)
        moved += np.bincount(self.second[pairs], weights=change[pairs], minlength=len(base))
        return base * (float(weights @ self.rest) + moved)


def fixed_bets(base: Floats, lower: Floats, upper: Floats) -> FixedBets:
    """Lay out both families and project each bet onto the band."""
    k = len(base)
    common = np.sort(np.argsort(-base, kind="stable")[:PAIRED_CLASSES])
    i, j = np.triu_indices(len(common), 1) if k > 2 else (np.zeros(0, np.intp),) * 2
    one = np.tile(np.arange(k), len(RATIOS))
    first = np.concatenate([one, np.tile(common[i], len(PAIR_RATIOS))])
    second = np.concatenate([one, np.tile(common[j], len(PAIR_RATIOS))])
    ratio = np.concatenate([np.repeat(RATIOS, k), np.repeat(PAIR_RATIOS, len(i))])
    pair = first != second

    share = base[first] + np.where(pair, base[second], 0)
    used = (ratio * share <= LARGEST_SHARE) & (share < 1)
    used &= ~(
        _within(ratio * base[first], lower[first], upper[first])
        & _within(ratio * base[second], lower[second], upper[second])
    )
    ratio = np.where(used, ratio, 1.0)
    rest = np.where(used, (1 - ratio * share) / np.where(used, 1 - share, 1), 1.0)

    scale = np.ones(len(ratio))
    scale[used] = _rest_scale(
        base, lower, upper, first[used], second[used], ratio[used] / rest[used]
    )
    with np.errstate(divide="ignore"):
        log_lower = np.minimum(np.log(lower / base), 0)
        log_upper = np.maximum(np.log(upper / base), 0)
    log_scale, log_turn = np.log(scale), np.log(ratio / rest)
    log_first, log_second = (
        np.log(ratio) - np.clip(log_scale + log_turn, log_lower[moved], log_upper[moved])
        for moved in (first, second)
    )
    meets = (log_scale < log_lower.max()) | (log_scale > log_upper.min())
    log_rest = np.where(used, _paid(np.log(rest) - log_scale), 0.0)
    gain_first, gain_second = (
        np.where(used, _paid(log_moved) - log_rest, 0.0) for log_moved in (log_first, log_second)
    )
    place, pairs = np.arange(len(i) * len(PAIR_RATIOS)), slice(len(one), None)
    pair_gains = np.zeros((len(common), len(place)))
    pair_gains[np.searchsorted(common, first[pairs]), place] = gain_first[pairs]
    pair_gains[np.searchsorted(common, second[pairs]), place] = gain_second[pairs]
    return FixedBets(
        first=first,
        second=second,
        ratio=ratio,
        rest=rest,
        used=used,
        log_rest=log_rest,
        gain_first=gain_first,
        gain_second=gain_second,
        paired=common,
        pair_gains=pair_gains,
        edged=np.flatnonzero(used & meets),
        log_scale=log_scale,
        log_lower=log_lower,
        log_upper=log_upper,
    )


def _paid(logs: Floats) -> Floats:
    """Take off what pays for rounding to float32, and round down to a multiple of `GRAIN`."""
    return np.floor((logs - ARGUMENT_ROUNDING * np.abs(logs)) / GRAIN) * GRAIN


def _within(shares: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    return (lower <= shares) & (shares <= upper)


def _rest_scale(
    base: Floats, lower: Floats, upper: Floats, first: Indices, second: Indices, turn: Floats
) -> Floats:
    """Find p* over the base, for the classes that did not move, of each bet.

    With that scale x, ``p* = clip(x b, lower, upper)``, and ``clip(x turn b, lower, upper)`` for
    the moved classes. The sum over all classes is piecewise linear in x with breaks at the edges
    of the bands, so it is looked up in sorted cumulative sums. Bisection, for all bets at once;
    what is returned is the end at which p* sums to at least 1.
    """
    total = _clipped_total(base, lower, upper)
    pair = first != second

    def excess(x: Floats) -> Floats:
        change = np.zeros(len(x))
        for k, counted in ((first, True), (second, pair)):
            b, low, high = base[k], lower[k], upper[k]
            change += counted * (np.clip(x * turn * b, low, high) - np.clip(x * b, low, high))
        return total(x) + change - 1

    # Moved up, the rest goes down: x in [0, 1]. Moved down: 1/x in [smallest, 1].
    up = turn >= 1
    edge = np.maximum(upper[first] / base[first], upper[second] / base[second]) / turn
    near = np.where(up, 0.0, 1 / np.maximum(edge, (upper / base).max()))
    far = np.ones(len(turn))
    for _ in range(60):
        middle = (near + far) / 2
        enough = excess(np.where(up, middle, 1 / middle)) >= 0
        beyond = enough == up
        far = np.where(beyond, middle, far)
        near = np.where(beyond, near, middle)
    return np.where(up, far, 1 / near)


def _clipped_total(base: Floats, lower: Floats, upper: Floats) -> Callable[[Floats], Floats]:
    """Return the function ``x -> sum_k clip(x b_k, lower_k, upper_k)`` of an array x."""
    rises, stops = lower / base, upper / base
    by_rise, by_stop = np.argsort(rises), np.argsort(stops)
    rises, stops = rises[by_rise], stops[by_stop]

    def sums(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values)])

    base_risen, base_stopped = sums(base[by_rise]), sums(base[by_stop])
    lower_risen, upper_stopped = sums(lower[by_rise]), sums(upper[by_stop])

    def total(x: Floats) -> Floats:
        risen = np.searchsorted(rises, x, side="right")
        stopped = np.searchsorted(stops, x, side="left")
        return (
            lower_risen[-1]
            - lower_risen[risen]
            + x * (base_risen[risen] - base_stopped[stopped])
            + upper_stopped[stopped]
        )

    return total


def weights_of(fixed: FixedBets) -> Floats:
    """Weights of all bets, summing to 1; a family without bets leaves its weight to the others."""
    one, two = fixed.used[: fixed.singles], fixed.used[fixed.singles :]
    weights = np.concatenate(
        [
            one * ((SINGLE_WEIGHT + (0 if two.any() else PAIR_WEIGHT)) / max(1, one.sum())),
            two * (PAIR_WEIGHT / max(1, two.sum())),
            learnt_weights(fixed.classes),
        ]
    )
    return weights / weights.sum()


def walks_of(fixed: FixedBets) -> tuple[Indices, Indices]:
    """Choose the bets whose CUSUM is followed, and which of them dates each bet.

    Of each class two: its mildest bet downwards and upwards. Drift of another ratio turns both
    at about the same prediction, and memory stays small. Pairs and learnt bets have their own.
    """
    k = fixed.singles // len(RATIOS)
    up = np.array(RATIOS) > 1
    mildness = -np.abs(np.log(RATIOS))
    used = fixed.used[: fixed.singles].reshape(len(RATIOS), k)
    down_bet, up_bet = (
        np.where(used & direction[:, None], mildness[:, None], -np.inf).argmax(axis=0) * k
        + np.arange(k)
        for direction in (~up, up)
    )
    own = np.arange(fixed.singles, fixed.size + len(learnt_weights(k)))
    walks = np.concatenate([down_bet, up_bet, own])
    of_single = np.arange(k) + k * up[:, None]
    return walks, np.concatenate([of_single.reshape(-1), 2 * k + np.arange(len(own))])
