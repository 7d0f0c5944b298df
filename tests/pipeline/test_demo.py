"""The demonstration: it ends well, it cleans up after itself, and it says what is in its way."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.demo.stack import BIN, ROOT, Ports, StackError, option_of
from examples.demo.view import NOTHING_YET, Reading, line, picture

DIGITS = [str(digit) for digit in range(10)]


def demo(folder: Path, ports: Ports, *options: str) -> list[str]:
    """Write the command of a demonstration on these ports, with the pinned programs."""
    return [
        *(sys.executable, "-m", "examples.demo", "--folder", str(folder)),
        *(f"{option_of(name)}={port}" for name, port in asdict(ports).items()),
        *(f"--{name}={BIN / name}" for name in ("otelcol", "prometheus", "alertmanager")),
        *options,
    ]


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A folder of its own, with the model already trained."""
    for file in (model, model.with_suffix(".baseline.json")):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.pipeline
def test_it_ends_when_the_webhook_has_the_alert(folder: Path) -> None:
    ports = Ports.free()
    done = subprocess.run(
        demo(folder, ports, "--undrifted", "15"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout, "plain lines where the output is not a terminal"
    assert "Images of all digits are sent: nothing has drifted." in done.stdout
    assert "DriftDetected: digits: " in done.stdout
    told = re.search(
        r"^From the first drifted prediction to the webhook: ([\d.]+) s and ([\d,]+) predictions$",
        done.stdout,
        re.MULTILINE,
    )
    assert told, done.stdout
    assert int(told[2].replace(",", "")) > 0
    ports.check()  # nothing is left that holds one


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 130),
        pytest.param(
            signal.SIGKILL,
            -signal.SIGKILL,
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="only Linux ends the children of a killed process"
            ),
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_nothing_is_left_when_it_is_stopped(
    folder: Path, eventually: Callable[..., Any], number: signal.Signals, status: int
) -> None:
    ports = Ports.free()
    with subprocess.Popen(
        demo(folder, ports), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        report = folder / "stack" / "logs" / "predictions.jsonl"
        eventually(lambda: report.exists() and report.stat().st_size > 0, seconds=120)
        with pytest.raises(StackError, match="is in use"):
            ports.check()
        running.send_signal(number)
        assert running.wait(60) == status
        eventually(lambda: _free(ports), seconds=30)
    size = report.stat().st_size
    assert status < 0 or '"ended"' in report.read_text(), "the example could not end in order"
    assert report.stat().st_size == size, "the example still runs"


@pytest.mark.pipeline
def test_a_port_in_use_is_named_with_the_option_that_moves_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        done = subprocess.run(
            demo(tmp_path, replace(Ports.free(), alertmanager=taken)),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"demo: port {taken} (alertmanager) is in use: stop what uses it, or take another with "
        f"--alertmanager-port PORT (make demo ALERTMANAGER_PORT=PORT)\n"
    )


@pytest.mark.parametrize("name", asdict(Ports()))
def test_every_port_is_checked(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=f"port {taken} .*{option_of(name)} PORT"):
            replace(Ports.free(), **{name: taken}).check()


def test_a_port_given_twice_is_refused() -> None:
    ports = Ports.free()
    with pytest.raises(StackError, match="given twice: by --prometheus-port and --webhook-port"):
        replace(ports, webhook=ports.prometheus).check()


def reading(**changes: Any) -> Reading:
    shares = dict.fromkeys(DIGITS, 0.1)
    known = Reading(
        shares=shares,
        baseline=shares,
        lower=dict.fromkeys(DIGITS, 0.07),
        upper=dict.fromkeys(DIGITS, 0.13),
        predictions_per_second=2500,
        milliseconds=(4.25, 11.0),
        p_value=0.25,
        evidence=3.5,
        threshold=7.0,
        alarms=0,
        active=False,
        firing=(),
    )
    return known._replace(**changes)


def drawn(shown: Reading, columns: int = 80) -> list[str]:
    console = Console(width=columns, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(picture(shown, 83.0, "Images of all digits are sent."))
    return capture.get().splitlines()


def test_the_view_fits_into_80_columns() -> None:
    lines = drawn(reading(firing=("DriftDetected", "PredictionDistributionShifted"), active=True))
    assert max(map(len, lines)) == 80
    assert not [text for text in lines if "…" in text]


def test_a_moved_class_is_told_by_shape_and_word_not_by_colour_alone() -> None:
    shares = {**dict.fromkeys(DIGITS, 0.1), "0": 0.01, "7": 0.19}
    lines = drawn(reading(shares=shares))
    assert [text for text in lines if "▼" in text and "▒" in text and "below its band" in text]
    assert [text for text in lines if "▲" in text and "▒" in text and "above its band" in text]
    assert len([text for text in lines if "●" in text and "base 10.0%" in text]) == 8


def test_a_view_without_data_says_so() -> None:
    assert [text for text in drawn(NOTHING_YET) if "waiting for the first predictions" in text]
    assert "nan" not in line(NOTHING_YET)


def _free(ports: Ports) -> bool:
    try:
        ports.check()
    except StackError:
        return False
    return True
