"""What ``otel-drift doctor`` looks at: a program's environment, and what is in Prometheus."""
