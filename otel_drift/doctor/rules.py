"""Whether Prometheus has our rules, whether they work, and which of our alerts fire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from otel_drift.configuration import prometheus_rules
from otel_drift.doctor.finding import Finding, ok, unknown, wrong
from otel_drift.fleet.prometheus_api import PrometheusApi


def look_at_rules(api: PrometheusApi, _: float) -> Iterator[Finding]:
    """Look at the groups that the package hands out, by name."""
    handed_out = prometheus_rules()
    there: dict[str, list[dict[str, Any]]] = {}
    for group in api.rule_groups():
        there.setdefault(str(group["name"]), []).extend(group["rules"])
    for name in re.findall(r"^  - name: (\w+)$", handed_out, re.MULTILINE):
        yield look_at_group(name, there.get(name))
    alerts = set(re.findall(r"^      - alert: (\w+)$", handed_out, re.MULTILINE))
    yield from look_at_alerts(alerts, [rule for rules in there.values() for rule in rules])


def look_at_group(name: str, rules: list[dict[str, Any]] | None) -> Finding:
    """Look whether a group is there and all of its rules are evaluated."""
    if rules is None:
        remedy = "write `otel-drift rules` into a file under rule_files, and reload Prometheus"
        return wrong("rules", f"rules {name} are not there", remedy)
    for rule in rules:
        if rule.get("lastError") or rule.get("health") == "err":
            what = f"rules {name}: {rule['name']}: {rule.get('lastError') or 'fails'}"
            return wrong("rules", what, "load what `otel-drift rules` prints, unchanged")
    if any(rule.get("health") == "unknown" for rule in rules):
        return unknown("rules", f"rules {name} are not evaluated yet", "ask again in a minute")
    return ok("rules", f"rules {name}: {len(rules)}, all evaluated")


def look_at_alerts(ours: set[str], rules: list[dict[str, Any]]) -> Iterator[Finding]:
    """Look which of our alerts fire."""
    names = sorted({str(rule["name"]) for rule in rules if rule.get("state") == "firing"} & ours)
    for name in names:
        remedy = f"see {name} in docs/runbook.md"
        yield wrong("alerts", f"alert {name} fires", remedy)
    if not names and any(rule["name"] in ours for rule in rules):
        yield ok("alerts", "none of our alerts fires")
