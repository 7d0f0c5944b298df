"""How models are served: ``rules/serving.yml``."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus.alerts import INSTRUMENTATION_FAILS, INVALID_IS_PREDICTED
from prometheus.definitions import (
    BY_MODEL,
    BY_OUTPUT,
    BY_VERSION,
    CALL_BUCKETS,
    CALLS,
    ERRORS,
    ERRORS_WINDOW,
    INVALID,
    OWN_ERRORS,
    QUANTILE,
    QUANTILES,
    REPLICAS,
    SAMPLES,
    SERVING_WINDOW,
    TRAFFIC,
    VERSION_REPLICAS,
    VERSIONS,
    Exported,
)
from prometheus.rule_file import File, Group, Record

BY_METHOD = f"{BY_MODEL}, keras_method"
RAISED = '{error_type!=""}'
"""Selects the calls that raised."""


def quantiles() -> Iterator[Record]:
    """Record how long calls take."""
    for number, quantile in enumerate(QUANTILES):
        yield Record(
            QUANTILE,
            ""
            if number
            else "Seconds a call takes, by quantile; absent while there are none (>= 0 drops NaN).",
            f"histogram_quantile({quantile}, {CALL_BUCKETS}) >= 0",
            {"quantile": quantile},
        )


SERVING = Group(
    "keras_serving",
    (
        Record(
            CALLS,
            "Calls per second, by keras_method.",
            f"sum by ({BY_METHOD}) (rate({Exported.DURATION}_count[{SERVING_WINDOW}]))",
        ),
        Record(
            CALL_BUCKETS,
            "The histogram behind the quantiles, by le.",
            f"sum by ({BY_MODEL}, le) (rate({Exported.DURATION}_bucket[{SERVING_WINDOW}]))",
        ),
        *quantiles(),
        Record(
            ERRORS,
            """
            Calls that raised, per second. No call has failed yet: no series with error_type, but 0
            errors.
            """,
            f"""
            sum by ({BY_MODEL}) (rate({Exported.DURATION}_count{RAISED}[{SERVING_WINDOW}]))
            or 0 * sum by ({BY_MODEL}) ({CALLS})
            """,
        ),
        Record(
            SAMPLES,
            "Samples (rows) per second.",
            f"sum by ({BY_MODEL}) (rate({Exported.SAMPLES}[{SERVING_WINDOW}]))",
        ),
        Record(
            REPLICAS,
            """
            Processes that serve the model: each has one series of the class `invalid` for each
            output. One that serves two versions counts twice.
            """,
            f"""
            max by ({BY_MODEL}) (
              count by ({BY_OUTPUT}) ({Exported.PREDICTIONS}{INVALID})
            )
            """,
        ),
        Record(
            VERSION_REPLICAS,
            "The same by version of the model; absent where models have no version.",
            f"""
            max by ({BY_VERSION}) (
              count by ({BY_VERSION}, keras_model_output) (
                {Exported.PREDICTIONS}{{keras_prediction_class="invalid",keras_model_version!=""}}
              )
            )
            """,
        ),
        Record(
            VERSIONS,
            "Versions that are served side by side.",
            f"count by ({BY_MODEL}) ({VERSION_REPLICAS})",
        ),
        Record(
            TRAFFIC,
            "Predictions per second, by keras_model_output too.",
            f"sum by ({BY_OUTPUT}) (rate({Exported.PREDICTIONS}[{SERVING_WINDOW}]))",
        ),
        Record(
            OWN_ERRORS,
            f"""
            Failures of the instrumentation itself, by error_type.

            Every known type has a series of zeros from the start. But a process that has just
            started may have failed before its first sample, which `increase` does not see: a series
            that was not there {ERRORS_WINDOW} ago counts in full.
            """,
            f"""
            sum by ({BY_MODEL}, error_type) (
              increase({Exported.INSTRUMENTATION_ERRORS}[{ERRORS_WINDOW}])
                and {Exported.INSTRUMENTATION_ERRORS} offset {ERRORS_WINDOW}
              or {Exported.INSTRUMENTATION_ERRORS}
                unless {Exported.INSTRUMENTATION_ERRORS} offset {ERRORS_WINDOW}
            )
            """,
        ),
        INSTRUMENTATION_FAILS,
        INVALID_IS_PREDICTED,
    ),
    interval="15s",
)

FILE = File(
    """
    How models are served: latency, traffic and errors for dashboards, and two alerts on the
    instrumentation.

    All rates and quantiles are over 5 minutes and all replicas. Levels in the names of the records:
      model   by keras_model_name
      version by keras_model_name, keras_model_version
      output  by keras_model_name, keras_model_output
    """,
    (SERVING,),
)
