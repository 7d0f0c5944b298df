"""Programs that were written as their authors would have: they know nothing of otel_drift."""

collect_ignore = ["applications"]
