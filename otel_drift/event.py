"""The event that an alarm emits through OpenTelemetry's logs API.

Its name is ``keras.prediction.drift``. The body is a sentence; the attributes hold the evidence,
the effect sizes of the newest window, the classes that moved and since when.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs

from otel_drift.package import __version__

if TYPE_CHECKING:
    from otel_drift.monitor import DriftAlarm

EVENT_NAME = "keras.prediction.drift"


def emit_drift_event(
    logger_provider: Any, attributes: Mapping[str, str], alarm: DriftAlarm
) -> None:
    """Emit one alarm.

    Parameters
    ----------
    logger_provider
        None stands for the global one.
    attributes
        Model and output.
    alarm
        What the detector found.
    """
    details: dict[str, Any] = {
        **attributes,
        "keras.prediction.drift.evidence": alarm.alarm.evidence,
        "keras.prediction.drift.onset": alarm.onset,
        "keras.prediction.drift.onset.predictions": alarm.alarm.onset,
        "keras.prediction.drift.classes": [name for name, _ in alarm.moved],
        "keras.prediction.drift.ratios": [ratio for _, ratio in alarm.moved],
    }
    if alarm.window is not None:
        details["keras.prediction.drift.p_value"] = alarm.window.test.p_value
        details["keras.prediction.drift.window.size"] = int(alarm.window.counts.sum())
        for measure, value in alarm.window.effect._asdict().items():
            details[f"keras.prediction.drift.effect.{measure}"] = value
    _logs.get_logger("otel_drift", __version__, logger_provider).emit(
        _logs.LogRecord(
            timestamp=int(alarm.time * 1e9),
            severity_number=_logs.SeverityNumber.WARN,
            severity_text="WARN",
            event_name=EVENT_NAME,
            body=sentence(attributes, alarm),
            attributes=details,
        )
    )


def sentence(attributes: Mapping[str, str], alarm: DriftAlarm) -> str:
    """Say in words what moved, since when, and how sure that is."""
    moved = " and ".join(f"class {name} (x{ratio:.2g})" for name, ratio in alarm.moved)
    since = datetime.fromtimestamp(alarm.onset, UTC).isoformat(timespec="seconds")
    return (
        f"Predictions of {' '.join(attributes.values())} have drifted: "
        f"{moved or 'several classes'}, since about {float(f'{alarm.alarm.onset:.2g}'):.0f} "
        f"predictions ago ({since}); evidence 10^{alarm.alarm.evidence:.1f}"
    )
