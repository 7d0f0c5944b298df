"""Drift over the whole fleet: ``rules/drift.yml``."""

from __future__ import annotations

from prometheus.alerts import (
    BASELINES_ARE_DIFFERENT,
    DISTRIBUTION_HAS_SHIFTED,
    DRIFT_IS_DETECTED,
    PREDICTIONS_ARE_DEPENDENT,
)
from prometheus.baseline import EXPECTATIONS, REMEMBERED
from prometheus.detector import DETECTION
from prometheus.effect_sizes import EFFECTS
from prometheus.rule_file import File, Group
from prometheus.windows import BANDS, LONG_COUNTS, SHARES

FILE = File(
    """
    Prediction drift over a whole fleet: recording rules and the two drift alerts.

    Two tests, which need not agree:
      DriftDetected
        the detector inside each process, or that of the whole fleet (otel-drift fleet), has
        evidence against the baseline (sequential; its false alarms are bounded per prediction
        served).
      PredictionDistributionShifted
        the counters of all replicas together, in a window of 1m, 5m, 1h or 1d, show a class
        outside its tolerated band.

    docs/runbook.md says what to do for each.

    Nothing here matches job, instance or otel_scope_*: counters are added over replicas, and the
    same rules serve a scraped collector, scraped applications and Prometheus's own OTLP receiver.

    Works on Prometheus 2.42 (for keep_firing_for) and later. Levels in the names of the records:
      output  by keras_model_name, keras_model_output
      class   the same and keras_prediction_class
      replica all labels as exported

    Where a record has a label `window` (1m, 5m, 1h, 1d) there is one series for each of them.
    """,
    (
        Group(
            "keras_drift",
            (
                *EXPECTATIONS,
                *SHARES,
                *BANDS,
                *DETECTION,
                DRIFT_IS_DETECTED,
                DISTRIBUTION_HAS_SHIFTED,
                BASELINES_ARE_DIFFERENT,
                PREDICTIONS_ARE_DEPENDENT,
            ),
        ),
        Group(
            "keras_drift_effects",
            EFFECTS,
            "For the eye, no alert waits for it: how the whole distribution differs, and how much.",
            "15s",
        ),
        Group(
            "keras_drift_long",
            (*LONG_COUNTS, *REMEMBERED),
            """
            Long windows are sums of shorter ones, sampled by subqueries so that no evaluation
            interval is assumed: raw counters over a day would cost seconds each time. Both are
            trapezoids (the newest and oldest 5m, or 1h, count less), which errs on the safe side.
            """,
            "1m",
        ),
    ),
)
