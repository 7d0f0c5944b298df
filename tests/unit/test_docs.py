"""What the documents say of names, options and numbers is what the code does."""

import re
from pathlib import Path

import pytest

import otel_drift
from otel_drift import Baseline, environment_variables
from otel_drift import instruments as module

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/*/*.md")]
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")}
]


def test_every_series_is_in_the_readme(collected):
    otel_drift.watch("docs", Baseline.uniform(2), meter_provider=collected.provider)
    source = Path(module.__file__).read_text()
    names = set(re.findall(r'"(keras\.[a-z_.]+)"', source)) - {
        *(module.MODEL, module.OUTPUT, module.CLASS, module.METHOD, module.MEASURE)
    }
    assert len(names) > 12
    for name in names:
        last = name.replace(".", "_").split("keras_")[1]
        *_, tail = name.split(".")
        assert f"keras_{last}" in README or f"_{tail}" in README, name


def test_every_option_is_in_the_readme():
    for name in vars(environment_variables):
        if name.startswith("OTEL_"):
            assert name in README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_table_of_bands_is_what_the_code_gives():
    text = (ROOT / "docs" / "baselines.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) % to ([\d.]+) % \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for size, low, high in rows:
        lower, upper = Baseline.from_counts(
            [int(size.replace(",", "")) // 10] * 10
        ).tolerated_band()
        assert f"{lower[0]:.2%}" == f"{low}%"
        assert f"{upper[0]:.2%}" == f"{high}%"
