"""What the detectors in the processes say, together."""

from __future__ import annotations

import math

from prometheus.definitions import (
    ACTIVE,
    BRIDGED,
    BY_CLASS,
    BY_OUTPUT,
    CLEARED,
    DETECTED_SHARE,
    EVIDENCE,
    ONSET,
    STATE,
    THRESHOLD,
    Exported,
)
from prometheus.rule import Record

DETECTION = (
    Record(
        EVIDENCE,
        """
        Evidence of all replicas, as a power of ten. It adds up over replicas: the sum, less the
        predictions served, is a supermartingale like each of its terms. >= 0 drops a NaN, which
        would mute the whole sum.
        """,
        f"""
        log10(
          sum by ({BY_OUTPUT}) (
            10 ^ (last_over_time({Exported.DRIFT_EVIDENCE}[{BRIDGED}]) >= 0)
          )
        )
        """,
    ),
    Record(
        THRESHOLD,
        "Threshold as a power of ten: predictions per false alarm.",
        f"max by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_THRESHOLD}[{BRIDGED}]))",
    ),
    Record(
        ACTIVE,
        "1 while any replica says that drift lasts.",
        f"max by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_ACTIVE}[{BRIDGED}]))",
    ),
    Record(
        ONSET,
        "Unix time at which drift began; absent where not exported.",
        f"""
        min by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_ONSET}[{BRIDGED}]))
          and {ACTIVE} > 0
        """,
    ),
    Record(
        DETECTED_SHARE,
        """
        While a detector is active: share now, by its estimate, of the classes that moved most.
        Where it has raised an alarm it says itself what moved, before the counters show it.
        """,
        f"""
        avg by ({BY_CLASS}) (last_over_time({Exported.DRIFT_SHARE}[{BRIDGED}]))
          and on ({BY_OUTPUT}) ({ACTIVE} > 0)
        """,
    ),
    Record(
        STATE,
        f"""
        1 while the fleet drifts, else 0: what DriftDetected fires on.

        The sum reaches the threshold, or a replica is active (one that is alone starts its evidence
        afresh at an alarm, so the sum never shows it). A sum that wavers about the threshold must
        not flap: once on, the state ends below {CLEARED} of it (-{-math.log10(CLEARED):.5f} on this
        scale). The rule reads its own last value, which is in the database, so a restart of
        Prometheus changes nothing.
        """,
        f"""
        clamp_max(
          ({ACTIVE} or 0 * {EVIDENCE})
            + (
              {EVIDENCE} >= bool {THRESHOLD}
              or 0 * {ACTIVE}
            )
            + (
              ({EVIDENCE} >= bool {THRESHOLD} - {-math.log10(CLEARED):.5f})
                * {STATE}
              or 0 * {ACTIVE}
              or 0 * {EVIDENCE}
            ),
          1
        )
        """,
    ),
)
