"""What the documents say of names, options and numbers is what the code does."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, Metric

import otel_drift
from docs import make_reference
from otel_drift import Baseline, TrainingMetrics, environment_variables
from otel_drift.cli import main
from otel_drift.drift.variation import Variation
from prometheus.definitions import ALARMS, Exported

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/*/*.md")]
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")}
]


@pytest.fixture(scope="module")
def exported() -> Iterator[list[Metric]]:
    """What Prometheus is given after drift, a prediction and a fit: names as they are scraped."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    calm = Variation(1.0, (1.0,), np.full(2, 0.5), np.full(2, 0.5), 512, 40)
    baseline = replace(Baseline.from_counts([900, 900]), variation=calm)
    stream = otel_drift.watch("docs", baseline, meter_provider=provider)
    stream.record(np.arange(2_000) % 2)
    stream.record(np.zeros(2_000, dtype=int))
    x, y = np.zeros((8, 4), dtype="float32"), np.arange(8) % 2
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0, callbacks=[TrainingMetrics(meter_provider=provider)])
    otel_drift.instrument_model(model, meter_provider=provider).predict(x, verbose=0)
    yield [one for one in registry.collect() if one.name.startswith("keras_")]
    otel_drift.uninstrument_model(model)
    provider.shutdown()


def series(exported: list[Metric]) -> set[str]:
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in exported}


def series_and_labels_of(text: str) -> set[str]:
    """Every `keras_...` of a text; ``a_{b,c}`` is short for ``a_b`` and ``a_c``."""
    found = set()
    for start, braces, end in re.findall(r"(?<![-\w])(keras_\w*)(?:\{([\w,]+)\}(\w*))?", text):
        found |= {f"{start}{middle}{end}" for middle in braces.split(",")}
    return found


def test_every_series_is_in_the_readme(exported):
    (table,) = re.findall(r"^\| series \|.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    first_cells = "\n".join(line.split("|")[1] for line in table.splitlines())
    assert len(series(exported)) > 20
    assert series_and_labels_of(first_cells) == series(exported)


def test_every_series_and_label_of_the_readme_exists(exported):
    labels = {name for metric in exported for sample in metric.samples for name in sample.labels}
    assert series_and_labels_of(README) <= series(exported) | labels


def test_what_rules_and_dashboards_read_is_exported(exported):
    assert {name.value for name in Exported} <= series(exported)


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


@pytest.mark.parametrize(("results", "lines"), [("dependence.md", 26), ("flights.md", 8)])
def test_the_page_on_traffic_shows_the_results_of_the_benchmarks(results, lines):
    measured = (ROOT / "benchmarks" / "results" / results).read_text()
    shown = (ROOT / "docs" / "traffic.md").read_text()
    table = [line for line in measured.splitlines() if line.startswith("|")]
    assert len(table) >= lines
    for line in table:
        assert line in shown


@pytest.mark.parametrize(
    ("results", "lines"), [("fleet_detection.md", 14), ("fleet_service.md", 4)]
)
def test_the_page_on_the_fleet_shows_the_results_of_the_benchmarks(results, lines):
    measured = (ROOT / "benchmarks" / "results" / results).read_text()
    shown = (ROOT / "docs" / "fleet.md").read_text()
    table = [line for line in measured.splitlines() if line.startswith("|")]
    assert len(table) == lines
    for line in table:
        assert line in shown


def test_every_option_of_the_fleets_detector_is_on_its_page(capsys):
    with pytest.raises(SystemExit):
        main(["fleet", "--help"])
    page = (ROOT / "docs" / "fleet.md").read_text()
    for option in re.findall(r"--[a-z-]+", capsys.readouterr().out):
        assert option in page or option == "--help"


@pytest.mark.parametrize(
    ("chapter", "lines"), [("Where the units are known", 6), ("What was tried and left", 22)]
)
def test_what_the_page_on_traffic_shows_of_the_study_stands_in_its_results(chapter, lines):
    measured = (ROOT / "benchmarks" / "results" / "dependence_study.md").read_text()
    page = (ROOT / "docs" / "traffic.md").read_text()
    shown = page.split(f"## {chapter}")[1].split("\n## ")[0]
    table = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(table) == lines
    for line in table:
        assert line in measured


def test_the_reference_is_what_the_code_says():
    assert make_reference.PAGE.read_text() == make_reference.page()  # python -m docs.make_reference


def test_the_reference_has_every_series(exported):
    found = {make_reference.series(*metric[:3]) for metric in make_reference.metrics()}
    assert series(exported) <= found


PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_every_alert_of_the_pages_exists():
    alerts = {alarm.name for alarm in ALARMS}
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert set(headings) == alerts


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_option_and_command_of_a_page_exists(page):
    text = page.read_text()
    options = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    named = set(re.findall(r"OTEL_PYTHON_KERAS_[A-Z_]+", text))
    assert named <= options
    commands = {name: rows for name, _, rows in make_reference.commands()}
    joined = text.replace("\\\n", " ")
    for name, arguments in re.findall(r"^\$ otel-drift ([\w-]+)(.*)$", joined, re.MULTILINE):
        known = {one for option, _ in commands[name] for one in option.split(", ")}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", arguments.split("|")[0])) <= known


RUNNABLE = {
    f"{page.stem}-{number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    if "import" in block and not re.search(r"\bmodel\b", block)
}


@pytest.mark.parametrize("name", RUNNABLE)
def test_code_of_the_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Baseline.from_counts([900] * 10).save("digits.baseline.json")
    exec(compile(RUNNABLE[name], name, "exec"), {"__name__": "page"})


def test_every_page_is_on_the_site():
    places = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(places) == [page.name for page in PAGES]
