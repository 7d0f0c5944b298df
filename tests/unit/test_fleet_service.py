"""The service of the fleet's detector, against a server that answers whatever a test wants."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_drift import Baseline
from otel_drift.cli import main
from otel_drift.fleet.counters import EXPECTED, Output, expectations, predictions
from otel_drift.fleet.fleet import Fleet
from otel_drift.fleet.prometheus_api import PrometheusApi, PrometheusError, Sample
from otel_drift.fleet.reference import exported_reference
from otel_drift.fleet.service import Service
from otel_drift.fleet.telemetry import FleetTelemetry, provider_of

DIGITS = Output("digits", "7", "output")
LABELS = {
    "keras_model_name": "digits",
    "keras_model_version": "7",
    "keras_model_output": "output",
}
Reply = tuple[int, bytes]


class FakePrometheus(ThreadingHTTPServer):
    """Answers with what `reply` gives for an expression and a time."""

    def __init__(self) -> None:
        self.reply: Callable[[str, float], Reply] = lambda *_: vector([])
        self.headers: list[dict[str, str]] = []
        self.grown: dict[str, int] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                fake.headers.append({k.lower(): v for k, v in self.headers.items()})
                status, content = fake.reply(body["query"][0], float(body["time"][0]))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", content.decode())
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                fake.headers.append({k.lower(): v for k, v in self.headers.items()})
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def healthy(self, expression: str, _: float) -> Reply:
        """Give the baseline of a model, and what its classes have grown by."""
        if "__name__" in expression:
            return vector(gauges(Baseline.uniform(4)))
        return vector([({**LABELS, "keras_prediction_class": k}, n) for k, n in self.grown.items()])


def vector(rows: list[tuple[dict[str, str], float]], **more: Any) -> Reply:
    result = [{"metric": labels, "value": [0, str(value)]} for labels, value in rows]
    data = {"resultType": "vector", "result": result}
    return 200, json.dumps({"status": "success", "data": data, **more}).encode()


def gauges(baseline: Baseline, threshold: float = 7.0) -> list[tuple[dict[str, str], float]]:
    reference = exported_reference(baseline)
    rows = []
    edges = (reference.proportions, reference.lower, reference.upper)
    for name, numbers in zip(EXPECTED[:3], edges, strict=True):
        for k, number in zip(reference.classes, numbers.tolist(), strict=True):
            rows.append(({"__name__": name, **LABELS, "keras_prediction_class": k}, number))
    if reference.size is not None:
        rows.append(({"__name__": "keras_prediction_baseline_size", **LABELS}, reference.size))
    if reference.design_effect is not None:
        name = "keras_prediction_baseline_design_effect"
        rows.append(({"__name__": name, **LABELS}, reference.design_effect))
    rows.append(({"__name__": "keras_prediction_drift_threshold", **LABELS}, threshold))
    return rows


def samples(rows: list[tuple[dict[str, str], float]]) -> list[Sample]:
    return [Sample(labels, value) for labels, value in rows]


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with FakePrometheus() as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.01,))
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


EVEN = {"0": 100, "1": 100, "2": 100, "3": 100}


@pytest.mark.parametrize(
    ("reply", "message", "kind"),
    [
        ((401, b"who are you?"), "401 Unauthorized: who are you?", "401"),
        ((503, b"starting\nup"), "503 Service Unavailable: starting up", "503"),
        (
            (200, b"<html>hello</html>"),
            "not an answer of the API of Prometheus: '<html>",
            "nonsense",
        ),
        ((200, b"\xff\xfe"), "not an answer of the API of Prometheus", "nonsense"),
        ((200, b"[]"), "not an answer of the API", "nonsense"),
        ((200, b'{"status": "error", "data": {}}'), "not an answer of the API", "nonsense"),
        (
            (200, b'{"status":"success","data":{"resultType":"scalar","result":[0,"1"]}}'),
            "not an answer of the API",
            "nonsense",
        ),
        (
            (200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":3}]}}'),
            "not an answer of the API",
            "nonsense",
        ),
        ((200, b"[" * 100_000), "not an answer of the API", "nonsense"),
    ],
)
def test_whoever_is_no_prometheus_is_one_clear_error(server, reply, message, kind):
    server.reply = lambda *_: reply
    with pytest.raises(PrometheusError) as raised:
        PrometheusApi(server.url).query("up", 0.0)
    assert message in str(raised.value)
    assert raised.value.kind == kind
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_server_that_is_not_there_or_too_slow(server):
    with pytest.raises(PrometheusError, match="refused"):
        PrometheusApi("http://127.0.0.1:1").query("up", 0.0)
    answered = threading.Event()
    server.reply = lambda *_: (answered.wait(10) and None) or vector([])
    with pytest.raises(PrometheusError, match="no answer in time"):
        PrometheusApi(server.url, timeout=0.05).query("up", 0.0)
    answered.set()


@pytest.mark.parametrize("url", ["localhost:9090", "ftp://a", "http://", "me:secret@host", ""])
def test_what_is_no_url_is_said_without_its_password(url):
    with pytest.raises(ValueError, match="must begin with http:// or https://") as raised:
        PrometheusApi(url)
    assert "secret" not in str(raised.value)


def test_who_asks_is_sent_and_never_shown_or_passed_on(server, monkeypatch, capsys):
    secret = f"http://me:s3cr3t%40@127.0.0.1:{server.server_port}"
    server.reply = lambda *_: (403, b"no")
    monkeypatch.setenv("OTEL_DRIFT_PROMETHEUS_HEADERS", "X-Scope-OrgID=shop")
    assert main(["fleet", "--prometheus", secret, "--once"]) == 2
    said = capsys.readouterr()
    assert "403" in said.err
    assert "s3cr3t" not in said.err + said.out
    sent = server.headers[0]
    assert base64.b64decode(sent["authorization"].split()[1]) == b"me:s3cr3t@"
    assert sent["x-scope-orgid"] == "shop"
    with FakePrometheus() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.reply = lambda *_: (302, f"{other.url}/api/v1/query".encode())
        with pytest.raises(PrometheusError, match="404"):
            PrometheusApi(secret).query("up", 0.0)
        (sent,) = other.headers
        assert "authorization" not in sent
        other.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("before", [0, 190])
def test_what_a_server_repeats_of_who_asks_is_not_shown(server, status, before):
    def reply(*_: Any) -> Reply:
        return status, b"x" * before + json.dumps(server.headers[-1]).encode()

    server.reply = reply
    url = f"http://me:PASSWORD@127.0.0.1:{server.server_port}"
    for api in (
        PrometheusApi(url),
        PrometheusApi(server.url, {"authorization": "Bearer TOKEN-TOKEN"}),
        PrometheusApi(server.url, {"x-key": "TOKEN-TOKEN"}),
    ):
        with pytest.raises(PrometheusError) as raised:
            api.query("up", 0.0)
        said = str(raised.value)
        encoded = base64.b64encode(b"me:PASSWORD").decode()
        assert not any(one in said for one in ("PASSWORD", "TOKEN", encoded, encoded[:6])), said


def test_what_is_no_header_is_said_without_showing_it(monkeypatch, capsys, caplog, server):
    server.reply = lambda *_: (403, b"no")
    monkeypatch.setenv("OTEL_DRIFT_PROMETHEUS_HEADERS", "Bearer SECRET,X-Scope-OrgID=shop")
    assert main(["fleet", "--prometheus", server.url, "--once"]) == 2
    assert server.headers[0]["x-scope-orgid"] == "shop"
    assert "OTEL_DRIFT_PROMETHEUS_HEADERS: 1 of its headers left out" in caplog.text
    said = capsys.readouterr()
    assert "SECRET" not in said.err + said.out + caplog.text


def test_a_host_that_is_none_is_said_without_the_password():
    with pytest.raises(ValueError, match="is no address of a server") as raised:
        PrometheusApi("http://me:SECRET\N{ACCOUNT OF}@host")
    assert "SECRET" not in str(raised.value)


def test_nothing_is_invented_or_lost_while_nobody_answers(server):
    fleet = Fleet()
    service = Service(PrometheusApi(server.url), fleet)
    asked: list[str] = []

    def reply(expression: str, at: float) -> Reply:
        asked.append(expression)
        return server.healthy(expression, at)

    server.grown, server.reply = EVEN, reply
    service.read(1_000_005.0)
    for failing in ((500, b""), (200, b"nonsense"), vector([])):
        server.reply = lambda *_, failing=failing: failing
        for end in (1_000_020.0, 1_000_035.0):
            if failing[0] == 200 and failing[1].startswith(b"{"):
                service.read(end)  # an answer without any series: nobody is scraped
            else:
                with pytest.raises(PrometheusError):
                    service.read(end)
        assert service.newest == 1_000_005.0
        assert fleet.predictions == {DIGITS: 400}
    asked.clear()
    server.reply = reply
    service.read(1_000_050.0)
    assert "[45000ms]" in asked[0]  # all since the newest tick, at once
    assert fleet.predictions == {DIGITS: 800}
    service.read(1_000_050.0)
    assert fleet.predictions == {DIGITS: 800}


def test_a_baseline_that_cannot_be_read_delays_the_tick(server):
    """Not even predictions that were read already are taken then: they would come twice."""
    fleet = Fleet()
    service = Service(PrometheusApi(server.url), fleet)
    server.grown = EVEN
    server.reply = lambda e, at: (500, b"") if "__name__" in e else server.healthy(e, at)
    with pytest.raises(PrometheusError):
        service.read(1_000_005.0)
    assert (service.newest, fleet.predictions) == (None, {})


def test_a_question_that_is_too_large_is_asked_of_one_tick(server, caplog):
    service = Service(PrometheusApi(server.url), Fleet())
    server.grown, server.reply = EVEN, server.healthy
    service.read(1_000_005.0)
    server.reply = lambda e, at: (
        server.healthy(e, at) if "[15000ms]" in e or "__name__" in e else (422, b"too many samples")
    )
    service.read(1_000_305.0)
    assert service.newest == 1_000_305.0
    assert "19 ticks of 15 s are skipped" in caplog.text


def test_it_runs_through_an_outage_and_says_so_once(server, caplog, monkeypatch):
    monkeypatch.setattr("otel_drift.fleet.service.RETRY_SECONDS", 0.001)
    monkeypatch.setattr("otel_drift.fleet.service.LONGEST_RETRY_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    failures, stop = iter(range(5)), threading.Event()
    server.grown = EVEN

    def reply(expression: str, at: float) -> Reply:
        if next(failures, None) is not None:
            return 502, b"bad gateway"
        if "__name__" not in expression:
            stop.set()
        return server.healthy(expression, at)

    server.reply = reply
    reader = InMemoryMetricReader()
    service = Service(PrometheusApi(server.url), Fleet(), tick=1.0, delay=0.0)
    service.observer = FleetTelemetry(service.fleet, provider_of([reader]), lambda: service.newest)
    service.run(stop)
    assert caplog.text.count("502 Bad Gateway") == 1
    assert caplog.text.count("answers again") == 1
    assert service.fleet.predictions == {DIGITS: 400}
    found = exported(reader)
    assert found["otel_drift.fleet.ticks"] == {(): 1}
    assert found["otel_drift.fleet.ticks.skipped"] == {(): 0}
    assert found["otel_drift.fleet.query.duration"] == {("502",): 5, (): 3}


def test_what_is_exported(server):
    reader = InMemoryMetricReader()
    service = Service(PrometheusApi(server.url), Fleet())
    service.observer = FleetTelemetry(service.fleet, provider_of([reader]), lambda: service.newest)
    server.grown, server.reply = EVEN, server.healthy
    now = time.time()
    for at in range(-30, -5):
        service.read(now + 15 * at)
    quiet = exported(reader)
    of_digits = ("digits", "7", "output", "fleet")
    assert quiet["keras.prediction.drift.active"] == {of_digits: 0}
    assert quiet["keras.prediction.drift.threshold"] == {of_digits: 7.0}
    assert quiet["keras.prediction.drift.alarms"] == {of_digits: 0}
    assert quiet["otel_drift.fleet.predictions"] == {of_digits: 25 * 400}
    assert quiet["otel_drift.fleet.outputs"] == {("watched",): 1, ("refused",): 0}
    assert not quiet.keys() & {"keras.prediction.drift.onset", "keras.prediction.drift.share"}
    server.grown = {**EVEN, "3": 0}
    for at in range(-5, 0):
        service.read(now + 15 * at)
    found = exported(reader)
    assert found["keras.prediction.drift.active"] == {of_digits: 1}
    assert found["keras.prediction.drift.evidence"][of_digits] >= 7
    assert found["keras.prediction.drift.onset"][of_digits] == pytest.approx(now - 90, abs=15)
    assert found["keras.prediction.drift.share"][("digits", "7", "output", "fleet", "3")] < 0.05
    assert found["otel_drift.fleet.tick.time"] == {(): now - 15}
    # What is old is not exported: rules fall back on the replicas.
    service.newest -= 600
    assert "keras.prediction.drift.evidence" not in exported(reader)
    assert "otel_drift.fleet.predictions" in exported(reader)


def exported(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[Any, ...], float]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.unit != "1"
                for point in metric.data.data_points:
                    value = getattr(point, "value", None)
                    value = point.count if value is None else value
                    found.setdefault(metric.name, {})[tuple(point.attributes.values())] = value
    return found


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda rows: rows[:-1], None),
        (
            lambda rows: [row for row in rows if "upper" not in row[0]["__name__"]],
            "outside its band",
        ),
        (
            lambda rows: [row for row in rows if "proportion" not in row[0]["__name__"]],
            "no baseline",
        ),
        (lambda rows: [(labels, float("nan")) for labels, _ in rows], "different baselines"),
        (lambda rows: rows[1:], "add up to 0.75"),
        (lambda rows: [*rows[:-1], (rows[-1][0], 400.0)], "threshold 400.0"),
        (
            lambda rows: [
                (labels, value if labels.get("keras_prediction_class") != "0" else -1.0)
                for labels, value in rows
            ],
            "add up to",
        ),
    ],
)
def test_gauges_that_make_no_baseline_are_refused(make, reason, caplog):
    rows = samples(make(gauges(Baseline.uniform(4))))
    fleet = Fleet()
    fleet.expect(expectations(rows, rows), 0.0)
    fleet.tick({DIGITS: EVEN}, 0.0)
    if reason is None:
        assert not fleet.refused
        (found,) = fleet.findings(0.0)
        assert found.threshold == 7.0
    else:
        assert reason in fleet.refused[DIGITS]
        assert fleet.findings(0.0) == []
        assert caplog.text.count("is not watched") == 1


def test_the_exported_baseline_is_the_replicas(tmp_path):
    for baseline in (
        Baseline.uniform(7),
        Baseline.from_counts([1_000, 3, 0, 500], list("abcd")),
        Baseline.from_counts(range(1, 301)),  # a hundred classes have series of their own
    ):
        wanted = exported_reference(baseline)
        rows = samples(gauges(baseline))
        found = expectations(rows, rows)[DIGITS]
        assert set(found.reference.classes) == set(wanted.classes)
        order = [found.reference.classes.index(name) for name in wanted.classes]
        for gauge in ("proportions", "lower", "upper"):
            assert (
                getattr(found.reference, gauge)[order].tolist() == getattr(wanted, gauge).tolist()
            )
        if baseline.counts is not None:
            assert found.reference.counts[order].tolist() == wanted.counts.tolist()
        assert found.average_run_length == 1e7
    assert expectations(rows, rows)[DIGITS].reference.classes[-2:] == ("other", "invalid")


def test_what_is_no_count_is_nothing():
    def row(value: float, **labels: str) -> Sample:
        return Sample({**LABELS, "keras_prediction_class": "0", **labels}, value)

    strange = [row(value) for value in (float("nan"), float("inf"), -1.0, 0.5, 1e300)]
    strange += [row(1.0, keras_model_name=""), row(1.0, keras_prediction_class="")]
    assert predictions(strange) == {}
    assert predictions([*strange, row(3.0)]) == {DIGITS: {"0": 3}}


def test_a_new_baseline_starts_anew_and_a_lost_one_ends(caplog):
    fleet = Fleet()
    for baseline, at in ((Baseline.uniform(4), 0.0), (Baseline.from_counts([9, 9, 9, 9]), 15.0)):
        rows = samples(gauges(baseline))
        fleet.expect(expectations(rows, rows), at)
        fleet.tick({DIGITS: EVEN}, at)
        assert fleet.findings(at)[0].predictions == 400
    assert "its baseline has changed: the evidence starts anew" in caplog.text
    other = samples(gauges(Baseline.uniform(4)))
    fleet.expect(expectations(other, rows), 30.0)
    fleet.tick({DIGITS: EVEN}, 30.0)
    assert "replicas have different baselines" in fleet.refused[DIGITS]
    assert fleet.findings(30.0) == []
    assert fleet.predictions == {DIGITS: 800}
    # A version that nobody counts any more is not exported after a while, and then forgotten.
    fleet.expect(expectations(rows, rows), 45.0)
    fleet.tick({DIGITS: EVEN}, 45.0)
    fleet.tick({}, 400.0)
    assert fleet.findings(400.0) == []
    fleet.tick({}, 5_000.0)
    assert fleet.state() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tick", "0.5"], "tick 0.5: must be 1 to 3600 seconds"),
        (["--delay", "-1"], "delay -1.0: must be 0 to 3600 seconds"),
        (["--baseline", "nothing"], "baseline 'nothing': must be NAME=FILE or a folder"),
        (["--baseline", "a=none.json"], "none.json: there is no such baseline file"),
        (["--average-run-length", "3"], "must be a number of predictions per false alarm"),
    ],
)
def test_options_that_make_no_sense(options, message, capsys):
    assert main(["fleet", "--prometheus", "http://127.0.0.1:1", "--once", *options]) == 2
    assert message in capsys.readouterr().err


def test_once_says_by_its_exit_status_whether_there_is_drift(server, tmp_path, capsys):
    """The file says what is expected; the state goes on from run to run."""
    path = Baseline.uniform(4).save(tmp_path / "digits.baseline.json")
    server.reply = lambda e, at: vector([]) if "__name__" in e else server.healthy(e, at)
    server.grown = EVEN
    asked = ["fleet", "--prometheus", server.url, "--once", "--baseline", str(path.parent)]
    assert main(asked) == 0
    assert "no drift" in capsys.readouterr().out
    server.grown = {"3": 100_000}
    assert main(asked) == 1
    assert "drift since" in capsys.readouterr().out


def test_without_the_sdk_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("otel_drift.fleet.telemetry.find_spec", lambda _: None)
    assert main(["fleet", "--prometheus", "http://127.0.0.1:1"]) == 2
    assert "pip install 'otel-drift[otlp]'" in capsys.readouterr().err
