"""From calls and labels to OpenTelemetry, for any framework.

- `names` and `instruments`: every attribute and metric;
- `session`: one set of options and the providers that it reports to; `watch`;
- `registry`: which recorder each model has, by name and version;
- `recorder`: what is recorded of one model; `invocation`: one call of it;
- `collection`: one snapshot of everything for one collection;
- `log_record`, `failures`: drift as log events, failures of the instrumentation itself.
"""
