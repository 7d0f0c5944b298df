"""The command ``otel-drift``: baselines, the fleet's detector, rules and dashboards.

Calibrate on a log, look at a baseline, replay, choose A; and get what Prometheus, Grafana and the
collector need.

.. code-block:: console

    $ otel-drift average-run-length --predictions-per-second 100 --false-alarms-per-quarter 1
    $ otel-drift calibrate predictions.csv --save digits.baseline.json
    $ otel-drift calibrate --from-prometheus http://localhost:9090 --model digits --days 14
    $ otel-drift baseline digits.baseline.json
    $ otel-drift replay digits.baseline.json labels.npy
    $ otel-drift fleet --prometheus http://localhost:9090 --state fleet.json
    $ otel-drift rules > /etc/prometheus/rules/otel_drift.yml
    $ otel-drift rules --format kubernetes --label release=prometheus | kubectl apply -f -
    $ otel-drift dashboards --directory /var/lib/grafana/dashboards
    $ otel-drift collector-config > collector.yaml
    $ otel-drift doctor
    $ otel-drift doctor --prometheus http://localhost:9090
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_drift.options import Options
from otel_drift.package import __version__

if TYPE_CHECKING:
    from otel_drift.baselines.log import PredictionLog

SECONDS_PER_QUARTER = 365.25 / 4 * 86_400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for what was found, 2 for misuse.

    ``replay`` ends with 1 where there is drift, ``calibrate`` where the log does not predict itself
    or a part of it is not like the rest, ``fleet --once`` where an output drifts, ``doctor`` where
    something is wrong.

    >>> main(["average-run-length", "--predictions-per-second", "100"])
    With 100 predictions/s (788,940,000 a quarter) and at most 1 false alarm a quarter:
      average run length A = 788,940,000
      OTEL_PYTHON_KERAS_AVERAGE_RUN_LENGTH=788940000
    0
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (OSError, ValueError, TypeError) as error:
        print(f"otel-drift: {error}", file=sys.stderr)
        return 2


def average_run_length(predictions_per_second: float, false_alarms_per_quarter: float) -> int:
    """Turn traffic and false alarms a quarter into the average run length A.

    The detector promises at most t / A false alarms in any t predictions, on average: A is the
    traffic of a quarter over the false alarms that are acceptable in it.

    Parameters
    ----------
    predictions_per_second
        Traffic of the model over the whole fleet, on average over the quarter.
    false_alarms_per_quarter
        False alarms that are acceptable in 91 days, on average.

    Raises
    ------
    ValueError
        If a number is not above 0, or the answer is below the least average run length.

    Examples
    --------
    >>> average_run_length(1, 1)
    7889400
    """
    for name, value in (
        ("predictions per second", predictions_per_second),
        ("false alarms per quarter", false_alarms_per_quarter),
    ):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} {value!r}: must be above 0")
    length = predictions_per_second * SECONDS_PER_QUARTER / false_alarms_per_quarter
    return math.ceil(Options.of(average_run_length=length).average_run_length)


def _average_run_length(options: argparse.Namespace) -> int:
    rate, alarms = options.predictions_per_second, options.false_alarms_per_quarter
    length = average_run_length(rate, alarms)
    print(
        f"With {rate:g} predictions/s ({rate * SECONDS_PER_QUARTER:,.0f} a quarter) and at most "
        f"{alarms:g} false alarm{'s' if alarms != 1 else ''} a quarter:\n"
        f"  average run length A = {length:,}\n"
        f"  OTEL_PYTHON_KERAS_AVERAGE_RUN_LENGTH={length}"
    )
    return 0


def _baseline(options: argparse.Namespace) -> int:
    from otel_drift.baselines.baseline import load_baselines

    for output, baseline in load_baselines(options.file).items():
        size = "known exactly" if baseline.size is None else f"{baseline.size:,} predictions"
        print(f"{output}: {len(baseline.classes)} classes, {size}")
        lower, upper = baseline.tolerated_band(options.tolerance)
        print(f"  {'class':<20} {'share':>8}  tolerated")
        for name, share, low, high in zip(
            baseline.classes, baseline.proportions, lower, upper, strict=True
        ):
            print(f"  {name:<20} {share:>8.2%}  {low:.2%} to {high:.2%}")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from otel_drift.baselines.baseline import Baseline
    from otel_drift.baselines.report import report
    from otel_drift.drift.calibration import calibrate

    before = Baseline.load(options.baseline, options.output) if options.baseline else None
    classes = options.classes.split(",") if options.classes else before and before.classes
    log = _log(options, classes)
    found = calibrate(
        log.labels,
        log.classes,
        calls=log.calls,
        units=log.units,
        steps=log.steps,
        average_run_length=options.average_run_length,
        tolerance=options.tolerance,
    )
    print(report(log, found, tolerance=options.tolerance))
    refused = found.exceptional is not None and not options.accept
    if options.save and not refused:
        known = {"output": options.output} if options.output else {}
        if before is not None:
            known |= {
                "decision": before.decision,
                "output": before.output,
                "model_fingerprint": before.model_fingerprint,
            }
        print(f"\nSaved: {Baseline.of_reference(found.reference, **known).save(options.save)}")
    return 1 if refused or found.alarms else 0


def _log(options: argparse.Namespace, classes: Sequence[str] | None) -> PredictionLog:
    """Read the log from a file or from the counters in Prometheus."""
    from otel_drift.baselines.counted_history import counted_history
    from otel_drift.baselines.log import read_log

    if (options.log is None) == (options.from_prometheus is None):
        raise ValueError("give either a log or --from-prometheus URL")
    if options.from_prometheus is None:
        return read_log(
            options.log,
            label=options.label,
            time=options.time,
            call=options.call,
            key=options.key,
            classes=classes,
        )
    if options.model is None:
        raise ValueError("--from-prometheus needs --model NAME")
    return counted_history(
        options.from_prometheus,
        options.model,
        output=options.output,
        days=options.days,
        classes=classes,
    )


def _replay(options: argparse.Namespace) -> int:
    from otel_drift.baselines.baseline import Baseline
    from otel_drift.drift.sequential import SequentialDetector

    baseline = Baseline.load(options.file, options.output)
    log = _replayed(options, baseline.classes).first_of_units()
    detector = SequentialDetector(
        baseline, options.average_run_length, options.tolerance, calls=log.calls is not None
    )
    for alarm in detector.update(log.labels, log.calls):
        moved = "; ".join(
            f"class {baseline.classes[one.position]} from {one.baseline:.2%} to {one.estimate:.2%}"
            for one in alarm.moved
        )
        print(
            f"{_place(log, alarm.prediction)}: {moved or 'several classes'}, "
            f"since {_place(log, alarm.prediction - alarm.age)}"
        )
    print(
        f"{detector.predictions:,} predictions, {detector.alarms:,} alarms, "
        f"evidence 10^{detector.evidence:.1f} of 10^{detector.threshold:.1f}"
    )
    return 1 if detector.alarms else 0


def _fleet(options: argparse.Namespace) -> int:
    import logging
    import signal
    import threading

    from otel_drift.fleet.baselines import baselines_in
    from otel_drift.fleet.fleet import Fleet
    from otel_drift.fleet.prometheus_api import HEADERS, PrometheusApi, headers_of
    from otel_drift.fleet.report import table
    from otel_drift.fleet.service import Service
    from otel_drift.fleet.state import StateFile
    from otel_drift.fleet.telemetry import FleetTelemetry, otlp_provider

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    length = options.average_run_length
    if length is not None:
        Options.of(average_run_length=length)
    service = Service(
        PrometheusApi(options.prometheus, headers_of(os.environ.get(HEADERS, ""))),
        Fleet(length, baselines_in(options.baseline, options.tolerance)),
        tick=options.tick,
        delay=options.delay,
        state=StateFile(options.state) if options.state else None,
    )
    if options.once:
        service.read(service.due())
        service.save()
        findings = service.fleet.findings(service.newest or 0.0)
        print(table(findings, service.fleet.refused))
        return 1 if any(found.active for found in findings) else 0
    provider = otlp_provider()
    service.observer = FleetTelemetry(service.fleet, provider, lambda: service.newest)
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    service.run(stop)
    provider.shutdown()
    return 0


def _rules(options: argparse.Namespace) -> int:
    from otel_drift.configuration import kubernetes_rules, prometheus_rules

    if options.format == "kubernetes":
        print(kubernetes_rules(dict(map(_label, options.label))), end="")
    elif options.label:
        raise ValueError("--label needs --format kubernetes")
    else:
        print(prometheus_rules(), end="")
    return 0


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"label {text!r}: must be NAME=VALUE")
    return name, value


def _dashboards(options: argparse.Namespace) -> int:
    from otel_drift.configuration import dashboards, kubernetes_dashboards

    if options.format == "kubernetes":
        print(kubernetes_dashboards(), end="")
        return 0
    if options.directory is None:
        raise ValueError("dashboards: give --directory, or --format kubernetes")
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, text in dashboards().items():
        path = options.directory / name
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def _configuration(options: argparse.Namespace) -> int:
    from otel_drift.configuration import read

    print(read(options.file), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from otel_drift.doctor.finding import as_json, as_text

    if options.prometheus is None:
        from otel_drift.doctor.environment import look_at_environment

        findings = look_at_environment()
    else:
        from otel_drift.doctor.prometheus import look_at_prometheus
        from otel_drift.fleet.prometheus_api import HEADERS, PrometheusApi, headers_of

        headers = headers_of(os.environ.get(HEADERS, ""))
        findings = look_at_prometheus(PrometheusApi(options.prometheus, headers, timeout=10))
    print(as_json(findings) if options.json else as_text(findings))
    return 1 if any(found.state == "wrong" for found in findings) else 0


def _replayed(options: argparse.Namespace, classes: Sequence[str]) -> PredictionLog:
    """Read a log, or bare class indices."""
    import numpy as np

    from otel_drift.baselines.log import prediction_log, read_log

    path: Path = options.labels
    if path.suffix in (".csv", ".npz", ".parquet"):
        columns = {name: getattr(options, name) for name in ("label", "time", "call", "key")}
        return read_log(path, **columns, classes=classes)
    if path.suffix == ".npy":
        return prediction_log(np.load(path, allow_pickle=False), classes=classes)
    return prediction_log(np.loadtxt(path, dtype=np.int64, ndmin=1), classes=classes)


def _place(log: PredictionLog, prediction: int) -> str:
    """Say which prediction, and when it was made if that is known."""
    text = f"prediction {prediction:,}"
    if log.times is None:
        return text
    at = datetime.fromtimestamp(float(log.times[max(0, prediction - 1)]), UTC)
    return f"{text} ({at:%Y-%m-%d %H:%M:%S} UTC)"


def _add_columns(command: argparse.ArgumentParser) -> None:
    command.add_argument("--label", default="label", help="column of the predicted classes")
    command.add_argument("--time", help='column of times; "time" if there is one')
    command.add_argument("--call", help='column of calls; "call" if there is one')
    command.add_argument("--key", help='column of sessions or users; "key" if there is one')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("otel-drift", description="Watch what a model predicts.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "average-run-length", help="turn traffic and false alarms a quarter into A"
    )
    command.set_defaults(command=_average_run_length)
    command.add_argument("--predictions-per-second", type=float, required=True, metavar="RATE")
    command.add_argument("--false-alarms-per-quarter", type=float, default=1.0, metavar="NUMBER")

    command = commands.add_parser(
        "calibrate", help="learn from a log what is normal, and say what would be found"
    )
    command.set_defaults(command=_calibrate)
    command.add_argument(
        "log", type=Path, nargs="?", help=".csv, .parquet or .npz, in stream order"
    )
    command.add_argument(
        "--from-prometheus", metavar="URL", help="read what was counted instead of a log"
    )
    command.add_argument("--model", help="name of the model in Prometheus")
    command.add_argument("--days", type=float, default=14.0, help="how far back (14)")
    _add_columns(command)
    command.add_argument("--classes", help="all classes that can occur, with commas between")
    command.add_argument("--baseline", type=Path, help="take classes and decision from this file")
    command.add_argument("--output", help="which output of the model")
    command.add_argument("--save", type=Path, help="baseline file to write")
    command.add_argument("--accept", action="store_true", help="learn all of the log as normal")
    command.add_argument("--tolerance", type=float, default=0.2)
    command.add_argument("--average-run-length", type=float, default=1e7)

    command = commands.add_parser("baseline", help="check a baseline file and show its band")
    command.set_defaults(command=_baseline)
    command.add_argument("file", type=Path)
    command.add_argument("--tolerance", type=float, default=0.2)

    command = commands.add_parser("replay", help="find drift in a log of predicted classes")
    command.set_defaults(command=_replay)
    command.add_argument("file", type=Path, help="baseline file")
    command.add_argument(
        "labels", type=Path, help="as for calibrate; or class indices: .npy, or text, one a line"
    )
    _add_columns(command)
    command.add_argument("--output", help="which output's baseline")
    command.add_argument("--tolerance", type=float, default=0.2)
    command.add_argument("--average-run-length", type=float, default=1e7)
    _add_fleet(commands)
    _add_doctor(commands)
    _add_what_is_handed_out(commands)
    return parser


def _add_fleet(commands: Any) -> None:
    command = commands.add_parser(
        "fleet", help="watch all replicas together, by what Prometheus has counted"
    )
    command.set_defaults(command=_fleet)
    command.add_argument("--prometheus", required=True, metavar="URL", help="or its like")
    command.add_argument("--tick", type=float, default=15.0, metavar="SECONDS", help="(15)")
    command.add_argument(
        "--delay", type=float, default=5.0, metavar="SECONDS", help="until a tick is read (5)"
    )
    command.add_argument("--state", type=Path, metavar="FILE", help="what is kept between runs")
    command.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="of a model, or a folder of them; else what the replicas export",
    )
    command.add_argument("--tolerance", type=float, default=0.2, help="of those files")
    command.add_argument(
        "--average-run-length", type=float, help="else what the replicas have, else 10 million"
    )
    command.add_argument("--once", action="store_true", help="read one tick, print what is known")


def _add_doctor(commands: Any) -> None:
    command = commands.add_parser("doctor", help="say why no series arrive, and what to do")
    command.set_defaults(command=_doctor)
    command.add_argument(
        "--prometheus", metavar="URL", help="look at what has arrived there, not at this machine"
    )
    command.add_argument("--json", action="store_true", help="print a list of objects")


def _add_what_is_handed_out(commands: Any) -> None:
    formats = {"choices": ("plain", "kubernetes"), "default": "plain"}

    command = commands.add_parser("rules", help="print recording rules and alerts for Prometheus")
    command.set_defaults(command=_rules)
    command.add_argument("--format", **formats, help="kubernetes: a PrometheusRule")
    command.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="of the PrometheusRule"
    )

    command = commands.add_parser("dashboards", help="write Grafana's dashboards")
    command.set_defaults(command=_dashboards)
    command.add_argument("--directory", type=Path, help="where to write them")
    command.add_argument("--format", **formats, help="kubernetes: print ConfigMaps")

    for name, file in (
        ("collector", "collector/config.yaml"),
        ("prometheus", "prometheus/prometheus.yml"),
        ("alertmanager", "prometheus/alertmanager.yml"),
    ):
        command = commands.add_parser(f"{name}-config", help=f"print a configuration of {name}")
        command.set_defaults(command=_configuration, file=file)


if __name__ == "__main__":
    sys.exit(main())
