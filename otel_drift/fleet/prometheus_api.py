"""The query API of Prometheus, and of what answers like it: Thanos, Mimir, Cortex, VictoriaMetrics.

>>> api = PrometheusApi("https://reader:secret@prometheus.example/prefix/")
>>> api.url  # what is shown and logged has no password
'https://prometheus.example/prefix'
>>> sorted(headers_of("X-Scope-OrgID=shop,Authorization=Bearer%20abc").items())
[('authorization', 'Bearer abc'), ('x-scope-orgid', 'shop')]
"""

from __future__ import annotations

import base64
import json
import logging
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from time import time
from typing import Any, NamedTuple, cast

from opentelemetry.util.re import parse_env_headers

logger = logging.getLogger(__name__)

HEADERS = "OTEL_DRIFT_PROMETHEUS_HEADERS"
"""Environment variable: ``name=value,...``, values percent-encoded, as in
``OTEL_EXPORTER_OTLP_HEADERS``."""
TIMEOUT_SECONDS = 30.0
LONGEST_ANSWER = 256 * 2**20
"""Bytes: a million series."""
SHOWN = 200
"""Characters of a server's own words in an error."""
SHORTEST_SECRET = 4
"""Characters from which on what is sent is not shown where a server repeats it."""


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float
    """NaN where it is not a number."""


class Answer(NamedTuple):
    """What a server has said."""

    samples: list[Sample]
    warnings: tuple[str, ...]
    """What the server says is missing, such as a store of Thanos that does not answer."""


class PrometheusError(OSError):
    """The server does not answer, refuses, or says nonsense; the message is one line.

    Attributes
    ----------
    kind
        ``timeout``, the status of HTTP, or else the name of what was raised: ``error.type``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class PrometheusApi:
    """Ask a server.

    Parameters
    ----------
    url
        Of the server, such as ``http://localhost:9090``; where it lives under a path, with that.
        A user and a password in it are sent as basic authorization.
    headers
        Sent with each request, such as ``Authorization``.
    timeout
        Seconds to wait for an answer.

    Raises
    ------
    ValueError
        If it is not the URL of a server.

    Attributes
    ----------
    ahead
        Seconds by which the server's clock is ahead of this machine's, by its last answer.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        shown = url.rpartition("@")[2]
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # it may quote the password
            raise ValueError(f"{shown!r}: is no address of a server") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{shown!r}: must begin with http:// or https://")
        self._headers = dict(headers or {})
        if parts.username is not None:
            user, password = map(urllib.parse.unquote, (parts.username, parts.password or ""))
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers.setdefault("authorization", f"Basic {token}")
        else:
            password = ""
        sent = [password, *(part for one in self._headers.values() for part in (one, *one.split()))]
        # The longest first, since one may be a part of another.
        self._secrets = sorted((one for one in sent if len(one) >= SHORTEST_SECRET), key=len)[::-1]
        host = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self.timeout = timeout
        self.ahead = 0.0

    def query(self, expression: str, at: float) -> Answer:
        """Evaluate an expression at one time.

        Parameters
        ----------
        expression
            In PromQL, of an instant vector.
        at
            Seconds since the epoch.

        Raises
        ------
        PrometheusError
            If there is no answer that can be read.
        """
        body = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"}).encode()
        return self._read(self._ask("/api/v1/query", body))

    def rule_groups(self) -> list[dict[str, Any]]:
        """Give the groups of rules as the server has them: what ``/api/v1/rules`` says.

        Raises
        ------
        PrometheusError
            If there is no answer that can be read.
        """
        content = self._ask("/api/v1/rules")
        try:
            groups = cast("list[dict[str, Any]]", json.loads(content)["data"]["groups"])
            for group in groups:
                _ = group["name"], [rule["name"] for rule in group["rules"]]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise self._nonsense(content) from None
        return groups

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", body)  # noqa: S310
        for name, value in self._headers.items():  # not sent on to whom a redirect names
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                self._compare_clocks(answer.headers.get("Date"))
                content = answer.read(LONGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            said = self._words(error.read(10_000))
            status = str(error.code)
            raise PrometheusError(f"{self.url}: {status} {error.reason}: {said}", status) from None
        except (OSError, HTTPException, ValueError) as error:
            reason, kind = _reason(error)
            raise PrometheusError(f"{self.url}: {reason}", kind) from None
        if len(content) > LONGEST_ANSWER:
            what = f"{self.url}: an answer of more than {LONGEST_ANSWER:,} bytes"
            raise PrometheusError(what, "too_long")
        return content

    def _read(self, content: bytes) -> Answer:
        try:
            answer: Any = json.loads(content)
            if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
                raise ValueError("no instant vector")
            samples = [_sample(one) for one in answer["data"]["result"]]
            said = cast("list[Any]", answer.get("warnings") or [])
            return Answer(samples, tuple(str(one)[:SHOWN] for one in said))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise self._nonsense(content) from None

    def _nonsense(self, content: bytes) -> PrometheusError:
        said = self._words(content)
        what = f"{self.url}: this is not an answer of the API of Prometheus: {said!r}"
        return PrometheusError(what, "nonsense")

    def _words(self, content: bytes) -> str:
        """Give the beginning of a server's own words, without what it repeats of what is sent."""
        said = content[:10_000].decode(errors="replace")
        for secret in self._secrets:  # before it is cut: half a secret is one too
            said = said.replace(secret, "...")
        return " ".join(said.split())[:SHOWN]

    def _compare_clocks(self, date: str | None) -> None:
        try:
            self.ahead = parsedate_to_datetime(date or "").timestamp() - time()
        except (TypeError, ValueError, OverflowError):
            self.ahead = 0.0


def headers_of(text: str) -> dict[str, str]:
    """Read headers as OpenTelemetry's exporters do; names become lower case.

    What is no header is left out, with a warning that does not show it, as OpenTelemetry's would.
    """
    left_out: list[logging.LogRecord] = []

    def keep_back(record: logging.LogRecord) -> bool:
        left_out.append(record)
        return False

    theirs = logging.getLogger(parse_env_headers.__module__)
    theirs.addFilter(keep_back)
    try:
        headers = dict(parse_env_headers(text, liberal=True))
    finally:
        theirs.removeFilter(keep_back)
    if left_out:
        logger.warning("%s: %d of its headers left out: not name=value", HEADERS, len(left_out))
    return headers


def _sample(value: Any) -> Sample:
    labels = value["metric"]
    number = value["value"][1]
    if not isinstance(labels, dict):
        raise TypeError("labels must be an object")
    names = cast("dict[str, Any]", labels)
    try:
        found = float(number)
    except ValueError:
        found = math.nan
    return Sample({name: str(one) for name, one in names.items()}, found)


def _reason(error: Exception) -> tuple[str, str]:
    """Say what went wrong, in a line and in a word."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time", "timeout"
    return " ".join(str(cause).split()) or type(cause).__name__, type(cause).__name__
