"""The README as a package index shows it: relative links lead nowhere there, so they are absolute.

Pages and pictures are those of the release's own tag. No plugin is needed to build the package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


class ReadmeHook(MetadataHookInterface):
    """Gives the package its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``, which pyproject.toml leaves to this hook."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = absolute(readme, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
