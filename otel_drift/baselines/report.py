"""What a calibration means for whoever will be paged: alarms, delays, and what to change.

>>> import numpy as np
>>> from otel_drift.drift.calibration import calibrate
>>> log = prediction_log(np.random.default_rng(1).integers(0, 3, 20_000), classes=["a", "b", "c"])
>>> text = report(log, calibrate(log.labels, log.classes), tolerance=0.2)
>>> print(text.splitlines()[0])
20,000 predictions of 3 classes
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from otel_drift.baselines.log import PredictionLog, prediction_log
from otel_drift.drift.calibration import USUAL_GROWTH, Calibration, block_shares, exceptional_part
from otel_drift.drift.variation import CALL_LENGTHS

__all__ = ["prediction_log", "report"]

SHOWN_CLASSES = 12
COLUMNS = 64
"""Width of the picture."""
BARS = "▁▂▃▄▅▆▇█"
LITTLE_CORRELATION = 0.005
MUCH_GROWTH = 1.35
LITTLE_REACH = 0.05
FEW_PREDICTIONS = 100_000
TWO_WEEKS = 14 * 86_400
LONG_GAP = 6 * 3_600


def report(log: PredictionLog, found: Calibration, *, tolerance: float) -> str:
    """Say what a log has taught.

    Parameters
    ----------
    log
        The log.
    found
        What `calibrate` has taken from it.
    tolerance
        Of the band that is shown.
    """
    return "\n".join(
        [
            _size(log),
            "",
            *_dependence(found),
            *_rhythm(log, found),
            "",
            *_alarms(found),
            "",
            *_delays(log, found, tolerance),
            "",
            *_advice(log, found),
        ]
    )


def duration(seconds: float) -> str:
    """Give a time as people say it.

    >>> [duration(seconds) for seconds in (20, 90, 7_200, 200_000, float("inf"))]
    ['20 s', '2 min', '2.0 h', '2.3 days', 'never']
    """
    if math.isinf(seconds):
        return "never"
    for limit, unit, name, digits in (
        (60, 1, "s", 0),
        (3_600, 60, "min", 0),
        (86_400, 3_600, "h", 1),
    ):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86_400:.1f} days"


def _size(log: PredictionLog) -> str:
    text = f"{len(log.labels):,} predictions of {len(log.classes)} classes"
    if log.seconds and log.predictions_per_second:
        text += f" in {duration(log.seconds)}, {log.predictions_per_second:.3g} a second"
    return text


def _dependence(found: Calibration) -> Iterator[str]:
    known = found.variation
    effect = known.worth_one
    if effect < 1.2:
        yield "Dependence: none that shows. Each prediction counts."
    else:
        yield f"Dependence: {effect:.3g} predictions say as much as one independent one."
    if known.calls is None:
        return
    for start, correlation in zip(CALL_LENGTHS, known.calls.correlations, strict=True):
        if correlation > LITTLE_CORRELATION:
            yield f"  Rows of a call of {start} or more are alike: correlation {correlation:.2g}."
    if effect >= 1.2:
        yield f"  Of that, between calls: {known.calls.design_effect:.3g}."


def _rhythm(log: PredictionLog, found: Calibration) -> Iterator[str]:
    p, known = found.reference.proportions, found.variation
    reach = _reach(found)
    widest = int(reach.argmax())
    if reach[widest] < LITTLE_REACH:
        yield "Variation: the shares stay where they are."
        return
    yield (
        f"Variation: most of all class {log.classes[widest]!r}, {p[widest]:.1%} on average, "
        f"taken to go from {known.lower[widest]:.1%} to {known.upper[widest]:.1%} by itself:"
    )
    block = len(log.labels) // COLUMNS
    shares = block_shares(log.labels, block, len(log.classes))[:COLUMNS, widest]
    low, high = float(shares.min()), float(shares.max())
    heights = (shares - low) / max(high - low, 1e-12) * (len(BARS) - 1)
    yield "  " + "".join(BARS[round(height)] for height in heights)
    yield f"  {low:.1%} to {high:.1%}, in {COLUMNS} parts of the log"


def _reach(found: Calibration) -> NDArray[np.float64]:
    """Width of the hull of each class, over its mean share."""
    p, known = found.reference.proportions, found.variation
    return np.where(p > 0, (known.upper - known.lower) / np.maximum(p, 1e-12), 0)


def _alarms(found: Calibration) -> Iterator[str]:
    yield f"Alarms on this log, each quarter with what the others teach: {found.alarms:,}"
    yield f"Alarms on this log with its class counts alone: {found.uncalibrated_alarms:,}"


def _delays(log: PredictionLog, found: Calibration, tolerance: float) -> Iterator[str]:
    lower, upper = found.reference.tolerated_band(tolerance)
    rate = log.predictions_per_second

    def said(predictions: float) -> str:
        if math.isinf(predictions):
            return "never"
        return f"{predictions:,.0f}" + (f" ({duration(predictions / rate)})" if rate else "")

    yield "Found after about so many predictions:"
    yield (
        f"  {'class':<16} {'share':>7}  {'tolerated':<16} "
        f"{'lost':>18} {'halved':>20} {'doubled':>20}"
    )
    order = np.argsort(-found.reference.proportions, kind="stable")
    for k in order[:SHOWN_CLASSES]:
        delays = found.delays[int(k)]
        yield (
            f"  {log.classes[int(k)]:<16} {found.reference.proportions[k]:>7.2%}  "
            f"{f'{lower[k]:.1%} to {upper[k]:.1%}':<16} {said(delays.lost):>18} "
            f"{said(delays.halved):>20} {said(delays.doubled):>20}"
        )
    if len(order) > SHOWN_CLASSES:
        yield f"  and {len(order) - SHOWN_CLASSES} rarer ones"


def _advice(log: PredictionLog, found: Calibration) -> Iterator[str]:
    """Say what to change, most important first."""
    said = False
    if found.exceptional is not None:
        yield f"! {exceptional_part(found.exceptional, log.classes)}."
        yield "  Leave it out if something was wrong; --accept learns it as normal."
        said = True
    if found.alarms:
        yield "! The log does not predict itself: there will be alarms without drift. Log longer,"
        yield "  or watch an output that varies less."
        said = True
    if found.growth > MUCH_GROWTH and _reach(found).max() >= LITTLE_REACH:
        yield (
            f"! The shares' range still grows, x{found.growth:.2f} as the log doubles "
            f"(x{USUAL_GROWTH} is usual):"
        )
        yield "  the log is too short to show how far they go. The band is taken"
        yield f"  {found.margin:.1f} times as wide as what was seen. Log longer to narrow it."
        said = True
    if log.seconds is not None and log.seconds < TWO_WEEKS:
        yield f"- {duration(log.seconds)} of log: a weekly rhythm shows in two weeks."
        said = True
    if log.times is not None and len(log.times) > 1 and np.diff(log.times).max() > LONG_GAP:
        yield f"- The longest gap in the log is {duration(float(np.diff(log.times).max()))}."
        said = True
    if len(log.labels) < FEW_PREDICTIONS * min(10.0, found.variation.worth_one):
        yield "- A longer log gives a narrower band and quicker alarms."
        said = True
    common = found.reference.proportions >= 0.05
    if all(math.isinf(found.delays[int(k)].halved) for k in np.flatnonzero(common)):
        yield "! The stream varies so much that nothing but a collapse can be found."
        said = True
    if not said:
        yield "Nothing to change."
