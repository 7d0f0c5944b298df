"""Where OTLP metrics are sent, and whether anything listens there.

>>> address_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@collector:4318"}, "grpc")
('collector', 4318)
>>> address_of({}, "http/protobuf")
('localhost', 4318)
"""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Mapping

from otel_drift.doctor.finding import Finding, ok, unknown, wrong

TIMEOUT_SECONDS = 5.0
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
METRICS_PROTOCOL = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
PORTS = {"grpc": 4317, "http/protobuf": 4318}
"""Where a collector listens by default, by protocol."""


def protocol_of(environment: Mapping[str, str]) -> str:
    """Give the protocol of metrics, as OpenTelemetry's SDK reads it: gRPC unless set."""
    asked = environment.get(METRICS_PROTOCOL, "") or environment.get(PROTOCOL, "")
    return asked.strip() or "grpc"


def address_of(environment: Mapping[str, str], protocol: str) -> tuple[str, int]:
    """Give host and port.

    Raises
    ------
    ValueError
        If the endpoint is no address; names the variable and never the value, which may hold a
        password.
    """
    variable = METRICS_ENDPOINT if environment.get(METRICS_ENDPOINT, "").strip() else ENDPOINT
    text = environment.get(variable, "").strip() or f"http://localhost:{PORTS[protocol]}"
    if "://" not in text:
        if protocol != "grpc":
            raise ValueError(f"{variable} must begin with http:// or https://")
        text = f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or not host:
        raise ValueError(f"{variable} must be an address, such as http://collector:4317")
    secure = protocol == "grpc" or parts.scheme == "https"  # gRPC takes 443 where there is no port
    return host, port or (443 if secure else 80)


def look_at_endpoint(environment: Mapping[str, str]) -> Finding:
    """Connect to where metrics are sent."""
    protocol = protocol_of(environment)
    if protocol not in PORTS:
        return wrong(
            "endpoint",
            f"{PROTOCOL} or {METRICS_PROTOCOL} is {protocol!r}",
            f"set it to {' or '.join(PORTS)}",
        )
    try:
        host, port = address_of(environment, protocol)
    except ValueError as error:
        return wrong("endpoint", str(error), "set it to the address of the collector")
    place = f"OTLP endpoint {host}:{port} ({protocol})"
    other = next(one for one in PORTS if one != protocol)
    try:
        socket.create_connection((host, port), TIMEOUT_SECONDS).close()
    except socket.gaierror:
        return wrong("endpoint", f"{place}: there is no such host", f"set {ENDPOINT}")
    except (OSError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        remedy = f"start a collector there, or set {ENDPOINT} to where one is"
        return wrong("endpoint", f"{place}: {reason}", remedy)
    if port == PORTS[other]:
        what = f"{place} answers, but {port} is the port of {other} by default"
        return unknown("endpoint", what, f"set {PROTOCOL}={other}, unless it was moved")
    return ok("endpoint", f"{place} accepts connections")
