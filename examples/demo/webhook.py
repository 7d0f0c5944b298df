"""A webhook that keeps what Alertmanager sends it.

>>> with Webhook(0) as webhook:
...     webhook.wait_for(lambda delivery: True, seconds=0) is None
True
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Delivery(NamedTuple):
    """One notification."""

    time: float
    """When it came: seconds since the epoch."""
    body: dict[str, Any]
    """As Alertmanager's webhook format, version 4, says."""

    def firing(self, alert: str | None = None) -> list[dict[str, Any]]:
        """List its firing alerts, of one name if one is given."""
        return [
            one
            for one in self.body["alerts"]
            if one["status"] == "firing" and alert in (None, one["labels"]["alertname"])
        ]


class Webhook:
    """Listen on 127.0.0.1; port 0 stands for any free one, which `port` tells.

    Raises
    ------
    OSError
        If the port is in use.
    """

    def __init__(self, port: int) -> None:
        self._changed = threading.Condition()
        self._deliveries: list[Delivery] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self._take))
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def deliveries(self) -> list[Delivery]:
        """All notifications so far."""
        with self._changed:
            return list(self._deliveries)

    def wait_for(self, wanted: Callable[[Delivery], object], seconds: float) -> Delivery | None:
        """Wait for a notification that is wanted, past ones included; None if none came in time."""

        def found() -> Delivery | None:
            return next((one for one in self._deliveries if wanted(one)), None)

        with self._changed:
            return self._changed.wait_for(found, seconds)

    def _take(self, body: dict[str, Any]) -> None:
        with self._changed:
            self._deliveries.append(Delivery(time.time(), body))
            self._changed.notify_all()


def _handler(take: Callable[[dict[str, Any]], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                content = json.loads(body)
                known = isinstance(content["alerts"], list)
            except (ValueError, KeyError, TypeError):
                known = False
            self.send_response(200 if known else 400)
            self.end_headers()
            if known:
                take(content)

        def log_message(self, *_: object) -> None:  # the terminal belongs to the live view
            pass

    return Handler
