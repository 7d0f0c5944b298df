"""The whole chain on one machine: predictions, collector, Prometheus, Alertmanager, webhook.

python -m examples.demo
"""
