"""What the demonstration asks Prometheus, over its HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One series of an instant query."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A Prometheus server at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression that gives a vector, now.

        Raises
        ------
        OSError
            If the server cannot be reached or refuses the expression; then with its reason.
        """
        result = self.get("query", query=expression)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in result]

    def value(self, expression: str) -> float | None:
        """Evaluate an expression that gives one number; None where it gives none."""
        samples = self.query(expression)
        return samples[0].value if samples else None

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Evaluate an expression and give its values by a label."""
        return {one.labels.get(label, ""): one.value for one in self.query(expression)}

    def get(self, path: str, **parameters: str) -> Any:
        """Get the `data` of an answer of the API."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise OSError(f"{error.url}: {error.code}: {reason}") from error
