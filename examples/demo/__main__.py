"""Show drift on live predictions, from Keras to a webhook, on this machine.

Starts a collector, Prometheus, Alertmanager and a webhook, and the example of `examples/digits`,
which knows nothing of being watched. It predicts for a minute as its baseline expects; then 0
disappears. Ends when the webhook has the alert, and stops all that it started.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from examples.demo.example import Example
from examples.demo.stack import (
    ROOT,
    Ports,
    Programs,
    Stack,
    StackError,
    die_with_parent,
    option_of,
)
from examples.demo.view import NOTHING_YET, Reading, View, read
from examples.demo.webhook import Delivery

MODEL = "digits"
ALERTS = ("DriftDetected", "PredictionDistributionShifted")
SECONDS_TO_FIRST_PREDICTION = 120.0
SECONDS_TO_ALERT = 120.0


def main(options: Sequence[str] | None = None) -> int:
    """Run the demonstration; return an exit status."""
    arguments = _arguments(options)
    console = Console(highlight=False)
    _raise_on_sigterm()
    try:
        demonstrate(arguments, console)
    except StackError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130
    return 0


def demonstrate(arguments: argparse.Namespace, console: Console) -> None:
    """Start everything, show it, tell how long it took, stop everything."""
    ports = Ports(**{name: getattr(arguments, f"{name}_port") for name in asdict(Ports())})
    programs = Programs.found(
        otelcol=arguments.otelcol,
        prometheus=arguments.prometheus,
        alertmanager=arguments.alertmanager,
    )
    ports.check()
    model = trained_model(arguments.folder, console)
    stack = Stack(programs, ports, arguments.folder / "stack")
    console.print("Starting the collector, Prometheus, Alertmanager and a webhook")
    with stack:
        example = Example(stack, model, arguments)
        with View(console) as view:
            delivery = _watch(stack, example, view)
        _tell(delivery, example, console)
        if arguments.keep:
            _keep(stack, console)
        console.print("Stopping everything")
    console.print("Stopped")


def trained_model(folder: Path, console: Console) -> Path:
    """Train the example's model unless that was done before."""
    path = folder / f"{MODEL}.keras"
    if not (path.is_file() and path.with_suffix(".baseline.json").is_file()):
        console.print("Training the model of the example")
        command = [sys.executable, ROOT / "examples/digits/train.py", "--output", folder]
        # Its own process: Keras and torch would make this one start slowly, and its threads
        # must not be there when programs are started.
        done = subprocess.run(
            command, check=False, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        if done.returncode:
            raise StackError(f"training failed: run {' '.join(map(str, command))} to see why")
    return path


def _watch(stack: Stack, example: Example, view: View) -> Delivery:
    """Show what is happening until the webhook has the alert of the drift."""
    start = time.time()
    reading = NOTHING_YET
    while True:
        delivery = stack.webhook.wait_for(_is_drift, seconds=0.5)
        stack.check()
        example.update()
        now = time.time()
        with contextlib.suppress(OSError):  # a busy Prometheus: the last reading stays
            reading = read(stack.prometheus, MODEL)
        view.show(reading, now - start, _sentence(example, reading, delivery))
        if delivery is not None:
            if example.drifted_at is None or delivery.time < example.drifted_at:
                raise StackError("an alert came before there was drift")
            return delivery
        if example.predictions == 0 and now - start > SECONDS_TO_FIRST_PREDICTION:
            raise StackError(f"no prediction within {SECONDS_TO_FIRST_PREDICTION:.0f} s")
        if example.drifted_at is not None and now - example.drifted_at > SECONDS_TO_ALERT:
            raise StackError(f"no alert within {SECONDS_TO_ALERT:.0f} s of drift")


def _is_drift(delivery: Delivery) -> bool:
    return any(delivery.firing(alert) for alert in ALERTS)


def _sentence(example: Example, reading: Reading, delivery: Delivery | None) -> str:
    """Say what is happening now."""
    if example.predictions == 0:
        return "The example loads Keras and its model."
    if example.drifted_at is None:
        return "Images of all digits are sent: nothing has drifted."
    if delivery is not None:
        return "The webhook has the alert."
    if reading.firing:
        return "The alert fires in Prometheus; Alertmanager tells the webhook."
    if reading.active:
        return "The detector has raised an alarm; Prometheus's rules will see it."
    return f"Drift ({example.drift}): the next export will show it."


def _tell(delivery: Delivery, example: Example, console: Console) -> None:
    assert example.drifted_at is not None
    example.update()
    alert = next(one for name in ALERTS for one in delivery.firing(name))
    console.print(f"\n{alert['labels']['alertname']}: {alert['annotations']['summary']}")
    console.print(alert["annotations"]["description"])
    console.print(
        f"\nFrom the first drifted prediction to the webhook: "
        f"{delivery.time - example.drifted_at:.1f} s and "
        f"{example.drifted_predictions(delivery.time):,} predictions",
        style="bold",
    )


def _keep(stack: Stack, console: Console) -> None:
    console.print("\nEverything goes on running, with the drift. To look at:")
    for name, address in stack.addresses.items():
        console.print(f"  {name:20} {address}", soft_wrap=True)
    console.print("Ctrl-C stops everything.")
    forever = threading.Event()
    while not forever.wait(1):
        stack.check()


def _raise_on_sigterm() -> None:
    """End as on Ctrl-C: in order. What comes after the first signal does not disturb that."""

    def stop(*_: object) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)


def _arguments(options: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    add = parser.add_argument
    add("--keep", action="store_true", help="leave everything running until Ctrl-C")
    add("--undrifted", type=float, default=60, metavar="SECONDS", help="before the drift (60)")
    add("--drift", default="drop:0", help="as of examples/digits/drift.py (drop:0)")
    add("--rate", type=float, default=2500, help="predictions a second (2500)")
    add("--folder", type=Path, default=ROOT / ".demo", help="for model, data and logs (.demo)")
    for name, port in asdict(Ports()).items():
        add(option_of(name), type=int, default=port, metavar="PORT", help=f"instead of {port}")
    for name in asdict(Programs.built()):
        add(f"--{name}", metavar="PATH", help=f"instead of the {name} that is found")
    arguments = parser.parse_args(options)
    arguments.folder = Path(os.path.abspath(arguments.folder))
    return arguments


if __name__ == "__main__":
    sys.exit(main())
