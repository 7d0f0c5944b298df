"""The rules of Prometheus as code; ``python -m prometheus`` writes their YAML.

What is monitored is defined once, in `prometheus.definitions`: names, windows, thresholds,
severities, and where the runbook is. The dashboards read it too. Of the rules in
``rules/drift.yml`` (`prometheus.drift`), `prometheus.baseline` has the records of what is expected,
`prometheus.windows` those of what was counted, `prometheus.detector` those of the detectors in the
processes and `prometheus.effect_sizes` those for the eye; `prometheus.alerts` has what is said when
they fire. ``rules/serving.yml`` is `prometheus.serving`.

>>> from prometheus.__main__ import FILES
>>> [(name, group.name) for name, file in FILES.items() for group in file.groups]
[('drift.yml', 'keras_drift'), ('drift.yml', 'keras_drift_effects'),
 ('drift.yml', 'keras_drift_long'), ('serving.yml', 'keras_serving')]
"""
