"""Rules, dashboards and configurations that come with the package, to be handed out.

>>> rules = prometheus_rules()
>>> "alert: DriftDetected" in rules
True
>>> print(kubernetes_rules({"release": "prometheus"}).partition("spec:")[0], end="")
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: otel-drift
  labels:
    release: "prometheus"

The command ``otel-drift`` prints them. They are the files of the repository: an installed package
has them in a folder of its own, and in a checkout they are read where they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from otel_drift.package import __version__

INSTALLED = Path(__file__).parent / "_configuration"
CHECKOUT = Path(__file__).parents[1]
NAME = "otel-drift"
SIDECAR_LABEL = {"grafana_dashboard": "1"}
"""What the sidecar of Grafana's chart looks for, unless told otherwise."""


def read(path: str) -> str:
    """Read a file of the repository, such as ``collector/config.yaml``."""
    return (_root() / path).read_text(encoding="utf-8")


def prometheus_rules() -> str:
    """Give all recording and alerting rules as one rule file of Prometheus."""
    files = sorted((_root() / "prometheus" / "rules").glob("*.yml"))
    groups = "\n".join(_groups(path.read_text(encoding="utf-8")) for path in files)
    first = f"# Rules of otel-drift {__version__}; docs/runbook.md says what to do."
    return f"{first}\ngroups:\n{groups}"


def kubernetes_rules(labels: Mapping[str, str]) -> str:
    """Give the rules as a PrometheusRule of the Prometheus operator.

    Parameters
    ----------
    labels
        By which the operator's Prometheus selects rules.
    """
    named = "".join(f"\n    {name}: {json.dumps(value)}" for name, value in labels.items())
    rules = "".join(
        f"  {line}" if line.strip() else line for line in prometheus_rules().splitlines(True)
    )
    return (
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        f"  name: {NAME}\n" + (f"  labels:{named}\n" if named else "") + f"spec:\n{rules}"
    )


def dashboards() -> dict[str, str]:
    """Give Grafana's dashboards: the JSON of each, by the name of its file."""
    folder = _root() / "grafana" / "dashboards"
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}


def kubernetes_dashboards() -> str:
    """Give the dashboards as a list of ConfigMaps that the sidecar of Grafana takes up."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{NAME}-{file.removesuffix('.json').replace('_', '-')}",
                "labels": SIDECAR_LABEL,
            },
            "data": {file: text},
        }
        for file, text in dashboards().items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def _groups(text: str) -> str:
    """Give what stands below ``groups:`` in a rule file."""
    return text.partition("\ngroups:\n")[2]


def _root() -> Path:
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT
