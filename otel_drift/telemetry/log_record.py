"""The events of drift, emitted through OpenTelemetry's logs API.

An event is emitted when a drift begins, when what moved has changed much, and when it has ended.
Its name is ``keras.prediction.drift``. The body is a sentence; the attributes hold the state, the
evidence, the effect sizes of the newest window, the classes that moved, and since when. The classes
and shares are those of the gauge ``keras.prediction.drift.share``, and so of the alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opentelemetry import _logs

from otel_drift.drift.events import DriftAlarm, DriftEvent
from otel_drift.package import __version__
from otel_drift.telemetry.names import DRIFT_EVENT, MODEL, OUTPUT, SCOPE, VERSION


def emit_drift_event(
    logger_provider: Any, attributes: Mapping[str, str], event: DriftEvent
) -> None:
    """Emit one event.

    Parameters
    ----------
    logger_provider
        None stands for the global one.
    attributes
        Model and output.
    event
        What the monitor found.
    """
    ended = event.state == "ended"
    severity = _logs.SeverityNumber.INFO if ended else _logs.SeverityNumber.WARN
    _logs.get_logger(SCOPE, __version__, logger_provider).emit(
        _logs.LogRecord(
            timestamp=int(event.time * 1e9),
            severity_number=severity,
            severity_text="INFO" if ended else "WARN",
            event_name=DRIFT_EVENT,
            body=sentence(attributes, event),
            attributes={**attributes, **_details(event)},
        )
    )


def sentence(attributes: Mapping[str, str], event: DriftEvent) -> str:
    """Say in words what moved, since when, and how sure that is."""
    version = f" in version {attributes[VERSION]}" if VERSION in attributes else ""
    which = f"output {attributes[OUTPUT]} of model {attributes[MODEL]}{version}"
    alarm = event.alarm
    since = datetime.fromtimestamp(alarm.onset, UTC).isoformat(timespec="seconds")
    if event.state == "ended":
        return f"The drift of {which}, which began about {since}, has ended"
    what = "has drifted" if event.state == "began" else "still drifts, and differently"
    moved = "; ".join(
        f"class {one.name} from {_percentage(one.baseline)} to about {_percentage(one.share)}"
        for one in alarm.moved
    )
    ago = float(f"{alarm.alarm.age:.2g}")
    return (
        f"What is predicted for {which} {what}: {moved or 'several classes'}; since about "
        f"{ago:.0f} predictions ago ({since}); evidence 10^{alarm.alarm.evidence:.1f}"
    )


def _details(event: DriftEvent) -> dict[str, Any]:
    alarm: DriftAlarm = event.alarm
    details: dict[str, Any] = {
        "keras.prediction.drift.state": event.state,
        "keras.prediction.drift.evidence": alarm.alarm.evidence,
        "keras.prediction.drift.onset": alarm.onset,
        "keras.prediction.drift.age": alarm.alarm.age,
        "keras.prediction.drift.classes": [one.name for one in alarm.moved],
        "keras.prediction.drift.baseline_shares": [one.baseline for one in alarm.moved],
        "keras.prediction.drift.shares": [one.share for one in alarm.moved],
    }
    if alarm.window is not None:
        details["keras.prediction.drift.p_value"] = alarm.window.test.p_value
        details["keras.prediction.drift.window.size"] = int(alarm.window.counts.sum())
        for measure, value in alarm.window.effect._asdict().items():
            details[f"keras.prediction.drift.effect.{measure}"] = value
    return details


def _percentage(share: float) -> str:
    """Show a share with two digits: 0.0931 as 9.3 %, and 0.00021 as 0.021 %."""
    return f"{float(f'{100 * share:.2g}'):g}%"
