"""The live view: what Prometheus knows of one model, on a terminal or as plain lines.

Blue and orange are told apart by colour-blind eyes, and every state has a shape of its own too:
`●` as expected, `▼` below and `▲` above the tolerated band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.demo.prometheus import Prometheus

AS_EXPECTED = "#56b4e9"
MOVED = "#e69f00"
BAR_COLUMNS = 44
WINDOW_SECONDS = 15
SECONDS_BETWEEN_LINES = 5


class Reading(NamedTuple):
    """The state of one model at one moment; None and empty where Prometheus has nothing yet."""

    shares: Mapping[str, float]
    """Share of each class among the predictions of the last 15 seconds."""
    baseline: Mapping[str, float]
    lower: Mapping[str, float]
    upper: Mapping[str, float]
    predictions_per_second: float
    milliseconds: tuple[float, float] | None
    """Median and 95 % quantile of the time a prediction takes."""
    p_value: float | None
    evidence: float | None
    """A power of ten, as the threshold is."""
    threshold: float | None
    alarms: int
    active: bool
    firing: tuple[str, ...]
    """Names of the alerts that fire."""

    def moved(self) -> dict[str, str]:
        """Say for each class outside its band whether it is `below` or `above`."""
        found: dict[str, str] = {}
        for name, share in self.shares.items():
            if share < self.lower.get(name, 0):
                found[name] = "below"
            elif share > self.upper.get(name, 1):
                found[name] = "above"
        return found


NOTHING_YET = Reading({}, {}, {}, {}, 0.0, None, None, None, None, 0, False, ())


def read(prometheus: Prometheus, model: str) -> Reading:
    """Ask Prometheus for the state of a model.

    Raises
    ------
    OSError
        If Prometheus does not answer.
    """
    labels = f'keras_model_name="{model}"'
    gauges: dict[str, dict[str, float]] = {}
    names = "keras_prediction_(baseline|drift)_[^:]*"
    for labelled, value in prometheus.query(f'{{__name__=~"{names}", {labels}}}'):
        of_class = gauges.setdefault(labelled["__name__"], {})
        of_class[labelled.get("keras_prediction_class", "")] = value

    # One scrape interval more than is shown: a rate needs a sample before the first.
    window = f"[{WINDOW_SECONDS + 1}s]"
    rates = prometheus.by(
        "keras_prediction_class",
        f"sum by (keras_prediction_class) (rate(keras_predictions_total{{{labels}}}{window}))",
    )
    total = sum(rates.values())
    baseline = gauges.get("keras_prediction_baseline_proportion", {})
    shown = [name for name in rates if baseline.get(name, 0) > 0 or rates[name] > 0]

    def gauge(name: str) -> float | None:
        return gauges.get(f"keras_prediction_drift_{name}", {}).get("")

    return Reading(
        shares={name: rates[name] / total for name in sorted(shown)} if total else {},
        baseline=baseline,
        lower=gauges.get("keras_prediction_baseline_lower", {}),
        upper=gauges.get("keras_prediction_baseline_upper", {}),
        predictions_per_second=total,
        milliseconds=_milliseconds(prometheus, labels, window),
        p_value=gauge("p_value"),
        evidence=gauge("evidence"),
        threshold=gauge("threshold"),
        alarms=int(gauge("alarms_total") or 0),
        active=bool(gauge("active")),
        firing=tuple(
            sorted(prometheus.by("alertname", f'ALERTS{{alertstate="firing", {labels}}}'))
        ),
    )


def _milliseconds(prometheus: Prometheus, labels: str, window: str) -> tuple[float, float] | None:
    found: list[float] = []
    for quantile in (0.5, 0.95):
        seconds = prometheus.value(
            f"histogram_quantile({quantile}, sum by (le) "
            f"(rate(keras_predict_duration_seconds_bucket{{{labels}}}{window})))"
        )
        if seconds is None or math.isnan(seconds):
            return None
        found.append(1000 * seconds)
    return found[0], found[1]


class View:
    """Show readings: live where the console is a terminal, else a line every 5 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._said = ""
        self._next_line = 0.0

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, reading: Reading, seconds: float, sentence: str) -> None:
        """Show the state `seconds` after the start, and what is happening now in plain words."""
        if self._live:
            self._live.update(picture(reading, seconds, sentence), refresh=True)
            return
        if sentence != self._said:
            self._said = sentence
            self._console.print(f"{seconds:4.0f} s  {sentence}", highlight=False, soft_wrap=True)
        elif seconds >= self._next_line and reading.shares:
            self._next_line = seconds + SECONDS_BETWEEN_LINES
            self._console.print(
                f"{seconds:4.0f} s  {line(reading)}", highlight=False, soft_wrap=True
            )


def line(reading: Reading) -> str:
    """One line without colour."""
    moved = ", ".join(f"{name} {where}" for name, where in reading.moved().items())
    return (
        f"{reading.predictions_per_second:,.0f}/s; outside its band: {moved or 'none'}; "
        f"{_evidence(reading)}; p-value {_p_value(reading)}; "
        f"alerts: {', '.join(reading.firing) or 'none'}"
    )


def picture(reading: Reading, seconds: float, sentence: str) -> Group:
    """Everything, in 80 columns."""
    return Group(
        Panel(
            _classes(reading),
            title=f"share of each class, last {WINDOW_SECONDS} s   \\[ band | baseline ]",
            subtitle=f"{int(seconds) // 60}:{int(seconds) % 60:02d}",
            title_align="left",
            subtitle_align="right",
            width=80,
        ),
        Panel(_figures(reading), width=80),
        Text(f" {sentence}", style="bold"),
    )


def _classes(reading: Reading) -> Table:
    table = Table.grid(padding=(0, 1))
    moved = reading.moved()
    if not reading.shares:
        table.add_row(Text("waiting for the first predictions"))
    highest = max([0.01, *reading.shares.values(), *(reading.upper.get(k, 0) for k in moved)])
    highest = max([highest, *(reading.upper.get(name, 0) for name in reading.shares)])
    for name, share in reading.shares.items():
        where = moved.get(name)
        style = MOVED if where else AS_EXPECTED
        table.add_row(
            name,
            Text({"below": "▼", "above": "▲"}.get(where or "", "●"), style),
            bar(
                share / highest,
                {
                    reading.lower.get(name, 0) / highest: "[",
                    reading.baseline.get(name, 0) / highest: "|",
                    reading.upper.get(name, 0) / highest: "]",
                },
                style,
                "▒" if where else "█",
            ),
            Text(f"{share:6.1%}"),
            Text(f"{where} its band" if where else f"base {reading.baseline.get(name, 0):.1%}"),
        )
    return table


def bar(filled: float, marks: Mapping[float, str], style: str, fill: str) -> Text:
    """Draw a bar of which a part from 0 to 1 is filled, with marks at such places."""
    last = BAR_COLUMNS - 1
    cells = {min(last, max(0, round(place * last))): mark for place, mark in marks.items()}
    end = round(min(1.0, filled) * BAR_COLUMNS)
    text = Text()
    for column in range(BAR_COLUMNS):
        if column in cells:
            text.append(cells[column], "bold")
        else:
            text.append(fill if column < end else " ", style)
    return text


def _figures(reading: Reading) -> Table:
    table = Table.grid(padding=(0, 2))
    drift = MOVED if reading.active else AS_EXPECTED
    if reading.evidence is not None and reading.threshold:
        part = 1.0 if reading.active else reading.evidence / reading.threshold
        table.add_row("evidence", bar(part, {1.0: "]"}, drift, "▒" if reading.active else "█"))
    table.add_row("", Text(_evidence(reading), drift))
    table.add_row("p-value", f"{_p_value(reading)}   (chi-square test of the newest window)")
    latency = ""
    if reading.milliseconds:
        median, slow = reading.milliseconds
        latency = f"; a batch takes {median:.1f} ms, 95 % at most {slow:.1f} ms"
    table.add_row("traffic", f"{reading.predictions_per_second:,.0f} predictions/s{latency}")
    alerts = ", ".join(reading.firing)
    table.add_row(
        "alerts", Text(f"▲ {alerts}", f"bold {MOVED}") if alerts else Text("● none", AS_EXPECTED)
    )
    return table


def _evidence(reading: Reading) -> str:
    if reading.evidence is None or reading.threshold is None:
        return "evidence unknown yet"
    if reading.active:
        return f"drift: {reading.alarms:,} alarms of the detector at 10^{reading.threshold:.1f}"
    return f"evidence 10^{reading.evidence:.1f} of 10^{reading.threshold:.1f}"


def _p_value(reading: Reading) -> str:
    if reading.p_value is None:
        return "unknown yet"
    return f"{reading.p_value:.3f}" if reading.p_value >= 0.001 else f"{reading.p_value:.0e}"
