"""What is recorded of one model: rows, a monitor for each series of labels, the user's own tests.

`otel_drift.watch` returns a recorder for models that are not Keras:

>>> import numpy as np
>>> import otel_drift
>>> from opentelemetry.sdk.metrics import MeterProvider
>>> from opentelemetry.sdk.metrics.export import InMemoryMetricReader
>>> reader = InMemoryMetricReader()
>>> recorder = otel_drift.watch(
...     "digits-forest", otel_drift.Baseline.uniform(10), meter_provider=MeterProvider([reader])
... )
>>> recorder.record(np.array([3, 1, 4, 1, 5]))
>>> scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
>>> [point.value for point in scope.metrics[0].data.data_points]
[5]
"""

from __future__ import annotations

import logging
import pkgutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Tracer

from otel_drift.baselines.baseline import Baseline
from otel_drift.drift.keys import hashed
from otel_drift.drift.monitor import DriftMonitor
from otel_drift.options import Options
from otel_drift.outputs.arrays import Later
from otel_drift.outputs.decision import Labels
from otel_drift.outputs.interpretation import Series
from otel_drift.outputs.reader import Found, KnownOutput, OutputReader
from otel_drift.outputs.series import SeriesOfModel
from otel_drift.telemetry.backlog import BACKLOG
from otel_drift.telemetry.drift_function import DriftFunction
from otel_drift.telemetry.failures import Failures
from otel_drift.telemetry.invocation import Method, Seen
from otel_drift.telemetry.late_outputs import LateOutputs
from otel_drift.telemetry.liveness import instrument_is_live, tracer_is_live
from otel_drift.telemetry.names import MODEL, VERSION
from otel_drift.telemetry.undecided_call import PossibleStep, Undecided

logger = logging.getLogger(__name__)

MAXIMUM_EARLIER = 16
"""Recorders that were replaced and may still be given labels by a call under way."""
RECORD = "record"
"""Method of samples that a user hands to `ModelRecorder.record`."""


class Configuration(NamedTuple):
    """What tells recorders of one name apart: everything that decides what their series say."""

    settings: Options
    """Without what only says how baselines are found, and without names."""
    baselines: Mapping[str, Baseline]

    @classmethod
    def of(cls, options: Options, baselines: Mapping[str, Baseline]) -> Configuration:
        """Give the configuration of options and the baselines that they led to."""
        settings = replace(options, baseline=None, model_name=None, model_version=None, traces=True)
        return cls(settings, dict(baselines))


class ModelRecorder:
    """Record what one model predicts.

    Parameters
    ----------
    name, version
        What ``keras.model.name`` and ``keras.model.version`` say; None for no version.
    configuration
        Tolerance, average run length, how outputs become classes, the user's own tests, and the
        baselines by output name: none for durations and class counts only.
    duration
        The histogram of durations.
    failures
        Counts what the instrumentation itself fails at.

    Raises
    ------
    ValueError
        If ``module:function`` of an option does not lead to a function; names the option.
    """

    def __init__(
        self,
        name: str,
        version: str | None,
        configuration: Configuration,
        duration: Histogram,
        failures: Failures,
    ) -> None:
        self.name, self.version = name, version
        self.attributes = {MODEL: name} if version is None else {MODEL: name, VERSION: version}
        self.configuration = configuration
        self.tracer: Tracer | None = None
        self.logger_provider: Any = None
        self.traced = False
        """Whether calls have spans: there is a tracer, and it leads to an SDK."""
        self.counted = False
        """Whether calls are counted: the instruments lead to an SDK."""
        self.alive = False
        """Whether it is open and both are settled; else `comes_alive` is to be asked."""
        self.duration = duration
        self.methods: dict[str, Method] = {}
        self.samples: dict[str, int] = {}
        """Rows that were predicted by method."""
        self.undecided = Undecided()
        self.newest: PossibleStep | None = None
        """Of the newest call, the sign of a training step that may come of it."""
        self.late = LateOutputs()
        self.closed = False
        """Whether its series have ended: whoever still has it should ask for another."""
        self._failures = failures
        self._lock = threading.Lock()
        self._earlier: deque[ModelRecorder] = deque(maxlen=MAXIMUM_EARLIER)
        self._dependent: set[str] = set()

        options = configuration.settings
        function = _resolved("outputs", options.outputs)
        self.tests = [
            DriftFunction(output, _resolved("drift_function", one), self.failed)
            for output, one in options.drift_function.items()
        ]
        self._monitors = {
            output: self._monitor(one) for output, one in configuration.baselines.items()
        }
        prepared = {output: _series(monitor) for output, monitor in self._monitors.items()}
        self._series = SeriesOfModel(prepared, self._start_series)
        # What is handed over may be labels where the model returns scores: each is read in its way.
        self.reader, self._handed_over = (
            OutputReader(
                name,
                self._series,
                self.failed,
                decision=options.decision,
                function=function,
                learning=options.first is not None,
            )
            for _ in range(2)
        )

    def serve(
        self,
        methods: Sequence[str] = (),
        tracer: Tracer | None = None,
        logger_provider: Any = None,
        activation_of: Callable[..., str | None] | None = None,
    ) -> None:
        """Serve one more session; what one before it has said goes on to hold.

        Parameters
        ----------
        methods
            The methods that are timed; their counters of samples begin at 0.
        tracer
            Makes a span for each prediction; without one there are none.
        logger_provider
            Gets the events of drift; None stands for the global one.
        activation_of
            As of `OutputReader`.
        """
        for method in methods:
            self.methods.setdefault(method, Method(self, method, self.reader.usual))
            self.samples.setdefault(method, 0)
        self.tracer = self.tracer or tracer
        self._say_what_is_alive()
        self.logger_provider = self.logger_provider or logger_provider
        self.reader.activation_of = self.reader.activation_of or activation_of

    def record(self, outputs_or_labels: Any, key: Any = None) -> None:
        """Count predictions: labels (numbers or class names), or outputs as a model returns them.

        Never raises: what cannot be read is counted in ``keras_instrumentation_errors_total``.

        Parameters
        ----------
        outputs_or_labels
            Labels of shape (n,), scores of shape (n, K), or a list or dict of such by output.
        key
            The unit (a visit, a user) that the predictions belong to: one for all rows, or one a
            row. The first of each unit is tested, so that the promise on false alarms holds where
            units are independent; the others are counted only. Hashes are kept, of 10,000 units.
        """
        try:
            if not (self.counted or (self.comes_alive() and self.counted)):
                return
            found = self._handed_over.read(outputs_or_labels)
            if found is not None:
                if key is not None:
                    found = _with_keys(found, self._hashed(key, found.rows))
                method = self.methods.get(RECORD)
                if method is None:
                    method = self.methods.setdefault(RECORD, Method(self, RECORD, {}))
                method.append_large((method, found, None, None))
                self.test(None, outputs_or_labels)
        except Exception:
            self.failed("output", f"{self.name}: predictions that cannot be counted")

    def comes_alive(self) -> bool:
        """Whether anybody is told of calls: an SDK may come later than the instrumentation."""
        counted = self.counted or instrument_is_live(self.duration)
        traced = self.traced or (self.tracer is not None and tracer_is_live(self.tracer))
        if counted is not self.counted or traced is not self.traced:
            self.counted, self.traced = counted, traced
            self._say_what_is_alive()
        return counted or traced

    def _say_what_is_alive(self) -> None:
        self.alive = not self.closed and self.counted and (self.traced or self.tracer is None)
        for method in list(self.methods.values()):
            method.plain = self.counted and not self.traced and not self.tests

    def test(self, x: Any, y: Any) -> None:
        """Let the user's own tests see inputs and outputs of a prediction, later."""
        for test in self.tests:
            test.submit(x, y)

    def count(self, method: str, found: Found | Labels) -> None:
        """Count a call that was a prediction. Of one recorder, one thread at a time.

        Parameters
        ----------
        method
            Of which samples are counted.
        found
            What was read of what the call returned; the labels alone where it returned the usual.
        """
        if isinstance(found, Found):
            rows = found.rows
            for hold, labels in found.now:
                hold(labels)
            for known, later in found.later:
                self.late.add(later, _counting(known, later))
        else:
            rows = len(found)
            self.reader.hold_usual(found)
        with self._lock:
            self.samples[method] = self.samples.get(method, 0) + rows

    def see_unchanged(self, method: Method) -> None:
        """Take that a call begins, of which no training comes: it decides the one before."""
        sign, self.newest = self.newest, None
        if sign is not None:
            BACKLOG.add((method, Seen(sign, sign.unchanged()), None, None))

    def samples_so_far(self) -> dict[str, int]:
        """Rows that were predicted by method."""
        with self._lock:
            return dict(self.samples)

    def settle(self, *, collecting: bool) -> None:
        """Count what was late or undecided, as far as that can be: never raises."""
        try:
            if collecting:
                with BACKLOG.still():
                    self.undecided.decide()
            self.late.settle(collecting=collecting)
        except Exception:
            self.failed("output", f"{self.name}: an output that could no longer be read")
        for earlier in list(self._earlier):
            earlier.settle(collecting=collecting)
            self._carry_over(earlier)

    def succeed_in_counting(self, other: ModelRecorder) -> None:
        """Count rows with another recorder's, as part of its series."""
        self.samples, self._lock = other.samples, other._lock

    def succeed(self, earlier: ModelRecorder) -> None:
        """Go on with the counts of a recorder that this one replaces; its evidence is dropped.

        Whoever still has the earlier one may go on using it: what it is given is carried over.
        """
        self._earlier.extend([*earlier._earlier, earlier])
        earlier._earlier.clear()
        earlier.end_tests()

    def monitors(self) -> list[tuple[str, DriftMonitor]]:
        """Each series of labels with its monitor."""
        return list(self._monitors.items())

    def failed(
        self, error_type: str, what: str, *, subject: str = "", traceback: bool = True
    ) -> None:
        """Count a failure of the instrumentation itself."""
        self._failures.count(
            tuple(self.attributes.items()), error_type, what, subject=subject, traceback=traceback
        )

    def warn_of_dependence(self, output: str, design_effect: float) -> None:
        """Say once that an output's predictions depend on each other more than is allowed for."""
        if output in self._dependent:
            return
        self._dependent.add(output)
        logger.warning(
            "%s: predictions of output %r depend on each other: about %.3g count as one. Drift is "
            "found that much later, and the promise on false alarms is no longer exact. Calibrate "
            "on a log of predictions: otel-drift calibrate LOG",
            self.name,
            output,
            design_effect,
        )

    def close(self) -> None:
        """End its series and its threads."""
        self.closed = True
        self.alive = False
        self.end_tests()

    def end_tests(self) -> None:
        """End the threads of the user's own tests."""
        for test in self.tests:
            test.close()

    def reset(self) -> None:
        """Start at 0 in the child of a fork: what was counted belongs to the parent."""
        self.undecided, self.newest, self.late = Undecided(), None, LateOutputs()
        self._lock = threading.Lock()
        self._series.reset()
        self._earlier.clear()
        for method in self.samples:
            self.samples[method] = 0
        for monitor in self._monitors.values():
            monitor.reset()
        for test in self.tests:
            test.reset()

    def _hashed(self, key: Any, rows: int) -> NDArray[np.int64]:
        try:
            return hashed(key, rows)
        except (TypeError, ValueError) as error:
            what = f"{self.name}: key: {error}; the predictions count as of one unit"
            self.failed("output", what, subject="key", traceback=False)
            return np.zeros(rows, np.int64)

    def _monitor(self, baseline: Baseline | None, classes: int = 0) -> DriftMonitor:
        settings = self.configuration.settings
        return DriftMonitor(
            baseline,
            average_run_length=settings.average_run_length,
            tolerance=settings.tolerance,
            classes=[str(k) for k in range(classes)],
            first=settings.first,
        )

    def _start_series(self, name: str, classes: int) -> Series:
        """Count the classes of a series that has no baseline, or none that fits.

        Nothing has been counted yet under this name, or as many classes.
        """
        monitor = self._monitors.get(name)
        unfit = name in self.configuration.baselines and monitor and monitor.baseline is not None
        if monitor is None or unfit or classes not in monitor.class_counts:
            monitor = self._monitor(None, classes)
            self._monitors = {**self._monitors, name: monitor}
        return _series(monitor)

    def _carry_over(self, earlier: ModelRecorder) -> None:
        with earlier._lock:
            samples = dict(earlier.samples)
            earlier.samples.update(dict.fromkeys(samples, 0))
        with self._lock:
            for method, rows in samples.items():
                self.samples[method] = self.samples.get(method, 0) + rows
        for name, monitor in earlier.monitors():
            if name in self._monitors:
                self._monitors[name].carry_over(monitor)


def _with_keys(found: Found, keys: NDArray[np.int64]) -> Found:
    """Hand the key of each row on with its labels; waits for what a device has yet to deliver."""
    now = list(found.now)
    for known, later in found.later:
        values = later.read()
        now += known.batches_of_labels(values) if later.labels else known.batches(values)

    def keyed(hold: Callable[..., None]) -> Callable[[NDArray[Any]], None]:
        return lambda labels: hold(labels, _of_labels(keys, len(labels)))

    return Found(found.rows, [(keyed(hold), labels) for hold, labels in now], [])


def _of_labels(keys: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Give the key of each label: a row of several positions has a label for each.

    Where a function of the user's gives another number of labels, all are of one unit.

    >>> _of_labels(np.array([7, 8]), 4).tolist(), _of_labels(np.array([7, 8]), 3).tolist()
    ([7, 7, 8, 8], [0, 0, 0])
    """
    if len(keys) and labels % len(keys) == 0:
        return np.repeat(keys, labels // len(keys))
    return np.zeros(labels, np.int64)


def _counting(known: KnownOutput, later: Later) -> Callable[[NDArray[Any]], None]:
    """Give what counts an output once its device has delivered it."""

    def count_values(values: NDArray[Any]) -> None:
        batches = known.batches_of_labels(values) if later.labels else known.batches(values)
        for hold, labels in batches:
            hold(labels)

    return count_values


def _series(monitor: DriftMonitor) -> Series:
    baseline = monitor.baseline
    return Series(
        monitor.classes,
        monitor.class_counts,
        has_baseline=baseline is not None,
        decision=baseline.decision if isinstance(baseline, Baseline) else None,
        hold=monitor.hold,
    )


def _resolved(option: str, function: Callable[..., Any] | str | None) -> Any:
    """Look up ``module:function``."""
    if not isinstance(function, str):
        return function
    try:
        return pkgutil.resolve_name(function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{option}={function!r}: must name a function, as 'module:function': {error}"
        ) from error
