"""The dashboards' files: equal to what the code makes, valid, complete, and laid out well."""

import doctest
import itertools
import re
from types import ModuleType
from typing import Any

import pytest
import yaml

import grafana
from grafana import expressions, look
from grafana.__main__ import DASHBOARDS, FOLDER, rendered
from tests.grafana import schema
from tests.grafana.board import NAMES, Panel, load, panels
from tests.grafana.prometheus_server import ROOT

EVERY_PANEL = list(panels())
COLOURS = {
    value for value in vars(look).values() if isinstance(value, str) and value.startswith("#")
}


def name_of(panel: Panel) -> str:
    return f"{panel.dashboard}: {panel.title}"


every_panel = pytest.mark.parametrize("panel", EVERY_PANEL, ids=name_of)
every_dashboard = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_json_is_what_the_code_makes(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == rendered(name), "run: python -m grafana"


@pytest.mark.parametrize("module", [grafana, look, expressions], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


def test_there_are_no_other_dashboards() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(DASHBOARDS)


@every_dashboard
def test_the_schema_knows_every_field(name: str) -> None:
    document = load(name)
    beside_schema = {"step", "titleFormat", "textFormat", "tagKeys"}
    for annotation in document["annotations"].get("list", []):
        for field in beside_schema:
            del annotation[field]
    written = schema.written(schema.read(document))
    for panel in written["panels"]:  # heatmaps get an empty one when they are written
        if panel.get("fieldConfig", {}).get("defaults", {}).get("custom") == {}:
            del panel["fieldConfig"]["defaults"]["custom"]
    for panel in document["panels"]:
        if panel.get("fieldConfig", {}).get("defaults", {}).get("custom") == {}:
            del panel["fieldConfig"]["defaults"]["custom"]
    assert written == document


@every_dashboard
def test_every_field_has_the_type_of_the_schema(name: str) -> None:
    errors = schema.type_errors(schema.read(load(name)))
    # The package reads transformations but leaves them as they are.
    assert [error for error in errors if ".transformations:" not in error] == []


def test_the_type_check_finds_wrong_types() -> None:
    document = load("models")
    document["panels"][1]["gridPos"]["w"] = "wide"
    document["refresh"] = 10
    found = schema.type_errors(schema.read(document))
    assert {error.split(":")[0] for error in found} >= {".refresh", ".panels[1].grid_pos.w"}


@every_dashboard
def test_panels_fill_their_rows_and_do_not_overlap(name: str) -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in load(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert (x, y) not in cells, f"{panel['title']} covers {cells[x, y]}"
            cells[x, y] = panel["title"]


@every_dashboard
def test_identifiers_are_unique(name: str) -> None:
    document = load(name)
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert document["uid"].startswith("otel-drift-")
    assert len(document["uid"]) <= 40


@every_panel
def test_a_panel_says_what_it_shows_and_loads_from_two_queries_at_most(panel: Panel) -> None:
    assert len(panel.json["description"]) > 40
    assert 1 <= len(panel.queries) <= 2
    assert len({query["refId"] for query in panel.queries}) == len(panel.queries)
    assert panel.json["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@every_panel
def test_a_panel_says_when_there_is_nothing_to_show(panel: Panel) -> None:
    assert panel.json["fieldConfig"]["defaults"]["noValue"]


@every_panel
def test_an_axis_has_a_unit(panel: Panel) -> None:
    if panel.json["type"] == "timeseries":
        assert panel.json["fieldConfig"]["defaults"]["unit"]
    if panel.json["type"] == "heatmap":
        axis = panel.json["options"]["yAxis"]
        assert axis.get("unit") or axis.get("axisLabel")


@every_panel
def test_colours_are_those_that_all_eyes_tell_apart(panel: Panel) -> None:
    text = str(panel.json)
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", text)) <= COLOURS
    modes = set(re.findall(r"'mode': '(palette[^']*|continuous[^']*)'", text))
    assert not modes, "palettes hold red beside green"
    assert not re.search(r"'(red|green|yellow|semi-dark-\w+|dark-\w+|light-\w+)'", text)


def recorded() -> set[str]:
    """List the records of the rules."""
    return {
        rule["record"]
        for path in (ROOT / "prometheus/rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


# Raw series that no record holds: one replica's p-values, histograms whose exemplars are wanted,
# and what is split by replica or by training run.
RAW = {
    "ALERTS",
    "keras_prediction_drift_p_value",
    "keras_prediction_drift_test_p_value_bucket",
    "keras_predict_duration_seconds_bucket",
    "keras_predict_samples_total",
}


def series_names(expr: str) -> set[str]:
    plain = re.sub(r'"[^"]*"', '""', expr)
    found = re.findall(
        r"(?:output|class|model|version|replica):[a-z_]+:\w+|\bkeras_\w+(?=[{[])", plain
    )
    return {*found, *re.findall(r"\bALERTS\b", plain)}


@every_panel
def test_queries_read_records_wherever_there_is_one(panel: Panel) -> None:
    for query in panel.queries:
        for name in series_names(query["expr"]):
            assert name in recorded() | RAW or name.startswith("keras_training_"), name


@every_dashboard
def test_links_lead_to_dashboards_that_are_there(name: str) -> None:
    uids = {load(other)["uid"] for other in NAMES}
    for uid in re.findall(r"/d/([\w-]+)", str(load(name))):
        assert uid in uids


def test_the_latency_heatmap_asks_for_exemplars() -> None:
    (panel,) = (one for one in EVERY_PANEL if one.title == "Duration of calls")
    assert panel.queries[0]["exemplar"] is True
    source = datasource()
    (destination,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "trace_id"
    assert destination["url"] == "${TRACE_URL}$${__value.raw}"


def datasource() -> dict[str, Any]:
    path = ROOT / "grafana/provisioning/datasources/prometheus.yaml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    return source


def test_provisioning_names_what_the_dashboards_use() -> None:
    assert datasource()["type"] == "prometheus"
    path = ROOT / "grafana/provisioning/dashboards/otel_drift.yaml"
    (provider,) = yaml.safe_load(path.read_text())["providers"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    mounts = dict(
        volume.removesuffix(":ro").split(":")
        for volume in compose["services"]["grafana"]["volumes"]
    )
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
