"""What the replicas have predicted together, in several windows, against what is tolerated."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus.definitions import (
    BACK_INSIDE,
    BAND_EDGE,
    BAND_Z,
    BASELINE_MOVED,
    BASELINE_SHARE,
    BY_CLASS,
    BY_OUTPUT,
    BY_WINDOW,
    COUNT,
    DAY,
    DESIGN_EFFECT,
    EFFECTIVE,
    FIVE_MINUTES,
    HOUR,
    INVALID,
    LONG_WINDOWS,
    LOWER,
    MINUTE,
    NAMED,
    OUT_OF_BAND,
    SHARE,
    SHARE_INSIDE,
    SHARE_OUTSIDE,
    SHIFTED,
    SHORT_WINDOWS,
    TESTED,
    TOTAL,
    UNSETTLED,
    UPPER,
    Exported,
    Window,
    in_window,
)
from prometheus.rule_file import Record


def counts() -> Iterator[Record]:
    """Count what was predicted, in the short windows."""
    for number, window in enumerate(SHORT_WINDOWS):
        yield Record(
            COUNT,
            ""
            if number
            else """
            By window: predictions of the class.

            `increase` extrapolates n samples to the whole window, by n / (n - 1): right for shares,
            too large for counts, and chi-square grows with counts. n is counted on `invalid`, which
            every output has. `or 0 * baseline`: a class that was never exported counts as never
            predicted.
            """,
            f"""
            sum by ({BY_CLASS}) (increase({Exported.PREDICTIONS}[{window.name}]))
              * on ({BY_OUTPUT}) group_left () (
                1 - 1 / max by ({BY_OUTPUT}) (
                  count_over_time({Exported.PREDICTIONS}{INVALID}[{window.name}])
                )
              )
            or 0 * {BASELINE_SHARE}
            """,
            {"window": window.name},
        )


SHARES = (
    *counts(),
    Record(
        TOTAL,
        f"""
        By window: predictions of all classes; absent when there are none. {HOUR.name} and
        {DAY.name} come from the group keras_drift_long, and go through all that follows.
        """,
        f"sum by ({BY_WINDOW}) ({COUNT}) > 0",
    ),
    Record(
        EFFECTIVE,
        """
        By window: independent predictions that say as much as these. What predicts alike, as the
        rows of one call may, counts as the fewer; all of them where no design effect is exported.
        """,
        f"""
        {TOTAL}
          / on ({BY_OUTPUT}) group_left ()
            clamp_min({DESIGN_EFFECT}, 1)
        or {TOTAL}
        """,
    ),
    Record(
        SHARE,
        "By window: share of the class among all predictions.",
        f"""
        {COUNT}
          / on ({BY_WINDOW}) group_left () {TOTAL}
        """,
    ),
    Record(
        TESTED,
        """
        By window: predictions of all classes, but absent while the baseline is `unsettled` or
        `moved`, and with it everything below that compares. `moved` of the long windows can be a
        minute old, `unsettled` is not.
        """,
        f"""
        {TOTAL}
          and on ({BY_OUTPUT}) ({UNSETTLED} == 0)
          unless {BASELINE_MOVED}
        """,
    ),
)
"""Counts and shares."""


def far(*windows: Window) -> str:
    """Select the classes that are far enough beyond their band, in each of some windows."""
    return " or ".join(
        f"abs({in_window(BAND_Z, window.name)}) > {window.deviations}" for window in windows
    )


BANDS = (
    Record(
        SHARE_OUTSIDE,
        "By window: the share, only of classes outside their band.",
        f"""
        (
          {SHARE}
            > on ({BY_CLASS}) group_left ()
              {UPPER}
          or
            {SHARE}
              < on ({BY_CLASS}) group_left ()
                {LOWER}
        )
        and on ({BY_WINDOW}) {TESTED}
        """,
    ),
    Record(
        BAND_EDGE,
        "By window: for the same classes, the edge they are beyond.",
        f"""
        0 * (
          {SHARE_OUTSIDE}
            > on ({BY_CLASS}) group_left ()
              {UPPER}
        )
          + on ({BY_CLASS}) group_left ()
            {UPPER}
        or
          0 * {SHARE_OUTSIDE}
            + on ({BY_CLASS}) group_left ()
              {LOWER}
        """,
    ),
    Record(
        BAND_Z,
        """
        By window: for the same classes, the distance beyond the edge in standard deviations: below
        0 too rare, above 0 too frequent.

        Signed root of the binomial deviance from the nearest edge, not (O - E) / sqrt(E): by
        Chernoff's bound the chance of |z| at any share inside the band is at most exp(-z^2 / 2) for
        every count and every share (close to the normal tail in fact), while the usual z exceeds
        its nominal tail 100 times for rare classes. One expression does for both sides, zero counts
        and fractional counts. The edges hold the baseline's own uncertainty, so the count is not
        discounted for it. 0 * ln(0) is NaN: hence clamp_min inside the logarithms.
        """,
        f"""
        sgn({SHARE_OUTSIDE} - {BAND_EDGE})
          * sqrt(
            2
              * clamp_min(
                {SHARE_OUTSIDE}
                  * ln(clamp_min({SHARE_OUTSIDE}, 1e-12) / {BAND_EDGE})
                  + (1 - {SHARE_OUTSIDE})
                    * ln(
                      clamp_min(1 - {SHARE_OUTSIDE}, 1e-12)
                        / (1 - {BAND_EDGE})
                    ),
                0
              )
              * on ({BY_WINDOW}) group_left () {EFFECTIVE}
          )
        """,
    ),
    Record(
        SHARE_INSIDE,
        f"""
        The share in {FIVE_MINUTES.name} and {HOUR.name} of classes outside their band in
        {HOUR.name} or {DAY.name}.
        """,
        f"""
        {in_window(SHARE, FIVE_MINUTES.name, HOUR.name)}
          and on ({BY_CLASS})
            {in_window(BAND_Z, HOUR.name, DAY.name)}
          unless {SHARE_OUTSIDE}
        """,
    ),
    Record(
        OUT_OF_BAND,
        f"""
        By window: what raises the alert: |band_z| of the classes far enough beyond their band. In
        {MINUTE.name}, where windows are many, that is {MINUTE.deviations}, else
        {FIVE_MINUTES.deviations}. The band carries the guarantee on false alarms alone: it needs a
        change of a size that matters. A test of the whole distribution on top, such as chi-square,
        would only make rare classes slow to be seen.

        A long window remembers drift long after it has ended ({DAY.name}: 19 hours for a lost
        class), so its classes count only until a shorter window has them inside their band by
        {BACK_INSIDE} standard errors.
        """,
        f"""
        {far(*SHORT_WINDOWS)}
        or
          ({far(*LONG_WINDOWS)})
          unless on ({BY_CLASS}) (
            (
              {SHARE_INSIDE}
                - on ({BY_CLASS}) group_left ()
                  {LOWER}
            ) ^ 2
              * on ({BY_WINDOW}) group_left () {EFFECTIVE}
              >= on ({BY_CLASS}) group_left ()
                {BACK_INSIDE**2} * {LOWER}
            and
              (
                {SHARE_INSIDE}
                  - on ({BY_CLASS}) group_left ()
                    {UPPER}
              ) ^ 2
                * on ({BY_WINDOW}) group_left () {EFFECTIVE}
                >= on ({BY_CLASS}) group_left ()
                  {BACK_INSIDE**2} * {UPPER}
          )
        """,
    ),
    Record(
        SHIFTED,
        f"""
        What the alert names: the share now of the {NAMED} classes farthest beyond their band, in
        the window (a label) that shows it best. The label `from` holds the share that the baseline
        expects, made from the value by count_values.
        """,
        f"""
        (
          {SHARE_OUTSIDE}
            and on ({BY_CLASS}, window)
              topk by ({BY_OUTPUT}) ({NAMED}, topk by ({BY_CLASS}) (1, {OUT_OF_BAND}))
        )
          * on ({BY_CLASS}) group_left (from)
            count_values by ({BY_CLASS}) (
              "from",
              round({BASELINE_SHARE} and on ({BY_OUTPUT}) {OUT_OF_BAND}, 1e-6)
            )
        """,
    ),
)
"""Each class against its band, computed only for those outside it."""

LONG_COUNTS = (
    Record(
        COUNT,
        "",
        f"sum_over_time({in_window(COUNT, FIVE_MINUTES.name)}[1h:1m]) / 5",
        {"window": HOUR.name},
    ),
    Record(
        COUNT,
        "",
        f"sum_over_time({in_window(COUNT, HOUR.name)}[1d:5m]) / 12",
        {"window": DAY.name},
    ),
)
"""Counts in the long windows, for a group of their own."""
