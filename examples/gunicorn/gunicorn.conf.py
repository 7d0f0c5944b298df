"""Watch the models of a preloaded application: gunicorn reads this file by itself.

OTEL_SERVICE_NAME=digits gunicorn --preload --workers 2 application:application

Keras is instrumented before the application is loaded, and each worker starts an SDK of its own.
So what the application predicts before the fork is not recorded, and nothing is inherited.
"""

from typing import Any

from otel_drift import KerasInstrumentor

KerasInstrumentor().instrument()


def post_fork(_server: Any, _worker: Any) -> None:
    """Start the SDK in the worker; it exports what is left when the worker ends."""
    from opentelemetry import metrics
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader]))
