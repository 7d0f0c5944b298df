"""How large a change is: for the eye, no alert waits for it."""

from __future__ import annotations

from prometheus.definitions import (
    BASELINE_SHARE,
    BASELINE_SIZE,
    BY_CLASS,
    BY_OUTPUT,
    BY_WINDOW,
    CELL,
    CHI_SQUARE,
    CHI_SQUARE_Z,
    COUNT,
    CRAMERS_V,
    DEGREES_OF_FREEDOM,
    EFFECTIVE,
    EXPECTED,
    MEAN_P_VALUE,
    PSI,
    SERVING_WINDOW,
    SHARE,
    SIZE_RATIO,
    TESTED,
    TOTAL,
    TVD,
    Exported,
)
from prometheus.rule_file import Record

RARE_EXPECTED = f"sum by ({BY_WINDOW}) ({EXPECTED} < {CELL})"
RARE_COUNTED = f"sum by ({BY_WINDOW}) ({COUNT} and {EXPECTED} < {CELL})"

EFFECTS = (
    Record(
        EXPECTED,
        """
        By window: predictions of the class that the baseline expects. Of as many as are counted
        here, not of those that the group keras_drift had: it may be at work.
        """,
        f"""
        (
          0 * {COUNT}
            + on ({BY_CLASS}) group_left ()
              {BASELINE_SHARE}
        )
          * on ({BY_WINDOW}) group_left () (
            sum by ({BY_WINDOW}) ({COUNT})
              and {TESTED}
          )
        """,
    ),
    Record(
        SIZE_RATIO,
        "By window: predictions per prediction in the baseline (0: exact).",
        f"""
        {TESTED}
          / on ({BY_OUTPUT}) group_left () {BASELINE_SIZE}
        or 0 * {TESTED}
        """,
    ),
    Record(
        CHI_SQUARE,
        f"""
        By window: two-sample (homogeneity) chi-square against the predictions the baseline was
        counted from: sum (O - E)^2 / (E + O N/n), Pearson's where the baseline is exact (N/n = 0).
        Classes expected less than {CELL} times are one cell.
        """,
        f"""
        sum by ({BY_WINDOW}) (
          ({COUNT} - ({EXPECTED} >= {CELL})) ^ 2
            / (
              {EXPECTED}
                + {COUNT}
                  * on ({BY_WINDOW}) group_left ()
                    {SIZE_RATIO}
            )
          or
            (
              {RARE_COUNTED}
                - {RARE_EXPECTED}
            ) ^ 2
              / clamp_min(
                {RARE_EXPECTED}
                  + {RARE_COUNTED}
                    * {SIZE_RATIO},
                {CELL}
              )
        )
        """,
    ),
    Record(
        DEGREES_OF_FREEDOM,
        "By window: cells less one; absent where there is nothing to compare.",
        f"""
        count by ({BY_WINDOW}) (
          {EXPECTED} >= {CELL}
          or {RARE_EXPECTED} > 0.5
        ) - 1 > 0
        """,
    ),
    Record(
        CHI_SQUARE_Z,
        """
        By window: the same as a standard normal deviate. PromQL has no chi-square tail. Wilson and
        Hilferty's deviate errs on the safe side at every number of degrees of freedom. Predictions
        that depend on each other count as the fewer that they are worth.
        """,
        f"""
        (
          (
            {CHI_SQUARE}
              * ({EFFECTIVE} / {TOTAL})
              / {DEGREES_OF_FREEDOM}
          ) ^ (1 / 3)
            - (1 - 2 / (9 * {DEGREES_OF_FREEDOM}))
        )
          / sqrt(2 / (9 * {DEGREES_OF_FREEDOM}))
        """,
    ),
    Record(
        TVD,
        """
        By window: total variation distance. Between shares, which always add up to 1, so that it
        does not matter when the short group last ran.
        """,
        f"""
        0.5 * sum by ({BY_WINDOW}) (
          abs(
            {SHARE}
              - on ({BY_CLASS}) group_left ()
                {BASELINE_SHARE}
          )
        )
          and {TESTED}
        """,
    ),
    Record(
        PSI,
        "By window: population stability index; half a count keeps a lost class finite.",
        f"""
        sum by ({BY_WINDOW}) (
          (
            {SHARE}
              - on ({BY_CLASS}) group_left ()
                {BASELINE_SHARE}
          )
            * ln(({COUNT} + 0.5) / ({EXPECTED} + 0.5))
        )
        """,
    ),
    Record(
        CRAMERS_V,
        """
        By window: Cramer's V, with the degrees of freedom in place of the usual smaller dimension
        less 1.
        """,
        f"""
        sqrt(
          {CHI_SQUARE}
            / {DEGREES_OF_FREEDOM}
            / {TESTED}
        )
        """,
    ),
    Record(
        MEAN_P_VALUE,
        f"""
        Mean p-value over {SERVING_WINDOW}; never alert on it: under drift it converges to a
        positive number.
        """,
        f"avg_over_time({Exported.DRIFT_P_VALUE}[{SERVING_WINDOW}])",
    ),
)
