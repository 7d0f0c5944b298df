"""What the detectors in the processes say together, or the fleet's own where it runs."""

from __future__ import annotations

import math

from prometheus.definitions import (
    ACTIVE,
    BASELINE_SHARE,
    BRIDGED,
    BY_CLASS,
    BY_OUTPUT,
    BY_OUTPUT_VERSION,
    BY_WINDOW,
    CLEARED,
    DETECTED_SHARE,
    EVIDENCE,
    FLEET,
    MOVED,
    NAMED,
    NOTICEABLE,
    ONSET,
    PROCESSES,
    SHARE,
    STATE,
    TESTED,
    THRESHOLD,
    Exported,
)
from prometheus.rule_file import Record

DETECTION = (
    Record(
        EVIDENCE,
        """
        Evidence of all replicas, as a power of ten: of the fleet's detector, which pools what each
        replica sees a little of, for every version that it watches, else the sum over replicas.
        Both add up: less the predictions served, they are supermartingales. Two fleet's detectors
        of one version say the same twice: the highest counts. >= 0 drops a NaN, which would mute
        the whole sum.
        """,
        f"""
        log10(
          sum by ({BY_OUTPUT}) (
            max by ({BY_OUTPUT_VERSION}) (
              10 ^ (last_over_time({Exported.DRIFT_EVIDENCE}{FLEET}[{BRIDGED}]) >= 0)
            )
            or
              sum by ({BY_OUTPUT_VERSION}) (
                10 ^ (last_over_time({Exported.DRIFT_EVIDENCE}{PROCESSES}[{BRIDGED}]) >= 0)
              )
          )
        )
        """,
    ),
    Record(
        THRESHOLD,
        "Threshold as a power of ten: predictions per false alarm.",
        f"""
        max by ({BY_OUTPUT}) (
          max by ({BY_OUTPUT_VERSION}) (
            last_over_time({Exported.DRIFT_THRESHOLD}{FLEET}[{BRIDGED}])
          )
          or
            max by ({BY_OUTPUT_VERSION}) (
              last_over_time({Exported.DRIFT_THRESHOLD}{PROCESSES}[{BRIDGED}])
            )
        )
        """,
    ),
    Record(
        ACTIVE,
        """
        1 while the fleet's detector says that drift lasts, or any replica: what one replica alone
        suffers does not show in the fleet.
        """,
        f"max by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_ACTIVE}[{BRIDGED}]))",
    ),
    Record(
        ONSET,
        "Unix time at which drift began, by the fleet's detector first; absent where not exported.",
        f"""
        (
          min by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_ONSET}{FLEET}[{BRIDGED}]))
          or
            min by ({BY_OUTPUT}) (last_over_time({Exported.DRIFT_ONSET}{PROCESSES}[{BRIDGED}]))
        )
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
        (
          avg by ({BY_CLASS}) (last_over_time({Exported.DRIFT_SHARE}{FLEET}[{BRIDGED}]))
          or
            avg by ({BY_CLASS}) (last_over_time({Exported.DRIFT_SHARE}{PROCESSES}[{BRIDGED}]))
            unless on ({BY_OUTPUT}) last_over_time({Exported.DRIFT_SHARE}{FLEET}[{BRIDGED}])
        )
        and on ({BY_OUTPUT}) ({ACTIVE} > 0)
        """,
    ),
    Record(
        STATE,
        f"""
        1 while the fleet drifts, else 0: what DriftDetected fires on.

        The evidence reaches the threshold, or a detector is active: it has raised an alarm, and
        says by itself when that drift has ended. A sum that wavers about the threshold must
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
    Record(
        MOVED,
        f"""
        What DriftDetected names: the share now of the {NAMED} classes that moved most. It is the
        detector's estimate where there is one, without the label `window`, else the share in the
        window that shows it best. The label `from` holds the share that the baseline expects.

        4 n (sqrt(share) - sqrt(expected))^2 is the square of about a standard normal deviate,
        whatever the share, 0 too.
        """,
        f"""
        (
          {DETECTED_SHARE}
            and on ({BY_CLASS})
              topk by ({BY_OUTPUT}) (
                {NAMED}, abs({DETECTED_SHARE} - {BASELINE_SHARE})
              )
          or
            {SHARE}
              and on ({BY_CLASS}, window)
                topk by ({BY_OUTPUT}) (
                  {NAMED},
                  topk by ({BY_CLASS}) (
                    1,
                    4
                      * (
                        sqrt({SHARE})
                          - on ({BY_CLASS}) group_left ()
                            sqrt({BASELINE_SHARE})
                      ) ^ 2
                      * on ({BY_WINDOW}) group_left () {TESTED}
                      > {NOTICEABLE**2}
                  )
                )
              unless on ({BY_OUTPUT}) {DETECTED_SHARE}
        )
          * on ({BY_CLASS}) group_left (from)
            count_values by ({BY_CLASS}) (
              "from",
              round({BASELINE_SHARE} and on ({BY_OUTPUT}) {STATE} > 0, 1e-6)
            )
        """,
    ),
)
