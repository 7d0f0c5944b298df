"""compose.yaml: pinned, closed to the network, and each command tried with the real program.

What is not tried here for want of a Docker engine: the images themselves.
"""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana.prometheus_server import (
    BIN,
    ROOT,
    Ports,
    await_true,
    running,
)

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT_HERE = "otel_drift-example"


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        if service["image"] != BUILT_HERE:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_versions_are_those_that_are_built_and_tested_here() -> None:
    prometheus = (ROOT / "prometheus/tools/prometheus/go.mod").read_text()
    (module,) = re.findall(r"github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)", prometheus)
    major, minor, patch = (int(part) for part in module)
    assert SERVICES["prometheus"]["image"] == f"prom/prometheus:v{major}.{minor}.{patch}"
    alertmanager = (ROOT / "prometheus/tools/alertmanager/go.mod").read_text()
    (version,) = re.findall(r"github.com/prometheus/alertmanager (v[\d.]+)", alertmanager)
    assert SERVICES["alertmanager"]["image"] == f"prom/alertmanager:{version}"
    builder = (ROOT / "collector/builder-config.yaml").read_text()
    (version,) = set(re.findall(r"receiver/otlpreceiver v([\d.]+)", builder))
    assert SERVICES["collector"]["image"].endswith(f"-contrib:{version}")


def test_ports_are_published_on_localhost_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)


def test_all_share_one_network_so_that_localhost_means_the_same_to_all() -> None:
    assert "network_mode" not in SERVICES["collector"]
    for name, service in SERVICES.items():
        assert name == "collector" or service["network_mode"] == "service:collector"
        assert name == "collector" or "ports" not in service


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, *mode = volume.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"], source
            else:
                assert source in COMPOSE["volumes"]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    lines = SERVICES["example"]["build"]["dockerfile_inline"].splitlines()
    copied = [path for line in lines if line.startswith("COPY") for path in line.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path}" in allowed
    script = SERVICES["example"]["command"][2]
    assert (ROOT / script).is_file()


def test_nobody_can_log_in_to_grafana() -> None:
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_grafana_is_given_every_variable_of_its_provisioning() -> None:
    text = (ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))
    assert variables == {"PROMETHEUS_URL", "TRACE_URL"}
    assert variables <= SERVICES["grafana"]["environment"].keys()


def command_here(service: str, folder: Path, ports: dict[str, int]) -> list[str]:
    """Translate a service's command: the container's paths to ours, its ports to free ones."""
    translated = []
    for argument in SERVICES[service]["command"]:
        for volume in SERVICES[service]["volumes"]:
            source, target, *_ = volume.split(":")
            here = ROOT / source if source.startswith("./") else folder / "data"
            argument = argument.replace(f"={target}", f"={here}")
        argument = argument.replace("=/alertmanager", f"={folder / 'data'}")
        for address, port in ports.items():
            argument = argument.replace(address, f"127.0.0.1:{port}")
        translated.append(argument)
    return translated


@pytest.mark.pipeline
def test_the_collector_takes_its_configuration() -> None:
    (option,) = SERVICES["collector"]["command"]
    here = option.replace("/etc/otelcol/config.yaml", str(ROOT / "collector/config.yaml"))
    done = subprocess.run(
        [BIN / "otelcol", "validate", here],
        env={**SERVICES["collector"]["environment"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.pipeline
def test_prometheus_runs_with_its_command(tmp_path: Path) -> None:
    port = Ports.free().prometheus
    command = command_here("prometheus", tmp_path, {"0.0.0.0:9090": port})
    url = f"http://127.0.0.1:{port}"
    with (
        running([BIN / "prometheus", *command], tmp_path / "log", ready_at=f"{url}/-/ready"),
        urllib.request.urlopen(f"{url}/api/v1/rules") as answer,
    ):
        groups = json.load(answer)["data"]["groups"]
    assert {group["name"] for group in groups} >= {"keras_drift", "keras_drift_long"}


@pytest.mark.pipeline
def test_alertmanager_runs_with_its_command(tmp_path: Path) -> None:
    port = Ports.free().alertmanager
    command = command_here("alertmanager", tmp_path, {"0.0.0.0:9093": port})
    ready = f"http://127.0.0.1:{port}/-/ready"
    with running([BIN / "alertmanager", *command], tmp_path / "log", ready_at=ready):
        pass


def test_the_webhook_prints_what_it_is_sent(tmp_path: Path) -> None:
    *options, code = SERVICES["webhook"]["command"][1:]
    port = Ports.free().webhook
    assert f"http://127.0.0.1:{9095}/" in (ROOT / "prometheus/alertmanager.yml").read_text()
    code = code.replace("9095", str(port))
    log = tmp_path / "log"
    alert = {
        "status": "firing",
        "labels": {"alertname": "DriftDetected"},
        "annotations": {"description": "digits: drifted"},
    }
    body = json.dumps({"alerts": [alert]}).encode()

    def taken() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", body, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    with running([sys.executable, *options, code], log, {"PYTHONPATH": str(ROOT)}):
        await_true(taken, "the webhook takes an alert", 30)
        await_true(lambda: "digits: drifted" in log.read_text(), "it is printed", 30)
    assert log.read_text().startswith("firing DriftDetected")
