"""A dashboard's JSON file, read as Grafana reads it: variables filled in, queries run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.grafana.prometheus_server import ROOT, Prometheus, Series

RANGE_SECONDS = 300
"""The time range that the dashboards are looked at with."""
STEP_SECONDS = 5
NAMES = ("models", "one_model", "training")


class Panel(NamedTuple):
    """One panel of a dashboard."""

    dashboard: str
    json: dict[str, Any]

    @property
    def title(self) -> str:
        return self.json["title"]

    @property
    def queries(self) -> list[dict[str, Any]]:
        return self.json["targets"]

    def series(self, prometheus: Prometheus, at: float, values: Mapping[str, str]) -> list[Series]:
        """Run all queries of the panel as Grafana would at a time, with variables chosen."""
        found: list[Series] = []
        for query in self.queries:
            expr = filled_in(query["expr"], values)
            if query.get("instant"):
                found += prometheus.instant(expr, at)
            else:
                found += prometheus.over(expr, at - RANGE_SECONDS, at, STEP_SECONDS)
        return found

    def table(
        self, prometheus: Prometheus, at: float, values: Mapping[str, str]
    ) -> dict[tuple[str, ...], dict[str, float | str]]:
        """Run the queries and put the answers together as Labels to fields and Merge do.

        Returns
        -------
        dict
            Columns of each row, by the labels that all series have, in the order of their names.
        """
        series = self.series(prometheus, at, values)
        keys = sorted(set.intersection(*({*one.labels} - {"column"} for one in series), KEYS))
        rows: dict[tuple[str, ...], dict[str, float | str]] = {}
        for one in series:
            row = rows.setdefault(tuple(one.labels[key] for key in keys), {})
            more = {
                name: value
                for name, value in one.labels.items()
                if name not in keys and name != "column"
            }
            assert one.labels["column"] not in row, f"two values in one cell: {one.labels}"
            assert not (more.keys() & row.keys())
            row.update(more)
            row[one.labels["column"]] = one.value
        return rows


KEYS = {
    "keras_model_name",
    "keras_model_output",
    "keras_prediction_class",
    "keras_training_run",
}


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Replace variables as Grafana does."""
    everything = {
        "datasource": "prometheus",
        "__range": f"{RANGE_SECONDS}s",
        "__interval": "1s",
        **values,
    }
    replaced = re.sub(r"\$\{?(\w+)\}?", lambda name: everything[name.group(1)], text)
    assert "$" not in replaced
    return replaced


def load(name: str) -> dict[str, Any]:
    """Read a dashboard."""
    path = ROOT / "grafana" / "dashboards" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def panels(*names: str) -> Iterator[Panel]:
    """Go through the panels of dashboards, but for headings of rows."""
    for name in names or NAMES:
        for panel in load(name)["panels"]:
            if panel["type"] != "row":
                yield Panel(name, panel)


def panel(name: str, title: str) -> Panel:
    """Find a panel by its title."""
    (found,) = (one for one in panels(name) if one.title == title)
    return found


def choices(
    variable: Mapping[str, Any], prometheus: Prometheus, at: float, values: Mapping[str, str]
) -> list[str]:
    """Find the values a variable offers."""
    if variable["type"] == "custom":
        return variable["query"].split(",")
    query = filled_in(variable["query"], values)
    labels = re.fullmatch(r"label_values\((?:(.+), )?(\w+)\)", query)
    if labels:
        selector, label = labels.groups()
        return prometheus.label_values(label, selector, at - RANGE_SECONDS, at)
    (expr,) = re.fullmatch(r"query_result\((.+)\)", query).groups()
    pattern = re.compile(variable["regex"].strip("/"))
    shown = [
        "{" + ",".join(f'{name}="{value}"' for name, value in one.labels.items()) + "}"
        for one in prometheus.instant(expr, at)
    ]
    return [pattern.search(text).group(1) for text in shown]
