"""What the doctor finds wrong, each on a real socket, file, server or package's metadata."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from otel_drift import Baseline
from otel_drift.cli import main
from otel_drift.configuration import prometheus_rules
from otel_drift.doctor import prometheus
from otel_drift.doctor.endpoint import look_at_endpoint
from otel_drift.doctor.environment import (
    look_at_environment,
    look_at_exporter,
    look_at_instrumentor,
    look_at_options,
)
from otel_drift.doctor.errors import ERRORS, REMEDIES
from otel_drift.doctor.packages import look_at_backend, look_at_package, look_at_program
from otel_drift.doctor.prometheus import look_at_prometheus
from otel_drift.fleet.prometheus_api import PrometheusApi
from otel_drift.telemetry.failures import ERROR_TYPES

DIGITS = {"keras_model_name": "digits", "keras_model_version": "7"}
CLASS = {**DIGITS, "keras_model_output": "class"}
GROUPS = ("keras_drift", "keras_drift_effects", "keras_drift_long", "keras_serving")


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port that is ours, so nobody else listens there, and where we do not listen either."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def installed(folder, name, version):
    """Let a package be found in another version, by metadata like an installer's."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def states(findings):
    return [found.state for found in findings]


# The environment.


def test_another_keras_is_wrong(tmp_path, monkeypatch):
    assert look_at_package("keras >= 3.0, < 4", "").state == "ok"
    installed(tmp_path, "keras", "2.15.0")
    monkeypatch.syspath_prepend(tmp_path)
    found = look_at_package("keras >= 3.0, < 4", "pip install it")
    assert (found.state, found.remedy) == ("wrong", "pip install it")
    assert "2.15.0" in found.what


def test_the_backend_is_what_keras_takes(tmp_path):
    home = {"KERAS_HOME": str(tmp_path)}
    assert look_at_backend(home).what.startswith("backend tensorflow ")
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert look_at_backend(home).what.startswith("backend jax ")
    assert look_at_backend({**home, "KERAS_BACKEND": "torch"}).what.startswith("backend torch ")
    (tmp_path / "keras.json").write_text("[")
    assert look_at_backend(home).what.startswith("backend tensorflow ")
    assert look_at_backend({"KERAS_BACKEND": "theano"}).state == "wrong"
    assert look_at_backend({"KERAS_BACKEND": "openvino"}).remedy.startswith("pip install openvino")


def test_the_program_is_of_this_python_or_a_path_has_been_set(tmp_path, monkeypatch):
    assert look_at_program({}).state == "ok"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at_program({}).state == "wrong"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "opentelemetry-instrument").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert look_at_program({}).state == "unknown"
    folder = "/otel-auto-instrumentation-python/opentelemetry/instrumentation/auto_instrumentation"
    assert look_at_program({"PYTHONPATH": folder}).state == "ok"


@pytest.mark.parametrize("disabled", ["keras", "requests, keras", "*"])
def test_an_instrumentor_that_is_disabled_is_wrong(disabled):
    found = look_at_instrumentor({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled})
    assert found.state == "wrong"
    assert look_at_instrumentor({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests"}).state == "ok"


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_SDK_DISABLED": "True"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_PYTHON_KERAS_TOLERANCE": "20%"},
        {"OTEL_PYTHON_KERAS_BASELNE": "/models"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_setting_that_stops_series_is_wrong(settings, listening):
    healthy = {
        "KERAS_BACKEND": "torch",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listening}",
    }
    assert set(states(look_at_environment(healthy))) == {"ok"}
    wrong = [found for found in look_at_environment(healthy | settings) if found.state == "wrong"]
    assert len(wrong) == 1
    assert next(iter(settings)) in wrong[0].what
    assert wrong[0].remedy


def test_a_baseline_is_read(tmp_path):
    def look(path):
        return list(look_at_options({"OTEL_PYTHON_KERAS_BASELINE": str(path)}))

    good = Baseline.uniform(3).save(tmp_path / "digits.baseline.json")
    assert states(look(good)) == ["ok"]
    assert states(look("first:1000")) == ["ok"]
    assert "is not there" in look(tmp_path / "no.baseline.json")[0].what
    (tmp_path / "letters.baseline.json").write_text(good.read_text()[:50])
    assert states(look(tmp_path)) == ["ok", "wrong"]
    (tmp_path / "empty").mkdir()
    assert states(look(tmp_path / "empty")) == ["wrong"]


def test_an_endpoint_where_nothing_listens_is_wrong(listening, closed_port):
    def look(endpoint, **more):
        return look_at_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more})

    assert look(f"127.0.0.1:{listening}").state == "ok"
    refused = look(f"http://127.0.0.1:{closed_port}")
    assert refused.state == "wrong"
    assert "refused" in refused.what
    assert "no such host" in look("http://nowhere.invalid:4317").what
    assert "must be an address" in look("http://127.0.0.1:port").what
    http = {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"}
    assert "must begin with" in look(f"127.0.0.1:{listening}", **http).what
    metrics = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{listening}/v1/metrics"}
    assert look(f"http://127.0.0.1:{closed_port}", **http, **metrics).state == "ok"


def test_other_exporters_need_no_endpoint():
    assert states(look_at_exporter({"OTEL_METRICS_EXPORTER": "prometheus"})) == ["unknown"]


def test_a_password_in_an_endpoint_is_not_shown(closed_port):
    for endpoint in (f"http://me:secret@127.0.0.1:{closed_port}", "http://me:secret@h:port"):
        found = look_at_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        assert found.state == "wrong"
        assert "secret" not in found.what + found.remedy


def test_no_framework_is_imported(closed_port):
    program = (
        "import sys; from otel_drift.cli import main; main(['doctor']);"
        "sys.exit(bool({'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Prometheus.


def rule(name, **more):
    return {"name": name, "health": "ok", "lastError": "", **more}


class Server(ThreadingHTTPServer):
    """Answers like a Prometheus with one healthy model, until a test changes an answer."""

    def __init__(self):
        self.vectors = {
            "vector(1)": [({}, 1)],
            prometheus.OUTPUTS: [(CLASS, 1234)],
            prometheus.WITH_BASELINE: [(CLASS, 1)],
            prometheus.AGES: [(DIGITS, 10)],
            "up": [({"job": "collector", "instance": "a:1"}, 1)],
        }
        self.groups = {name: [rule("record")] for name in GROUPS}
        self.groups["keras_drift"].append(rule("DriftDetected", state="inactive"))
        self.raw = None
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                result = [
                    {"metric": labels, "value": [0, str(value)]}
                    for labels, value in server.vectors.get(body["query"][0], [])
                ]
                self.answer({"resultType": "vector", "result": result})

            def do_GET(self):
                groups = [{"name": name, "rules": one} for name, one in server.groups.items()]
                self.answer({"groups": groups})

            def answer(self, data):
                status, content = server.raw or (
                    200,
                    json.dumps({"status": "success", "data": data}).encode(),
                )
                if status is None:
                    server.released.wait(60)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def look(self, timeout=30):
        return look_at_prometheus(PrometheusApi(self.url, timeout=timeout))

    def wrong(self):
        return [found for found in self.look() if found.state == "wrong"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with serving(Server()) as running:
        yield running


def test_a_healthy_server_is_all_ok(server, capsys):
    assert main(["doctor", "--prometheus", server.url]) == 0
    shown = capsys.readouterr().out
    assert "model 'digits' 7, output 'class': 1,234 predictions, has a baseline" in shown
    assert {line.split()[0] for line in shown.splitlines()} == {"ok"}


def change(server, expression, *answer):
    server.vectors[expression] = list(answer)


ERROR = {"keras_model_name": "digits", "error_type": "series_limit"}
WRONGS = {
    "no models": (
        lambda server: server.vectors.update({prometheus.OUTPUTS: []}),
        "no series keras_predictions_total",
    ),
    "no baseline": (
        lambda server: change(server, prometheus.WITH_BASELINE),
        "no baseline",
    ),
    "old": (lambda server: change(server, prometheus.AGES, (DIGITS, 400)), "is 400 s old"),
    "come and go": (
        lambda server: change(server, prometheus.TIMES_GONE, (DIGITS, 9)),
        "vanished 9 times",
    ),
    "errors": (
        lambda server: change(server, ERRORS, (ERROR, 3)),
        "3 errors of the instrumentation, series_limit",
    ),
    "rules missing": (
        lambda server: server.groups.pop("keras_drift_long"),
        "rules keras_drift_long are not there",
    ),
    "rules fail": (
        lambda server: server.groups["keras_serving"].append(
            rule("OwnRule", health="err", lastError="many-to-many")
        ),
        "OwnRule: many-to-many",
    ),
    "alert": (
        lambda server: server.groups["keras_drift"].append(rule("DriftDetected", state="firing")),
        "alert DriftDetected fires",
    ),
    "target down": (
        lambda server: change(server, "up", ({"job": "collector", "instance": "a:1"}, 0)),
        "1 of 1 scrape targets are down: collector a:1",
    ),
}


@pytest.mark.parametrize("name", WRONGS)
def test_each_wrong_state_is_one_line_with_what_to_do(server, name, capsys):
    make_wrong, what = WRONGS[name]
    make_wrong(server)
    (found,) = server.wrong()
    assert what in found.what
    assert found.remedy
    assert main(["doctor", "--prometheus", server.url, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    (told,) = (one for one in shown if one["state"] == "wrong")
    assert told == {
        "state": "wrong",
        "subject": found.subject,
        "what": found.what,
        "remedy": found.remedy,
    }


def test_a_model_without_classes_may_be_a_regression(server):
    change(server, prometheus.WITHOUT_OUTPUT, (DIGITS, 5))
    (found,) = (one for one in server.look() if one.state != "ok")
    assert found.state == "unknown"
    assert "5 rows predicted, none counted by class" in found.what


def test_alerts_of_others_are_not_ours(server):
    server.groups["theirs"] = [rule("DiskFull", state="firing", lastError="x", health="err")]
    assert server.wrong() == []


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        ((200, b"<html>Welcome</html>"), "address of Prometheus itself"),
        ((404, b"not here"), "address of Prometheus itself"),
        ((401, b"who?"), "OTEL_DRIFT_PROMETHEUS_HEADERS"),
        ((None, b""), "overloaded"),
    ],
    ids=["nonsense", "404", "401", "slow"],
)
def test_a_server_that_does_not_answer_as_prometheus_does(server, raw, remedy):
    server.raw = raw
    (found,) = server.look(timeout=0.2 if raw[0] is None else 30)
    assert found.state == "wrong"
    assert remedy in found.remedy


def test_a_server_without_rules_is_looked_at_as_far_as_it_goes(server):
    server.groups = {"broken": None}
    found = server.look()
    assert [one.subject for one in found if one.state == "unknown"] == ["prometheus"]
    assert "targets" in {one.subject for one in found if one.state == "ok"}


def test_an_address_that_is_none_cannot_be_carried_out(closed_port, capsys):
    assert main(["doctor", "--prometheus", "localhost:9090"]) == 2
    assert main(["doctor", "--prometheus", f"http://me:secret@127.0.0.1:{closed_port}"]) == 1
    shown = capsys.readouterr()
    assert "must begin with http" in shown.err
    assert "secret" not in shown.out + shown.err


def test_what_is_looked_for_is_what_there_is():
    assert set(REMEDIES) == set(ERROR_TYPES)
    assert all(f"- name: {name}\n" in prometheus_rules() for name in GROUPS)
    assert prometheus_rules().count("  - name: ") == len(GROUPS)
