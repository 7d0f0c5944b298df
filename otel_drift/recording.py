"""Which models are recorded, and by which recorder.

A `Recording` is one set of options with the providers it reports to: that of the instrumentor, of
`instrument_model`, or of `watch`. Models of one name share one recorder, so that a model that is
loaded again goes on counting where the last one stopped.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_drift.baseline import Baseline
from otel_drift.config import VARIABLE_PREFIX, Options
from otel_drift.discovery import find_baselines
from otel_drift.instruments import SCOPE, Instruments
from otel_drift.package import __version__
from otel_drift.recorder import Recorder

logger = logging.getLogger(__name__)

MAXIMUM_NAMES = 200
"""Model names that get series of their own: a program may make models in a loop."""

_instruments: WeakKeyDictionary[MeterProvider, Instruments[Recorder]] = WeakKeyDictionary()
_recordings: WeakSet[Recording] = WeakSet()
_lock = threading.Lock()


def instruments_of(meter_provider: MeterProvider | None) -> Instruments[Recorder]:
    """Give the instruments of a meter provider (None: the global one), made once."""
    given = meter_provider or metrics.get_meter_provider()
    with _lock:
        found = _instruments.get(given)
        if found is None and given is metrics.get_meter_provider():
            # Made when there was no SDK yet: those instruments have come alive in the meantime.
            found = next((one for one in _instruments.values() if one.of_proxy), None)
        if found is None:
            found = _instruments.setdefault(given, Instruments(given))
        return found


class Recording:
    """Record models under one set of options.

    Parameters
    ----------
    options
        Checked options.
    lenient
        Whether a broken baseline is a warning, because nobody asked for it in code.
    meter_provider, tracer_provider, logger_provider
        None stands for the global ones.
    """

    def __init__(
        self,
        options: Options,
        *,
        lenient: bool,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        logger_provider: Any = None,
    ) -> None:
        self.options = options
        self._lenient = lenient
        self._instruments = instruments_of(meter_provider)
        if logger_provider is not None:
            self._instruments.logger_provider = logger_provider
        self._tracer = (
            trace.get_tracer(SCOPE, __version__, tracer_provider) if options.traces else None
        )
        self._recorders: dict[str, Recorder] = {}
        self._lock = threading.Lock()
        _recordings.add(self)

    def recorder(self, name: str, model_path: str | os.PathLike[str] | None = None) -> Recorder:
        """Give the recorder of a model name, made with the baseline that is found for it.

        Raises
        ------
        FileNotFoundError, ValueError
            If the baseline is missing or broken, unless the recording is lenient.
        """
        known = self._recorders.get(name)
        if known is not None and model_path is None:
            return known
        baselines = self._baselines(name, model_path)
        if self._lenient:
            self.options = _with_functions_that_exist(self.options)
        with self._lock:
            known = self._instruments.recorders.get(name)
            if known is None:
                if len(self._instruments.recorders) >= MAXIMUM_NAMES:
                    name, baselines = "other", dict[str, Baseline]()
                known = self._instruments.recorder(name, lambda: self._made(name, baselines))
            if not known.is_configured(self.options, baselines):
                known.configure(self.options, baselines, self._tracer)
            self._recorders = {**self._recorders, name: known}
            return known

    def _made(self, name: str, baselines: Mapping[str, Baseline]) -> Recorder:
        return Recorder(name, self._instruments, self.options, baselines, self._tracer)

    def failed(self, name: str, what: str) -> None:
        """Count a failure of our own with a model that has no recorder."""
        self._instruments.failed(name, "internal", what)

    def close(self) -> None:
        """Record and report nothing any more."""
        for recorder in self._recorders.values():
            self._instruments.detach(recorder)
        self._recorders = {}

    def reset(self) -> None:
        """Make the lock anew in the child of a fork."""
        self._lock = threading.Lock()

    def _baselines(
        self, name: str, model_path: str | os.PathLike[str] | None
    ) -> Mapping[str, Baseline]:
        try:
            return find_baselines(self.options, name, model_path)
        except (OSError, ValueError) as error:
            if not self._lenient:
                raise
            asked = f" ({VARIABLE_PREFIX}BASELINE)" if self.options.baseline is not None else ""
            what = f"{name}: predictions are not tested for drift: {error}{asked}"
            self._instruments.failed(name, "baseline", what, traceback=False)
            return dict[str, Baseline]()


def _with_functions_that_exist(options: Options) -> Options:
    """Give the options without the functions that are only named and cannot be found.

    Looked up when the first model predicts: earlier, their modules may not be imported yet.
    """
    outputs = options.outputs if _exists("outputs", options.outputs) else None
    tests = {
        output: function
        for output, function in options.drift_function.items()
        if _exists("drift_function", function)
    }
    return replace(options, outputs=outputs, drift_function=tests)


def _exists(option: str, function: Callable[..., Any] | str | None) -> bool:
    try:
        return not isinstance(function, str) or callable(pkgutil.resolve_name(function))
    except Exception as error:  # whatever importing the program's module may raise
        logger.warning(
            "%s%s=%r: must name a function of the program, as 'module:function': %s; "
            "the default is used",
            *(VARIABLE_PREFIX, option.upper(), function, error),
        )
        return False


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for recording in list(_recordings):
        recording.reset()
    for instruments in list(_instruments.values()):
        instruments.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def watch(
    name: str,
    baseline: Any,
    *,
    meter_provider: MeterProvider | None = None,
    logger_provider: Any = None,
    **options: Any,
) -> Recorder:
    """Watch the predictions of any model: scikit-learn, XGBoost, plain PyTorch.

    Parameters
    ----------
    name
        What ``keras.model.name`` says.
    baseline
        A `Baseline`, a dict of them by output name, a file or ``"first:10000"``; with None, the
        classes of scores are counted (of labels nobody says how many there are).
    meter_provider, logger_provider
        Instead of the global ones.
    **options
        ``tolerance``, ``average_run_length``, ``decision``, ``outputs`` and ``drift_function``, as
        of `KerasInstrumentor`.

    Returns
    -------
    Recorder
        Its ``record(outputs_or_labels)`` counts predictions and never raises.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an option is wrong, or the baseline is missing or broken.
    """
    checked = Options.of(baseline=baseline, model_name=name, **options)
    recording = Recording(
        checked, lenient=False, meter_provider=meter_provider, logger_provider=logger_provider
    )
    return recording.recorder(name)
