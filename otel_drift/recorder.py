"""All that is recorded of one model: durations, samples, and a monitor for each output.

`otel_drift.watch` returns a recorder for models that are not Keras:

>>> import numpy as np
>>> import otel_drift
>>> recorder = otel_drift.watch("digits-forest", otel_drift.Baseline.uniform(10))
>>> recorder.record(np.array([3, 1, 4, 1, 5]))
>>> [(name, monitor.snapshot().predictions) for name, monitor in recorder.monitors()]
[('output', 5)]
"""

from __future__ import annotations

import logging
import pkgutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from otel_drift.baseline import Baseline
from otel_drift.config import Options
from otel_drift.decision import Decision
from otel_drift.discovery import outdated
from otel_drift.drift_function import DriftFunction
from otel_drift.held import HeldCalls
from otel_drift.instruments import ERROR_TYPE, METHOD, MODEL, Instruments
from otel_drift.monitor import DriftMonitor
from otel_drift.outputs import OTHER, Labels, activation_of, leaves, shapes_of, undecidable
from otel_drift.tally import Tally
from otel_drift.tensors import TRACED, UNREADABLE, Later, Unread, read
from otel_drift.watched import Reading, Watched, expected_monitors, reading_of

logger = logging.getLogger(__name__)

METHODS = ("predict", "predict_on_batch", "call")
MAXIMUM_REPLACED = 16
"""Monitors that were replaced and may still be given labels by a call under way."""
RECORD = "record"
"""Method of samples that a user hands to `Recorder.record`."""


_Labels = list[tuple[Watched, list[Labels]]]
_Laters = list[tuple[Watched, Later]]


class Call(NamedTuple):
    """A call that has returned: all that is to be counted of it, and nothing that is not."""

    method: str
    rows: int
    labels: _Labels
    later: _Laters
    tested: tuple[Any, Any] | None
    """Inputs and outputs, where the user has tests of his own."""


class Recorder:
    """Record what one model predicts.

    Parameters
    ----------
    name
        What ``keras.model.name`` says.
    instruments
        Where it is read from.
    options
        Tolerance, average run length, how outputs become classes, and the user's own tests.
    baselines
        By output name; empty for durations and class counts only.
    tracer
        Makes a span for each prediction; None makes none.

    Raises
    ------
    ImportError, AttributeError
        If ``module:function`` of an option does not lead to a function.
    """

    def __init__(
        self,
        name: str,
        instruments: Instruments[Recorder],
        options: Options,
        baselines: Mapping[str, Baseline],
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self.held = HeldCalls()
        self.samples = {method: Tally() for method in METHODS}
        self._instruments = instruments
        self._lock = threading.Lock()
        self._attributes = {method: {MODEL: name, METHOD: method} for method in METHODS}
        self._monitors: dict[str, DriftMonitor] = {}
        self._traced = False
        self._replaced: deque[tuple[DriftMonitor, DriftMonitor]] = deque(maxlen=MAXIMUM_REPLACED)
        self.configure(options, baselines, tracer)

    def configure(
        self, options: Options, baselines: Mapping[str, Baseline], tracer: Tracer | None
    ) -> None:
        """Record with other options and baselines from now on; class counts go on.

        Parameters and errors are those of the class.
        """
        labels_function = _resolved(options.outputs)
        tests = [
            DriftFunction(output, cast("Callable[..., Any]", _resolved(function)), self.failed)
            for output, function in options.drift_function.items()
        ]
        with self._lock:
            self.options, self.tracer = options, tracer
            self._labels_function, self._tests = labels_function, tests
            self._baselines = dict(baselines)
            earlier = self._monitors
            self._monitors = {output: self._monitor(one) for output, one in baselines.items()}
            self._watched: dict[str, Watched | None] = {}
            self._replaced.extend(
                (monitor, self._monitors[output])
                for output, monitor in earlier.items()
                if output in self._monitors
            )

    def record(self, outputs_or_labels: Any) -> None:
        """Count predictions: labels (numbers or class names), or outputs as a model returns them.

        Never raises: what cannot be read is counted in ``keras_instrumentation_errors_total``.

        Parameters
        ----------
        outputs_or_labels
            Labels of shape (n,), scores of shape (n, K), or a list or dict of such by output.
        """
        try:
            call = self.read(RECORD, None, None, outputs_or_labels)
            if call is not None:
                self.count(call)
        except Exception:
            self.failed("output", f"{self.name}: predictions that cannot be counted")

    def duration(
        self,
        method: str,
        seconds: float,
        error: BaseException | None = None,
        context: Context | None = None,
    ) -> None:
        """Record how long a call took, and what it failed with."""
        attributes = self._attributes[method]
        if error is not None:
            attributes = {**attributes, ERROR_TYPE: type(error).__qualname__}
        self._instruments.duration.record(seconds, attributes, context)

    def read(self, method: str, model: Any, x: Any, y: Any) -> Call | None:
        """Read what a call returned; None if it was no prediction but a tracing of the model.

        Parameters
        ----------
        method
            ``predict``, ``predict_on_batch``, ``call`` or ``record``.
        model
            For what its layers say about its outputs; may be None.
        x, y
            What went in and came out.

        Notes
        -----
        Never raises: what cannot be read is counted in ``keras_instrumentation_errors_total``, and
        the rest of the call goes on being recorded.
        """
        outputs, read_now, read_later = y, _Labels(), _Laters()
        try:
            if self._labels_function is not None:
                if any(read(value) is TRACED for _, value in leaves(y)):
                    return None
                outputs = self._labels_function(y)
            parts = _parts(outputs)
        except Exception:
            self.failed("output", f"{self.name}: the outputs function failed")
            parts = []
        for output, value in parts:
            try:
                found = self._read_output(model, output, value, len(parts) == 1)
                if found is TRACED:
                    return None
                if found is None:
                    continue
                watched, values = found
                if isinstance(values, Later):
                    read_later.append((watched, values))
                else:
                    read_now.append((watched, watched.labels(values)))
            except Exception:
                self.failed("output", f"{self.name}: output {output!r} cannot be counted")
        return Call(method, _rows(y), read_now, read_later, (x, y) if self._tests else None)

    def _read_output(
        self, model: Any, output: str, value: Any, only: bool
    ) -> tuple[Watched, NDArray[Any] | Later] | Literal[Unread.TRACED] | None:
        """Read one array of a call; None if it is not watched."""
        known = self._watched.get(output)
        values = read(self._numbered(value), known.decision if known is not None else None)
        if known is not None and type(values) is np.ndarray:
            return known, values
        if values is TRACED:
            self._say_traced(value)
            return TRACED
        if values is UNREADABLE:
            kind = type(value).__name__
            what = f"{self.name}: output {output!r} of type {kind} cannot be read"
            self.failed("output", what, traceback=False)
            return None
        if output not in self._watched:
            if isinstance(values, Later):
                values = values.read()  # waits, once in an output's life, to learn its shape
            self._watch(output, values, model, only)
        watched = self._watched.get(output)
        return None if watched is None else (watched, values)

    def _say_traced(self, value: Any) -> None:
        """Say, once, that a program has made a function of a model that bypasses us."""
        if self._traced or type(value).__module__.startswith("keras."):
            return  # a model built into another is called through that one
        self._traced = True
        logger.warning(
            "%s: was traced, by jax.jit, tf.function, an export or the like: what the resulting "
            "function predicts does not pass through Keras and is not recorded; otel_drift.watch "
            "can count it",
            self.name,
        )

    def count(self, call: Call) -> None:
        """Count a call that was a prediction."""
        tally = self.samples.get(call.method) or self.samples.setdefault(call.method, Tally())
        tally.add(call.rows)
        for watched, labels in call.labels:
            watched.count(labels)
        for watched, later in call.later:
            self.held.until_ready(later, _counter(watched, later))
        if call.tested is not None:
            for test in self._tests:
                test.submit(*call.tested)

    def settle(self, *, collecting: bool) -> None:
        """Decide the calls that are held, as far as that can be: never raises."""
        try:
            self.held.settle(collecting=collecting)
        except Exception:
            self.failed("output", f"{self.name}: an output that could no longer be read")
        for earlier, monitor in list(self._replaced):
            monitor.carry_over(earlier)

    def monitors(self) -> list[tuple[str, DriftMonitor]]:
        """Each series of outputs with its monitor."""
        return list(self._monitors.items())

    def user_tests(self) -> list[tuple[str, DriftFunction]]:
        """Each of the user's own tests by output name."""
        return [(test.name, test) for test in self._tests]

    def is_configured(self, options: Options, baselines: Mapping[str, Baseline]) -> bool:
        """Whether these are the options and baselines that it already has."""
        return self.options == options and self._baselines == dict(baselines)

    def check_model(self, model: Any, path: str | None) -> None:
        """Report, once, baselines that were taken from another model than this."""
        reason = outdated(self._baselines, model, path)
        if reason is not None:
            what = f"{self.name}: {reason}: drift may be reported where there is none"
            self.failed("baseline_outdated", what, traceback=False)

    def check_fit(self, model: Any) -> None:
        """Check, where a built model tells the shapes of its outputs, that the baselines fit.

        Raises
        ------
        ValueError
            If a baseline has not as many classes as the output; names the file.
        """
        shapes = shapes_of(model)
        for output, shape in shapes.items():
            for name in expected_monitors(output, len(shapes) == 1, self._monitors):
                baseline = self._baselines[name]
                kind = (self.options.decision or baseline.decision or Decision("argmax")).kind
                classes = shape[-1] if len(shape) > 1 else None
                if kind != "argmax" or classes is None or classes < 2:
                    continue
                if classes not in self._monitors[name].class_counts:
                    raise ValueError(
                        f"{baseline.source}: field 'outputs.{baseline.output}.classes' has "
                        f"{len(baseline.classes)} classes, but output {output!r} of model "
                        f"{self.name!r} has {classes}"
                    )

    def failed(self, error_type: str, what: str, *, traceback: bool = True) -> None:
        """Count a failure of our own."""
        self._instruments.failed(self.name, error_type, what, traceback=traceback)

    def reset(self) -> None:
        """Start at 0 in the child of a fork: what was counted belongs to the parent."""
        self._lock = threading.Lock()
        self.held = HeldCalls()
        for tally in self.samples.values():
            tally.reset()
        for monitor in self._monitors.values():
            monitor.reset()
        self._replaced.clear()
        for test in self._tests:
            test.reset()

    def _monitor(self, baseline: Baseline | None, classes: int = 0) -> DriftMonitor:
        return DriftMonitor(
            baseline,
            average_run_length=self.options.average_run_length,
            tolerance=self.options.tolerance,
            classes=[str(k) for k in range(classes)],
            first=self.options.first,
        )

    def _numbered(self, value: Any) -> Any:
        """Turn class names into labels; leave everything else as it is."""
        if not isinstance(value, np.ndarray):
            return value
        array = cast("NDArray[Any]", value)
        if array.dtype.kind not in "OUS":
            return array
        classes = next(iter(self._monitors.values())).classes if self._monitors else ()
        position = {name: index for index, name in enumerate(classes)}
        names: list[Any] = array.reshape(-1).tolist()
        return np.array([position.get(str(name), OTHER) for name in names], dtype=np.int64)

    def _watch(self, output: str, values: NDArray[Any], model: Any, only: bool) -> None:
        """Decide, once, how an output is to be read; not from an array that does not tell."""
        with self._lock:
            if output in self._watched:
                return
            expected = expected_monitors(output, only, self._monitors)
            activation = activation_of(model, output, values)
            reading = reading_of(output, values, self.options.decision, expected, activation)
            if reading.decision is None and undecidable(values):
                return
            self._watched[output] = self._follow(output, reading, expected)

    def _follow(
        self, output: str, reading: Reading, expected: dict[str, DriftMonitor]
    ) -> Watched | None:
        if reading.decision is None:
            logger.warning(
                "%s: output %r %s: durations only. Set the option decision (or "
                "OTEL_PYTHON_KERAS_DECISION) to argmax, threshold:0.5 or multilabel:0.5, give a "
                "baseline that says it, or an outputs function",
                *(self.name, output, reading.problem),
            )
            return None
        if expected and reading.problem is None:
            return Watched(reading.decision, expected)
        if reading.problem is not None:
            what = f"{self.name}: output {output!r}: {reading.problem}: counting classes only"
            self.failed("baseline", what, traceback=False)
        elif self.options.first is None:
            logger.warning(
                "%s: output %r has no baseline: durations and class counts only. To watch for "
                "drift, save one beside the model (otel_drift.Baseline.from_model) or name one "
                "with OTEL_PYTHON_KERAS_BASELINE",
                *(self.name, output),
            )
        if reading.classes == 0:
            return None  # labels without the names of their classes
        monitors = {name: self._monitor(None, reading.classes) for name in reading.series}
        rest = {name: one for name, one in self._monitors.items() if name not in expected}
        self._monitors = {**rest, **monitors}
        return Watched(reading.decision, monitors)


def _resolved(function: Callable[..., Any] | str | None) -> Callable[..., Any] | None:
    """Look up ``module:function``."""
    if isinstance(function, str):
        return cast("Callable[..., Any]", pkgutil.resolve_name(function))
    return function


def _as_labels(y: Any) -> Any:
    """Read a plain list of labels as one array, and not as a list of outputs."""
    items = cast("list[Any]", y)
    if not isinstance(y, (list, tuple)) or not items:
        return items
    return np.asarray(items) if isinstance(items[0], (str, int, float, np.generic)) else items


def _parts(y: Any) -> list[tuple[str, Any]]:
    """Name the arrays of an output; quickly where there is only one."""
    if hasattr(y, "shape"):
        return [("output", y)]
    return list(leaves(_as_labels(y)))


def _rows(y: Any) -> int:
    """Count the rows of the first array of an output."""
    shape = getattr(y, "shape", None)
    if shape is None:
        parts = _parts(y)
        if not parts:
            return 0
        shape = getattr(parts[0][1], "shape", ())
    return int(shape[0]) if len(shape) > 0 else 1


def _counter(watched: Watched, later: Later) -> Callable[[NDArray[Any]], None]:
    if later.labels:
        return lambda values: watched.count([values])
    return lambda values: watched.count(watched.labels(values))
