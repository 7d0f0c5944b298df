"""How large a change is: for the eye, no alert waits for it."""

from __future__ import annotations

from prometheus.definitions import (
    BASELINE_SHARE,
    BY_CLASS,
    BY_WINDOW,
    CHI_SQUARE,
    COUNT,
    CRAMERS_V,
    DEGREES_OF_FREEDOM,
    EXPECTED,
    PSI,
    SHARE,
    TESTED,
    TOTAL,
    TVD,
)
from prometheus.rule import Record

EFFECTS = (
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
            / {TOTAL}
        )
        """,
    ),
)
