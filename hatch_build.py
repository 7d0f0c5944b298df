"""What the package gets when it is built: its description, and the files that it hands out.

Relative links lead nowhere where a package index shows the README, so they are made absolute, to
the pages and pictures of the release's own tag. Rules, dashboards and configurations are copied
into the wheel from where they are, so that they are in the repository once. No plugin is needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PAGES = "https://github.com/otel-drift/otel-drift"
PICTURES = "https://raw.githubusercontent.com/otel-drift/otel-drift"
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://)(?P<target>[^)\s]+)\)")


def absolute(markdown: str, tag: str) -> str:
    """Make the relative links and pictures of the README absolute."""

    def replaced(link: re.Match[str]) -> str:
        picture, text, target = link.group("picture", "text", "target")
        if picture:
            url = f"{PICTURES}/{tag}/{target}"
        elif target.startswith("#"):
            url = f"{PAGES}/blob/{tag}/README.md{target}"
        else:
            url = f"{PAGES}/{'tree' if target.endswith('/') else 'blob'}/{tag}/{target}"
        return f"{picture}[{text}]({url})"

    return LINK.sub(replaced, markdown)


HANDED_OUT = (
    "collector/config.yaml",
    "grafana/dashboards",
    "prometheus/alertmanager.yml",
    "prometheus/prometheus.yml",
    "prometheus/rules",
)
"""What `otel_drift.configuration` reads."""


class FilesHook(BuildHookInterface[Any]):
    """Puts into the wheel what the package hands out; in an editable one it is read in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Tell where each file goes."""
        if version == "standard":
            build_data["force_include"] |= {
                str(Path(self.root) / path): f"otel_drift/_configuration/{path}"
                for path in HANDED_OUT
            }


class ReadmeHook(MetadataHookInterface):
    """Gives the package its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``, which pyproject.toml leaves to this hook."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = absolute(readme, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
