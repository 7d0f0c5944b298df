"""Programs that show otel_drift at work. `python -m examples.demo` shows all of it at once."""
