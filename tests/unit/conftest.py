"""What the unit tests share: a meter provider that is read in memory."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader


class Collected:
    """A meter provider and what has been recorded with it."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.log_exporter = InMemoryLogRecordExporter()
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.log_exporter))

    def points(self, name: str | None = None) -> list[tuple[str, dict[str, Any], Any]]:
        """Collect once: name, attributes and data point of everything (of one name)."""
        data = self.reader.get_metrics_data()
        return [
            (metric.name, dict(point.attributes), point)
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if name is None or metric.name == name
        ]

    def values(self, name: str, *keys: str) -> dict[Any, Any]:
        """Collect once: the value of each point by some of its attributes."""
        found = {}
        for _, attributes, point in self.points(name):
            key = tuple(attributes[one] for one in keys)
            found[key[0] if len(key) == 1 else key] = point.value
        return found


@pytest.fixture
def collecting() -> type[Collected]:
    """Give the class, for tests that need several."""
    return Collected


@pytest.fixture
def collected() -> Iterator[Collected]:
    telemetry = Collected()
    yield telemetry
    telemetry.provider.shutdown()
