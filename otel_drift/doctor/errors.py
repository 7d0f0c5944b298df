"""What the instrumentation itself has failed at, by type, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterator

from otel_drift.doctor.finding import Finding, ok, wrong
from otel_drift.fleet.prometheus_api import PrometheusApi

ERRORS = "sum by (keras_model_name, error_type) (keras_instrumentation_errors_total) > 0"
REMEDIES = {
    "internal": "report the traceback that is in the log of the program",
    "output": "say in OTEL_PYTHON_KERAS_DECISION or _OUTPUTS what the outputs mean",
    "baseline": "see the log of the program for the file and field, and save the baseline again",
    "baseline_outdated": "save a baseline of the model's present weights",
    "drift_function": "see the log of the program for what your drift function raised",
    "drift_function_overflow": "make your drift function faster, or test fewer predictions",
    "backlog_full": "give the process another core, or predict in larger batches",
    "series_limit": "give the metric reader higher cardinality_limits, or use more processes",
}
"""What to do by ``error_type``; the runbook has more on each."""


def look_at_errors(api: PrometheusApi, at: float) -> Iterator[Finding]:
    """Look for errors since the processes were started."""
    found = api.query(ERRORS, at).samples
    if not found:
        yield ok("errors", "the instrumentation has no errors")
    for one in found:
        kind = one.labels.get("error_type", "")
        model = one.labels.get("keras_model_name", "")
        what = f"model {model!r}: {one.value:,.0f} errors of the instrumentation, {kind}"
        yield wrong("errors", what, REMEDIES.get(kind, "see the log of the program"))
