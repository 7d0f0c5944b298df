"""The checks run in a process for each backend, which this one must not import."""

collect_ignore = ["checks"]
