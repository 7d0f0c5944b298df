"""A receiver of OTLP over HTTP that remembers the last value of every series."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

INSTANCE = "service.instance.id"


class Receiver:
    """Listens from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._series: dict[tuple[str, str, frozenset[tuple[str, str]]], float] = {}
        self.spans: list[str] = []
        """Names of all spans."""

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that send a program's telemetry here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "600000",  # all there is comes at the end
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "program",
        }

    def take(self, path: str, body: bytes) -> None:
        """Take one export."""
        with self._lock:
            self._take(path, body)
            self._lock.notify_all()

    def _take(self, path: str, body: bytes) -> None:
        if path.endswith("/v1/traces"):
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                for scope in resource.scope_spans:
                    self.spans += [span.name for span in scope.spans]
            return
        request = ExportMetricsServiceRequest.FromString(body)
        for resource in request.resource_metrics:
            instance = _attributes(resource.resource.attributes).get(INSTANCE, "")
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._remember(instance, metric)

    def _remember(self, instance: str, metric: Any) -> None:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            attributes = frozenset(_attributes(point.attributes).items())
            value = point.count if kind == "histogram" else point.as_double or point.as_int
            self._series[instance, metric.name, attributes] = value

    def wait_for(self, arrived: Callable[[], bool], seconds: float) -> bool:
        """Wait until exports have made something true; False if that took too long."""
        with self._lock:
            return self._lock.wait_for(arrived, seconds)

    def series(self, metric: str, *labels: str, **only: str) -> dict[Any, float]:
        """Sum a metric over all else than some labels.

        Parameters
        ----------
        metric
            Its name.
        *labels
            What to tell apart; the keys of the result: one string, or a tuple of several.
        **only
            Leave out what has another value: ``model`` and ``output``.
        """
        wanted = {f"keras.model.{name.replace('model', 'name')}": one for name, one in only.items()}
        found: dict[Any, float] = {}
        with self._lock:
            for (_, name, attributes), value in self._series.items():
                of = dict(attributes)
                if name != metric or any(of.get(key) != one for key, one in wanted.items()):
                    continue
                key = tuple(of.get(label, "") for label in labels)
                key = key[0] if len(key) == 1 else key
                found[key] = found.get(key, 0) + value
        return found

    def counts(self, **only: str) -> dict[str, int]:
        """Predictions of each class that occurs, summed over all processes."""
        found = self.series("keras.predictions", "keras.prediction.class", **only)
        return {name: int(count) for name, count in found.items() if count}

    def names(self) -> set[str]:
        """Names of all metrics that arrived."""
        with self._lock:
            return {name for _, name, _ in self._series}

    def instances(self, metric: str) -> set[str]:
        """Ids of the processes that sent a metric."""
        with self._lock:
            return {instance for instance, name, _ in self._series if name == metric}


def _attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}
