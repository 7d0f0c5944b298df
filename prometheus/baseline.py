"""What the replicas expect, and whether they agree on it."""

from __future__ import annotations

from prometheus.definitions import (
    BASELINE_DESIGN_EFFECT,
    BASELINE_DISTANCE,
    BASELINE_FARTHEST,
    BASELINE_MOVED,
    BASELINE_SHARE,
    BASELINE_SIZE,
    BRIDGED,
    BY_CLASS,
    BY_OUTPUT,
    CHANGE,
    DAY,
    DESIGN_EFFECT,
    DIFFERENCE,
    HOUR,
    LOWER,
    PROCESSES,
    REMEMBERED_SHARE,
    SHORT_WINDOWS,
    TOTAL,
    UNSETTLED,
    UPPER,
    Exported,
    in_window,
)
from prometheus.rule_file import Record

EXPECTATIONS = (
    Record(
        BASELINE_SHARE,
        """
        Expected share of the class, of all replicas: they must agree. avg, not max: the highest
        shares of two baselines add up to more than 1. Gauges are carried over gaps in the data with
        last_over_time, which skips stale markers.
        """,
        f"""
        avg by ({BY_CLASS}) (
          last_over_time({Exported.BASELINE_PROPORTION}[{BRIDGED}])
        )
        """,
    ),
    Record(
        LOWER,
        "Lower edge of the band in which the share is tolerated.",
        f"""
        min by ({BY_CLASS}) (
          last_over_time({Exported.BASELINE_LOWER}[{BRIDGED}])
        )
        """,
    ),
    Record(
        UPPER,
        "Upper edge of the band.",
        f"""
        max by ({BY_CLASS}) (
          last_over_time({Exported.BASELINE_UPPER}[{BRIDGED}])
        )
        """,
    ),
    Record(
        BASELINE_SIZE,
        "Predictions the baseline was counted from; absent where its shares are known exactly.",
        f"min by ({BY_OUTPUT}) (last_over_time({Exported.BASELINE_SIZE}[{BRIDGED}]))",
    ),
    Record(
        BASELINE_DESIGN_EFFECT,
        "Predictions that count as one, by the log of the baseline; absent where there was none.",
        f"max by ({BY_OUTPUT}) (last_over_time({Exported.BASELINE_DESIGN_EFFECT}[{BRIDGED}]))",
    ),
    Record(
        DESIGN_EFFECT,
        "The same as measured now, at least the baseline's; 1 where predictions are independent.",
        f"max by ({BY_OUTPUT}) (last_over_time({Exported.DESIGN_EFFECT}{PROCESSES}[{BRIDGED}]))",
    ),
    Record(
        UNSETTLED,
        f"""
        1 while replicas disagree or the baseline has just changed, else 0. A window that holds
        predictions from before a change of the baseline proves nothing.

        Unsettled: a replica expects {DIFFERENCE:.0%} more of a class than all do on average; or the
        shares do not add up to 1 (replicas with other classes); or a class is new, gone or moved by
        {CHANGE:.0%} since `remembered`.
        """,
        f"""
        count by ({BY_OUTPUT}) (
          max by ({BY_CLASS}) (
            last_over_time({Exported.BASELINE_PROPORTION}[{BRIDGED}])
          ) > {1 + DIFFERENCE} * {BASELINE_SHARE}
          or
            abs(sum by ({BY_OUTPUT}) ({BASELINE_SHARE}) - 1) > 0.001
          or
            (
              ({BASELINE_SHARE} or {REMEMBERED_SHARE})
              unless on ({BY_CLASS}) (
                abs({BASELINE_SHARE} - {REMEMBERED_SHARE})
                  <= {CHANGE} * {REMEMBERED_SHARE}
              )
              and on ({BY_OUTPUT}) {BASELINE_SHARE}
              and on ({BY_OUTPUT}) {REMEMBERED_SHARE}
            )
        ) > bool 0
        or 0 * sum by ({BY_OUTPUT}) ({BASELINE_SHARE})
        """,
    ),
    *(
        Record(
            BASELINE_MOVED,
            "" if number else "By window: there (1) while it reaches back to such a time.",
            f"max_over_time({UNSETTLED}[{window.settled_after}]) > 0",
            {"window": window.name},
        )
        for number, window in enumerate(SHORT_WINDOWS)
    ),
)
"""For the group that is evaluated most often."""

REMEMBERED = (
    Record(
        BASELINE_MOVED,
        """
        Before `remembered`: as soon as that has taken over a new baseline, these know of the
        change.
        """,
        f"max_over_time({UNSETTLED}[{HOUR.settled_after}]) > 0",
        {"window": HOUR.name},
    ),
    Record(
        BASELINE_MOVED,
        "",
        f"max_over_time({in_window(BASELINE_MOVED, HOUR.name)}[{DAY.settled_after}])",
        {"window": DAY.name},
    ),
    Record(
        REMEMBERED_SHARE,
        f"""
        Expected share of the class up to a minute ago; kept while a stopped model still has
        predictions in the window of {DAY.name}: one that comes back hours later with another
        baseline still has its old predictions in {HOUR.name} or {DAY.name}.
        """,
        f"""
        {BASELINE_SHARE}
        or
          {REMEMBERED_SHARE}
          unless on ({BY_OUTPUT}) {BASELINE_SHARE}
          and on ({BY_OUTPUT}) {in_window(TOTAL, DAY.name)}
        """,
    ),
    Record(
        BASELINE_DISTANCE,
        """
        By replica, with its own labels, while `unsettled`: how far its baseline is from the mean of
        all, as a share of the predictions that it expects of other classes (total variation
        distance). Both add up to 1, so what it expects more of is enough. A replica that does not
        know a class expects 0 of it; all know `invalid`, so that one is counted.
        """,
        f"""
        sum without (keras_prediction_class) (
          clamp_min(
            last_over_time({Exported.BASELINE_PROPORTION}[{BRIDGED}])
              - on ({BY_CLASS}) group_left () (
                sum by ({BY_CLASS}) (last_over_time({Exported.BASELINE_PROPORTION}[{BRIDGED}]))
                  / on ({BY_OUTPUT}) group_left ()
                    max by ({BY_OUTPUT}) (
                      count by ({BY_CLASS}) (
                        last_over_time({Exported.BASELINE_PROPORTION}[{BRIDGED}])
                      )
                    )
              ),
            0
          )
        ) > 0.001
        and on ({BY_OUTPUT}) ({UNSETTLED} > 0)
        """,
    ),
    Record(
        BASELINE_FARTHEST,
        "The same, only of replicas at least half as far as the farthest: the odd ones.",
        f"""
        {BASELINE_DISTANCE}
          >= on ({BY_OUTPUT}) group_left ()
            0.5 * max by ({BY_OUTPUT}) ({BASELINE_DISTANCE})
        """,
    ),
)
"""For the group of the long windows."""
