"""Make the pictures of the documentation: ``python -m docs.make_pictures``.

``drift.png`` and ``alerts.png`` come from one run of the example through the whole chain, which
takes four minutes; ``p_values.png`` from the monitor alone, fed with a simulated stream. Takes
Debian's Prometheus 2.42, whose build has web pages, and headless Chromium for a picture of them
(``apt-get install prometheus chromium``): both serve this command only.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from examples.demo.example import Example
from examples.demo.stack import ROOT, Ports, Programs, Stack
from otel_drift import Baseline, DriftMonitor

FOLDER = Path(__file__).parent / "pictures"
BLUE, ORANGE, VERMILLION, SKY, GREY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#8C8C8C"
UNDRIFTED_SECONDS = 120
SECONDS_AFTER_ALERT = 60
LOST = "0"
PREDICTIONS_A_SECOND = 2000
SECONDS_BETWEEN_SCRAPES = 5
MINUTES = 20
ONLY_FIRING = """<script>localStorage.hideInactiveAlerts = "true"</script>
<style>pre { display: none !important }</style>"""
UNFOLD = """<script>$(function () {
  $("tr.alert-danger.alert_header, tr.alert-danger .alert_header").click();
  $("div.show-annotations").first().click();
})</script>"""


def main() -> None:
    """Make the pictures that are asked for, all unless told."""
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", default=["run", "p_values"])
    wanted = parser.parse_args().pictures
    FOLDER.mkdir(exist_ok=True)
    if "p_values" in wanted:
        p_values()
    if "run" in wanted:
        run()


def run() -> None:
    """Run the example until its alert fires; draw what Prometheus has of it."""
    programs = Programs(
        otelcol=ROOT / ".tools/bin/otelcol",
        prometheus=installed("prometheus"),
        alertmanager=ROOT / ".tools/bin/alertmanager",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [sys.executable, ROOT / "examples/digits/train.py", "--output", folder]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        arguments = argparse.Namespace(
            undrifted=UNDRIFTED_SECONDS, drift=f"drop:{LOST}", rate=PREDICTIONS_A_SECOND
        )
        with Stack(programs, Ports.free(), folder / "stack") as stack:
            example = Example(stack, folder / "digits.keras", arguments)
            told = [
                stack.webhook.wait_for(
                    lambda delivery, name=name: delivery.firing(name), UNDRIFTED_SECONDS + 180
                )
                for name in ("DriftDetected", "PredictionDistributionShifted")
            ]
            threading.Event().wait(SECONDS_AFTER_ALERT)
            example.update()
            alerted = [delivery.time for delivery in told if delivery is not None]
            if len(alerted) < len(told) or example.drifted_at is None:
                raise SystemExit("no alert came")
            draw_run(stack, example.drifted_at, alerted)
            screenshot(stack.prometheus.url, FOLDER / "alerts.png")


def draw_run(stack: Stack, drifted: float, alerted: list[float]) -> None:
    """Draw class shares and evidence."""
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.5, 5.2), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    end = time.time()

    def series(expr: str) -> list[tuple[dict[str, str], Any, Any]]:
        start = drifted - UNDRIFTED_SECONDS + 10
        answer = stack.prometheus.get(
            "query_range", query=expr, start=str(start), end=str(end), step="5"
        )
        return [
            (one["metric"], *np.array(one["values"], dtype=float).T) for one in answer["result"]
        ]

    shares = 'class:keras_predictions:share{window="1m",keras_prediction_class=~"[0-9]"}'
    for labels, times, values in series(shares):
        lost = labels["keras_prediction_class"] == LOST
        above.plot(
            times - drifted,
            100 * values,
            color=BLUE if lost else GREY,
            linewidth=2.2 if lost else 0.7,
            label=f"class {LOST}" if lost else None,
            zorder=3 if lost else 1,
        )
    band = 'class:keras_prediction_baseline_%s{keras_prediction_class="' + LOST + '"}'
    ((_, times, lower),) = series(band % "lower:min")
    ((_, _, upper),) = series(band % "upper:max")
    above.fill_between(
        times - drifted,
        100 * lower,
        100 * upper,
        color=SKY,
        alpha=0.25,
        linewidth=0,
        label=f"tolerated band of class {LOST}",
    )
    above.plot([], [], color=GREY, linewidth=0.7, label="other classes")
    above.set_ylim(0)
    above.set_ylabel("share of the last minute's\npredictions, %")
    evidence = "output:keras_prediction_drift_evidence:log10"
    ((_, times, values),) = series(evidence)
    below.plot(times - drifted, values, color=BLUE, label="evidence")
    ((_, times, values),) = series("output:keras_prediction_drift_threshold:max")
    below.plot(times - drifted, values, color=VERMILLION, linestyle="--", label="threshold")
    below.set_ylabel("log10 of the evidence")
    below.set_ylim(0)
    below.set_xlabel(f"seconds since the example stopped sending the digit {LOST}")
    for axes in (above, below):
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    detector, windows = (moment - drifted for moment in alerted)
    for axes, moment, height, side, text in (
        (below, detector, 0.2, "right", "DriftDetected"),
        (above, windows, 0.85, "left", "PredictionDistributionShifted"),
    ):
        axes.axvline(moment, color=ORANGE, linewidth=1.4)
        axes.text(
            moment + (2 if side == "left" else -2),
            axes.get_ylim()[1] * height,
            f"{text}\nat the webhook after {moment:.0f} s",
            horizontalalignment=side,
        )
    above.legend(loc="upper left", frameon=False, ncols=3, bbox_to_anchor=(0, 1.14))
    below.legend(loc="lower left", frameon=False)
    save(figure, "drift.png")


def p_values() -> None:
    """Draw what a gauge of p-values shows, without drift and with a class halved."""
    from matplotlib import pyplot as plt

    figure, plots = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    halved = np.array([0.5] + [1.0] * 9)
    for axes, title, shares in (
        (plots[0], "no drift", np.ones(10)),
        (plots[1], "one of ten classes halved after 5 minutes", halved),
    ):
        draw_p_values(axes, shares / shares.sum())
        axes.set_title(title)
        axes.set_xlabel("minutes")
        axes.set_xlim(0, MINUTES)
    plots[0].set_ylabel("p-value")
    plots[0].set_ylim(-0.02, 1.02)
    handles, labels = plots[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save(figure, "p_values.png")


def draw_p_values(axes: Axes, shares: Any) -> None:
    """Simulate a stream, and read the gauge as a scrape does."""
    random = np.random.default_rng(5)
    monitor = DriftMonitor(Baseline.uniform(10))
    times, values, alarms = [], [], []
    seconds = 60 * MINUTES
    for second in range(seconds):
        drifted = second >= 300
        for _ in range(PREDICTIONS_A_SECOND // 100):
            p = shares if drifted else np.full(10, 0.1)
            monitor.update(random.choice(10, 100, p=p))
        snapshot = monitor.snapshot()
        if snapshot.alarms > len(alarms):
            alarms += [(second + 1) / 60] * (snapshot.alarms - len(alarms))
        if second % SECONDS_BETWEEN_SCRAPES == 0 and snapshot.window is not None:
            times.append(second / 60)
            values.append(snapshot.window.test.p_value)
    window = 300 // SECONDS_BETWEEN_SCRAPES
    means = [np.mean(values[max(0, k - window + 1) : k + 1]) for k in range(len(values))]
    axes.plot(times, values, ".", color=SKY, markersize=3, label="p-value when scraped")
    axes.plot(times, means, color=BLUE, linewidth=2, label="mean of 5 minutes")
    axes.axhline(0.05, color=VERMILLION, linestyle="--", linewidth=1, label="0.05")
    if alarms:
        axes.axvline(alarms[0], color=ORANGE, linewidth=2, label="alarm of the detector")
        axes.annotate(
            f"{60 * (alarms[0] - 5):.0f} s after the change",
            (alarms[0], 0.93),
            (alarms[0] + 0.4, 0.93),
            bbox={"boxstyle": "square,pad=0.1", "color": "white"},
        )


def screenshot(prometheus: str, path: Path) -> None:
    """Take a picture of Prometheus's page of alerts, unfolded as clicks do, without the rules."""
    with urllib.request.urlopen(f"{prometheus}/classic/alerts") as answer:  # noqa: S310
        page = answer.read().decode()
    page = page.replace(f"{ROOT}/", "")
    page = page.replace("<head>", f'<head><base href="{prometheus}/">{ONLY_FIRING}')
    with tempfile.TemporaryDirectory() as name:
        unfolded = Path(name) / "alerts.html"
        unfolded.write_text(page.replace("</body>", f"{UNFOLD}</body>"), encoding="utf-8")
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={name}/profile",
            "--window-size=1150,1100",
            "--virtual-time-budget=8000",
            f"--screenshot={path}",
        ]
        subprocess.run(  # noqa: S603
            [installed("chromium"), *options, unfolded.as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
    with Image.open(path) as picture:
        grey = picture.convert("L").point(lambda level: 255 if level < 250 else 0)
        (_, _, _, bottom) = grey.getbbox() or (0, 0, 0, picture.height)
        cropped = (
            picture.convert("RGB")
            .crop((0, 0, picture.width, min(bottom + 16, picture.height)))
            .quantize(64)
        )
    cropped.save(path, optimize=True)
    print(f"wrote docs/pictures/{path.name}")


def installed(program: str) -> Path:
    """Find a program of Debian's."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is missing: apt-get install {program}")
    return Path(found)


def save(figure: Any, name: str) -> None:
    """Write a picture."""
    figure.savefig(FOLDER / name, dpi=110)
    print(f"wrote docs/pictures/{name}")


if __name__ == "__main__":
    main()
