"""What the installed package hands out is what the repository has, and the real tools take it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.build import build_wheel

from examples.demo.stack import BIN
from otel_drift.cli import main

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "prometheus/rules").glob("*.yml"))
GROUPS = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
DASHBOARDS = {path.name: path.read_text() for path in (ROOT / "grafana/dashboards").iterdir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        wheel = build_wheel(str(folder))
    finally:
        os.chdir(before)
    with zipfile.ZipFile(folder / wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "otel_drift.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_rules_are_one_file_that_promtool_takes(installed: Path, tmp_path: Path):
    path = tmp_path / "rules.yml"
    path.write_text(run(installed, "rules"))
    assert yaml.safe_load(path.read_text())["groups"] == GROUPS
    subprocess.run([BIN / "promtool", "check", "rules", path], check=True, capture_output=True)


def test_rules_for_the_operator(installed: Path):
    options = ("--format", "kubernetes", "--label", "release=prometheus", "--label", "team=ml: a")
    made = yaml.safe_load(run(installed, "rules", *options))
    assert made["apiVersion"] == "monitoring.coreos.com/v1"
    assert made["kind"] == "PrometheusRule"
    labels = {"release": "prometheus", "team": "ml: a"}
    assert made["metadata"] == {"name": "otel-drift", "labels": labels}
    assert made["spec"] == {"groups": GROUPS}


def test_dashboards_are_written(installed: Path, tmp_path: Path):
    said = run(installed, "dashboards", "--directory", str(tmp_path / "new"))
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == DASHBOARDS
    assert len(said.splitlines()) == len(DASHBOARDS) == 3


def test_dashboards_for_the_sidecar(installed: Path):
    made = json.loads(run(installed, "dashboards", "--format", "kubernetes"))
    data: dict[str, str] = {}
    for item in made["items"]:
        assert item["kind"] == "ConfigMap"
        assert item["metadata"]["labels"] == {"grafana_dashboard": "1"}
        data |= item["data"]
        # What Kubernetes allows in an object.
        assert len(json.dumps(item)) < 1_000_000
    assert data == DASHBOARDS
    names = {item["metadata"]["name"] for item in made["items"]}
    assert names == {"otel-drift-models", "otel-drift-one-model", "otel-drift-training"}


@pytest.mark.parametrize(
    ("command", "source"),
    [
        ("collector-config", "collector/config.yaml"),
        ("prometheus-config", "prometheus/prometheus.yml"),
        ("alertmanager-config", "prometheus/alertmanager.yml"),
    ],
)
def test_configurations_are_those_of_the_repository(installed: Path, command, source):
    assert run(installed, command) == (ROOT / source).read_text()


def test_a_checkout_hands_out_the_same(installed: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["rules"]) == 0
    assert capsys.readouterr().out == run(installed, "rules")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rules", "--label", "a=b"], "--label needs --format kubernetes"),
        (["rules", "--format", "kubernetes", "--label", "a"], "label 'a': must be NAME=VALUE"),
        (["dashboards"], "give --directory, or --format kubernetes"),
    ],
)
def test_misuse_is_said(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
