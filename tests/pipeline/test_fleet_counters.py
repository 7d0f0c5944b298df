"""What the fleet's detector reads of counters, on the real server: nothing invented, and nothing
lost beyond what is stated.

A history is written into Prometheus with every fate that a replica can have, and read tick by tick.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest

from otel_drift import Baseline
from otel_drift.cli import main
from otel_drift.fleet.counters import grown_by, predictions
from otel_drift.fleet.fleet import Fleet
from otel_drift.fleet.prometheus_api import PrometheusApi
from otel_drift.fleet.reference import exported_reference
from otel_drift.fleet.service import Service
from otel_drift.fleet.state import StateFile
from tests.grafana.prometheus_server import prometheus_alone, write_history

SCRAPE, SCRAPES, TICK, PHASE = 5, 360, 15.0, 3.2
"""Half an hour; scrapes are not at ticks."""
ODD = 'a "quoted" \\ name,\nwith a line break and déjà vu'
PETS = Baseline.from_counts([500, 300, 200], ["cat", "dog", "emu"])
SHARES = np.array([0.5, 0.3, 0.2])


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class History:
    """Lines of an OpenMetrics file, by metric, and how many predictions each fate should give."""

    def __init__(self, begin: float) -> None:
        self.begin, self.rng = begin, np.random.default_rng(1)
        self.lines: dict[str, list[str]] = {}
        self.truth: dict[str, np.ndarray] = {}

    def write(self, name: str, labels: dict[str, str], values: dict[int, float]) -> None:
        written = ",".join(f'{label}="{escaped(value)}"' for label, value in labels.items())
        self.lines.setdefault(name, []).extend(
            f"{name}{{{written}}} {value} {self.begin + PHASE + SCRAPE * at:.3f}"
            for at, value in values.items()
        )

    def replica(self, model: str, truth: np.ndarray, grown: np.ndarray, there: range | list[int]):
        """A replica of a model whose counters had these values, (scrapes, 3), at some scrapes."""
        self.truth[model] = truth
        for k, name in enumerate(("cat", "dog", "emu")):
            labels = {**of(model), "keras_prediction_class": name, "instance": f"{model} 1"}
            values = {at: int(grown[at, k]) for at in there}
            self.write("keras_predictions_total", labels, values)
        self.expects(model, PETS, range(SCRAPES), "1")

    def expects(self, model: str, baseline: Baseline, there: range, instance: str) -> None:
        reference = exported_reference(baseline)
        gauges = {
            "proportion": reference.proportions,
            "lower": reference.lower,
            "upper": reference.upper,
        }
        for gauge, numbers in gauges.items():
            for name, number in zip(reference.classes, numbers.tolist(), strict=True):
                labels = {**of(model), "keras_prediction_class": name, "instance": instance}
                name = f"keras_prediction_baseline_{gauge}"
                self.write(name, labels, dict.fromkeys(there, number))
        labels = {**of(model), "instance": instance}
        size = dict.fromkeys(there, reference.size)
        self.write("keras_prediction_baseline_size", labels, size)
        self.write("keras_prediction_drift_threshold", labels, dict.fromkeys(there, 6.0))

    def counts(self) -> np.ndarray:
        """Class counts of each scrape."""
        return self.rng.multinomial(20, SHARES, SCRAPES)


def of(model: str) -> dict[str, str]:
    return {"keras_model_name": model, "keras_model_version": "7", "keras_model_output": "species"}


def told(history: History) -> None:
    """Write the fates: what is predicted before a replica's first scrape is nobody's."""
    first = int(TICK // SCRAPE)  # the first tick that is read begins after the first scrapes

    grown = np.cumsum(counts := history.counts(), axis=0)
    history.replica("steady", counts[first:].sum(axis=0), grown, range(SCRAPES))
    grown = np.cumsum(counts := history.counts(), axis=0)
    history.replica(ODD, counts[first:].sum(axis=0), grown, range(SCRAPES))

    born = 150
    grown = np.cumsum(counts := history.counts(), axis=0)
    history.replica("born", counts[born + 1 :].sum(axis=0), grown, range(born, SCRAPES))
    grown = np.cumsum(counts := history.counts(), axis=0)
    history.replica("dies", counts[first:201].sum(axis=0), grown, range(201))

    again = 149  # the last scrape of a tick, after which it begins again at 0
    grown = np.cumsum(counts := history.counts(), axis=0)
    grown[again + 1 :] -= grown[again]
    history.replica("again", counts[first:].sum(axis=0), grown, range(SCRAPES))

    short, long = range(100, 150), range(200, 270)
    for model, gap in (("short gap", short), ("long gap", long)):
        grown = np.cumsum(counts := history.counts(), axis=0)
        lost = np.zeros(3, int) if gap is short else counts[gap.start : gap.stop + 1].sum(axis=0)
        there = [at for at in range(SCRAPES) if at not in gap]
        history.replica(model, counts[first:].sum(axis=0) - lost, grown, there)

    # Two servers watch it, and one's clock is behind: the counter seems to fall a little.
    grown = np.cumsum(counts := history.counts(), axis=0)
    late = grown.copy()
    late[151:152] -= 15
    history.replica("two servers", counts[first:].sum(axis=0), late, range(SCRAPES))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, History]]:
    folder = tmp_path_factory.mktemp("fleet")
    begin = math.floor((time.time() - SCRAPE * SCRAPES) / 60) * 60.0
    history = History(begin)
    told(history)
    # Strangers, and what another fleet's detector says.
    everywhere = range(SCRAPES)
    strange = {"keras_prediction_class": "cat", "instance": "x"}
    for labels in (strange, {**of("steady"), **strange, "keras_prediction_scope": "fleet"}):
        history.write("keras_predictions_total", labels, {at: 1_000 * at for at in everywhere})
    nonsense = {at: at * 0.7 for at in everywhere}
    history.write("keras_predictions_total", {**of("nonsense"), **strange}, nonsense)
    # Replicas that do not agree.
    history.expects("differs", PETS, everywhere, "1")
    history.expects("differs", Baseline.from_counts([499, 301, 200], PETS.classes), everywhere, "2")
    history.write("keras_predictions_total", {**of("differs"), **strange}, {0: 0, 359: 9})
    history.expects("classes", PETS, everywhere, "1")
    history.expects(
        "classes", Baseline.from_counts([500, 300, 200], ["ant", "bee", "cow"]), everywhere, "2"
    )
    history.write("keras_predictions_total", {**of("classes"), **strange}, {0: 0, 359: 9})
    text = []
    for name, lines in history.lines.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        text += [f"# TYPE {name.removesuffix('_total')} {kind}", *lines]
    write_history(folder, "\n".join([*text, "# EOF\n"]))
    with prometheus_alone(folder) as url:
        yield url, history


def ends(history: History) -> list[float]:
    """The first tick begins before the scrape that is counted first."""
    first = history.begin + 2 * TICK
    return [first + TICK * at for at in range(int(SCRAPE * SCRAPES / TICK) - 1)]


def read(service: Service, times: list[float]) -> None:
    for end in times:
        service.read(end)


def counted(fleet: Fleet) -> dict[str, int]:
    return {output.model: count for output, count in fleet.predictions.items()}


@pytest.fixture(scope="module")
def whole(server) -> Service:
    """All ticks, one after another."""
    url, history = server
    service = Service(PrometheusApi(url), Fleet())
    read(service, ends(history))
    return service


def test_every_fate_is_counted_exactly_or_within_its_bound(server, whole):
    _, history = server
    service = whole
    wanted = {model: int(truth.sum()) for model, truth in history.truth.items()}
    assert counted(service.fleet) == wanted
    found = {one.output.model: one for one in service.fleet.findings(service.newest)}
    assert found.keys() == wanted.keys() - {"dies"}
    assert not any(one.active for one in found.values())
    assert {one.threshold for one in found.values()} == {6.0}
    refused = {output.model: reason for output, reason in service.fleet.refused.items()}
    assert refused.keys() == {"differs", "classes"}
    assert refused["differs"].startswith("replicas have different baselines: baseline lower of cl")
    assert "replicas have different classes" in refused["classes"]


def test_classes_are_counted_each(server):
    url, history = server
    api, total = PrometheusApi(url), {}
    for end in ends(history):
        for output, counts in predictions(api.query(grown_by(TICK), end).samples).items():
            for name, count in counts.items():
                total[output.model, name] = total.get((output.model, name), 0) + count
    for model, truth in history.truth.items():
        assert [total[model, name] for name in PETS.classes] == truth.tolist(), model


def test_a_long_tick_counts_what_the_short_ones_do(server):
    """As after an outage of this service or of Prometheus: nothing is lost but at restarts."""
    url, history = server
    service = Service(PrometheusApi(url), Fleet())
    times = ends(history)
    read(service, [times[0], times[45], times[-1]])
    missed = {model: int(truth.sum()) for model, truth in history.truth.items()}
    # What it had predicted since the tick before it began again is lost.
    assert counted(service.fleet).pop("again") < missed.pop("again")
    found = counted(service.fleet)
    assert {model: found[model] for model in missed if model != "long gap"} == {
        model: count for model, count in missed.items() if model != "long gap"
    }


def test_a_restart_goes_on_where_it_was(server, whole, tmp_path):
    url, history = server
    file = StateFile(tmp_path / "fleet.json")
    parts = [ends(history)[:50], ends(history)[53:]]
    found: dict[str, int] = {}
    for part in parts:
        service = Service(PrometheusApi(url), Fleet(), state=file)
        read(service, part)
        service.save()
        for model, count in counted(service.fleet).items():
            found[model] = found.get(model, 0) + count
    assert found == counted(whole.fleet)
    after = {one.output: one.predictions for one in service.fleet.findings(service.newest)}
    assert after == {one.output: one.predictions for one in whole.fleet.findings(whole.newest)}
    assert list(tmp_path.iterdir()) == [file.path]


def test_a_state_that_does_not_fit_starts_anew_with_a_line(server, tmp_path, caplog):
    url, history = server
    file = StateFile(tmp_path / "fleet.json")
    first = Service(PrometheusApi(url), Fleet(), state=file)
    read(first, ends(history)[:20])
    first.save()
    other = Service(PrometheusApi(url), Fleet(average_run_length=1e8), state=file)
    read(other, ends(history)[20:22])
    lines = [line for line in caplog.messages if "'steady' 7" in line]
    assert lines == [
        "'steady' 7, output 'species' starts anew: the saved state does not fit: its average run "
        "length is another"
    ]
    state = json.loads(file.path.read_text())
    file.write({**state, "version": 0})
    assert Service(PrometheusApi(url), Fleet(), state=file).newest is None
    assert "a state of another version: starts anew" in caplog.text
    for content in ('{"schema_version": 2}', "[]", '{"format": '):
        file.path.write_text(content)
        with pytest.raises(ValueError, match="not a state of otel-drift fleet"):
            Service(PrometheusApi(url), Fleet(), state=file)
        assert file.path.read_text() == content


def test_what_is_too_old_is_skipped_and_said(server, caplog):
    url, history = server
    service = Service(PrometheusApi(url), Fleet())
    times = ends(history)
    service.read(times[0] - 3_600)
    assert service.newest == times[0] - 3_600
    service.read(times[-1])
    assert "ticks of 15 s are skipped" in caplog.text
    assert counted(service.fleet)["steady"] > 0


def test_once_prints_a_table(server, tmp_path, capsys, monkeypatch):
    url, history = server
    at = ends(history)[-1] + 5
    monkeypatch.setattr("otel_drift.fleet.service.time", lambda: at)
    asked = ["fleet", "--prometheus", url, "--once", "--state", str(tmp_path / "state.json")]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("steady")]
    assert line.split()[:5] == ["steady", "7", "species", "60", "60"]
    assert line.endswith(" of 6  no drift")
    assert "not watched: replicas have different baselines" in printed
    assert "déjà vu" in printed
