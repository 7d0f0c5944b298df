"""One set of options and the providers that it reports to: of an instrumentor, or of `watch`.

A session knows where baselines are found and what is to be said where they are missing or broken;
`ModelRegistry` knows which models there are.

>>> import numpy as np
>>> from otel_drift import Baseline
>>> forest = watch("iris-forest", Baseline.from_counts([50, 50, 50]))
>>> forest.record(np.array([0, 2, 1, 1]))
"""

from __future__ import annotations

import logging
import os
import pkgutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_drift.baselines.baseline import Baseline
from otel_drift.baselines.discovery import find_baselines, version_of
from otel_drift.options import VARIABLE_PREFIX, Options
from otel_drift.package import __version__
from otel_drift.telemetry.instruments import instruments_of, reset_instruments
from otel_drift.telemetry.names import MODEL, SCOPE
from otel_drift.telemetry.recorder import Configuration, ModelRecorder
from otel_drift.telemetry.registry import MAXIMUM_MODELS, Identity, Taken

logger = logging.getLogger(__name__)

_sessions: WeakSet[Session] = WeakSet()
_watches: WeakSet[Session] = WeakSet()


class Session:
    """Record models under one set of options.

    Parameters
    ----------
    options
        Checked options.
    strict
        Whether what is wrong with a baseline or a name is an error, because it was asked for in
        code; else it is a warning, and the model is recorded without.
    meter_provider, tracer_provider, logger_provider
        None stands for the global ones.
    methods
        The methods that are timed.
    activation_of
        As of `OutputReader`.
    """

    def __init__(
        self,
        options: Options,
        *,
        strict: bool,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        logger_provider: Any = None,
        methods: Sequence[str] = (),
        activation_of: Callable[..., str | None] | None = None,
    ) -> None:
        self.options = options
        self.strict = strict
        self.closed = False
        self._instruments = instruments_of(meter_provider)
        self._logger_provider = logger_provider
        self._methods, self._activation_of = methods, activation_of
        self._tracer = (
            trace.get_tracer(SCOPE, __version__, tracer_provider) if options.traces else None
        )
        self._by_name: dict[str, ModelRecorder] = {}
        """Recorders of models that came from no file, for which nothing need be looked up."""
        self._lock = threading.Lock()
        _sessions.add(self)

    def baselines(
        self, name: str, model_path: str | os.PathLike[str] | None = None
    ) -> Mapping[str, Baseline]:
        """Find the baselines of a model by output name.

        Raises
        ------
        FileNotFoundError, ValueError
            If they are missing or broken, and the session is strict.
        """
        options = self.options
        if options.first is not None:
            return dict[str, Baseline]()
        try:
            return find_baselines(options.baseline, name, model_path)
        except (OSError, ValueError) as error:
            if self.strict:
                raise
            asked = f" ({VARIABLE_PREFIX}BASELINE)" if options.baseline is not None else ""
            what = f"{name}: predictions are not tested for drift: {error}{asked}"
            self.failed(name, "baseline", what, subject="file", traceback=False)
            return dict[str, Baseline]()

    def recorder(
        self,
        name: str,
        model_path: str | os.PathLike[str] | None = None,
        *,
        version: str | None = None,
        baselines: Mapping[str, Baseline] | None = None,
        may_replace: Callable[[ModelRecorder, set[Any]], bool] = lambda _, __: False,
    ) -> ModelRecorder:
        """Give the recorder of a model, made with the baselines that are found for it.

        Parameters
        ----------
        name
            What ``keras.model.name`` says.
        model_path
            File that it was loaded from.
        version
            What ``keras.model.version`` says; by default a digest of the baselines.
        baselines
            If they have been found already.
        may_replace
            As of `ModelRegistry.claim`.

        Raises
        ------
        FileNotFoundError, ValueError
            If the session is strict, and the baselines are missing or broken, or the name and the
            version belong to another model.
        """
        known = self._by_name.get(name) if model_path is None and version is None else None
        if known is not None and not known.closed:
            return known
        if baselines is None:
            baselines = self.baselines(name, model_path)
        if not self.strict:
            self.options = _with_functions_that_exist(self.options)
        identity = Identity(name, self.options.model_version or version or version_of(baselines))
        configuration = Configuration.of(self.options, baselines)
        registry = self._instruments.registry
        crowded = registry.is_full(identity)
        if crowded:  # all that find no room are one
            identity, configuration = Identity("other", None), Configuration(Options(), {})
        try:
            recorder = registry.claim(
                identity,
                self,
                configuration,
                lambda: self._made(identity, configuration),
                may_replace,
            )
        except Taken as taken:
            return self._served(self._without_outputs(identity, taken.recorder, configuration))
        if crowded:
            recorder.failed(
                "series_limit",
                f"model {name!r} is counted as 'other' and not tested: there are "
                f"{MAXIMUM_MODELS} models already",
                subject=name,
                traceback=False,
            )
        self._served(recorder)
        if model_path is None and version is None:
            with self._lock:
                self._by_name = {**self._by_name, name: recorder}
        return recorder

    def release(self, recorder: ModelRecorder) -> None:
        """Let go of one model's recorder; its series end unless somebody else holds it."""
        self._instruments.registry.release_one(recorder, self)

    def close(self) -> None:
        """Record and report nothing any longer."""
        self.closed = True
        self._instruments.registry.release(self)
        self._by_name = {}

    def failed(self, name: str, error_type: str, what: str, **more: Any) -> None:
        """Count a failure with a model that has no recorder."""
        self._instruments.failures.count(((MODEL, name),), error_type, what, **more)

    def reset(self) -> None:
        """Make the lock anew in the child of a fork."""
        self._lock = threading.Lock()

    def _made(self, identity: Identity, configuration: Configuration) -> ModelRecorder:
        return ModelRecorder(
            identity.name,
            identity.version,
            configuration,
            self._instruments.duration,
            self._instruments.failures,
        )

    def _served(self, recorder: ModelRecorder) -> ModelRecorder:
        recorder.serve(self._methods, self._tracer, self._logger_provider, self._activation_of)
        return recorder

    def _without_outputs(
        self, identity: Identity, taken: ModelRecorder, configuration: Configuration
    ) -> ModelRecorder:
        """Give what only times a model whose name and version belong to another.

        Raises
        ------
        ValueError
            If the session is strict.
        """
        differs = "other baselines"
        if taken.configuration.baselines == configuration.baselines:
            differs = "other options"
        version = "" if identity.version is None else f" in version {identity.version!r}"
        what = (
            f"{identity.name!r}{version} is recorded already, with {differs}: "
            "give this model another name, or a version of its own"
        )
        if self.strict:
            raise ValueError(f"name={what}")
        self.failed(
            identity.name,
            "baseline",
            f"model {what} ({VARIABLE_PREFIX}MODEL_NAME, {VARIABLE_PREFIX}MODEL_VERSION): "
            "it is timed, but its predictions are neither counted nor tested",
            subject="identity",
            traceback=False,
        )
        recorder = self._made(identity, Configuration(Options(outputs=_no_outputs), {}))
        recorder.succeed_in_counting(taken)
        return recorder


def _no_outputs(_: Any) -> dict[str, Any]:
    return {}


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
    for session in list(_sessions):
        session.reset()
    reset_instruments()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def watch(
    name: str,
    baseline: Any,
    *,
    version: str | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: Any = None,
    **options: Any,
) -> ModelRecorder:
    """Watch the predictions of any model: scikit-learn, XGBoost, plain PyTorch.

    Parameters
    ----------
    name
        What ``keras.model.name`` says.
    baseline
        A `Baseline`, a dict of them by output name, a file or ``"first:10000"``; with None, the
        classes of scores are counted (of labels nobody says how many there are).
    version
        What ``keras.model.version`` says; by default a digest of the baseline.
    meter_provider, logger_provider
        Instead of the global ones.
    **options
        ``tolerance``, ``average_run_length``, ``decision``, ``outputs`` and ``drift_function``, as
        of `KerasInstrumentor`.

    Returns
    -------
    ModelRecorder
        Its ``record(outputs_or_labels)`` counts predictions and never raises.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an option is wrong, the baseline is missing or broken, or a model of that name and
        version is recorded already with another baseline.
    """
    checked = Options.of(baseline=baseline, model_name=name, model_version=version, **options)
    session = Session(
        checked, strict=True, meter_provider=meter_provider, logger_provider=logger_provider
    )
    _watches.add(session)
    baselines = session.baselines(name)

    def is_the_same_watched_anew(recorder: ModelRecorder, holders: set[Any]) -> bool:
        known = recorder.configuration.baselines
        return known == baselines and holders <= set(_watches)

    return session.recorder(name, baselines=baselines, may_replace=is_the_same_watched_anew)
