"""What a package index is told, built from the sources as they are."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.build import prepare_metadata_for_build_wheel

import otel_drift

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/otel-drift/otel-drift"
PICTURES = "https://raw.githubusercontent.com/otel-drift/otel-drift"


@pytest.fixture
def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Message:
    monkeypatch.chdir(ROOT)
    folder = tmp_path / prepare_metadata_for_build_wheel(str(tmp_path))
    return Parser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))


def test_no_link_of_the_description_is_relative(metadata: Message) -> None:
    description = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert description.startswith("# otel_drift\n")
    links = re.findall(r"\]\(\s*([^)\s]*)", description)
    links += re.findall(r"(?:src|href)=[\"']([^\"']*)", description)
    links += re.findall(r"^\[[^\]]+\]:\s*(\S+)", description, re.MULTILINE)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text()))
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_links_of_the_description_are_of_this_release_and_lead_somewhere(
    metadata: Message,
) -> None:
    tag = f"v{otel_drift.__version__}"
    found = 0
    for start in (f"{REPOSITORY}/blob/{tag}/", f"{REPOSITORY}/tree/{tag}/", f"{PICTURES}/{tag}/"):
        for path in re.findall(re.escape(start) + r"([^)#]*)", metadata.get_payload()):
            assert (ROOT / path).exists(), path
            found += 1
    assert found > 10


def test_the_index_is_told_where_the_project_lives(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(REPOSITORY) for url in urls.values())
