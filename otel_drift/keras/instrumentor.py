"""Instrument Keras: every model of a program, or one.

Without code, ``opentelemetry-instrument python app.py`` finds this by its entry point. In code:

.. code-block:: python

    from otel_drift import KerasInstrumentor

    KerasInstrumentor().instrument(tolerance=0.3)

or, for one model only:

.. code-block:: python

    import otel_drift

    otel_drift.instrument_model(model, name="digits", baseline="digits.baseline.json")

Neither imports Keras: the class is patched when the program does.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.instrumentor import (
    BaseInstrumentor,  # pyright: ignore[reportUnknownVariableType]
)

from otel_drift.options import Configuration, Options
from otel_drift.package import _instruments  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from otel_drift.keras.models import Models
    from otel_drift.telemetry.session import Session

logger = logging.getLogger(__name__)


class KerasInstrumentor(BaseInstrumentor):
    """Record every prediction of every Keras model of a program.

    ``instrument(**options)`` takes these options, each of which is also an environment variable
    (`otel_drift.environment_variables`):

    baseline
        A `Baseline`, a dict of them by output name, a file, a folder, or ``"first:10000"``. By
        default the file beside the model that was loaded.
    model_name, model_version
        What ``keras.model.name`` and ``keras.model.version`` say, for a program with one model.
    tolerance
        Relative change of a class's share that does not matter; 0.2 by default.
    average_run_length
        Predictions per false alarm; 10 million by default.
    decision
        How a row becomes a class: ``"argmax"``, ``"threshold:0.5"``, ``"multilabel:0.5"``.
    outputs
        A function that turns what a model returns into labels.
    drift_function
        The user's own test, or a dict of such by output name.
    traces
        Whether there are spans.
    meter_provider, tracer_provider, logger_provider
        Instead of the global ones.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        From ``instrument``, if an option is wrong: the message names the value and what is right.

    Examples
    --------
    >>> KerasInstrumentor().instrument(tolerance="a lot")
    Traceback (most recent call last):
    ...
    ValueError: tolerance='a lot': must be a number above 0 and below 1, like 0.2 for 20 %
    """

    configuration = Configuration

    def instrumentation_dependencies(self) -> Collection[str]:
        """Say which Keras is supported."""
        return _instruments

    def instrument(self, **kwargs: Any) -> None:
        """Start; see the class. Once instrumented, a call without options changes nothing."""
        ours = set(kwargs) - {"skip_dep_check", "raise_exception_on_conflict"}
        if self.is_instrumented_by_opentelemetry and not ours:
            return
        super().instrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        providers = {
            name: kwargs.pop(name, None)
            for name in ("meter_provider", "tracer_provider", "logger_provider")
        }
        from_file = kwargs.pop("options", None)
        if kwargs.get("baseline") is not None:
            _check_baseline(Options.of(**kwargs))
        else:
            Options.of(**kwargs)  # whoever gives options in code is told at once
        pending = _Pending(from_file, kwargs, providers)
        _State.pending = pending
        wrapt.register_post_import_hook(pending.start, "keras")

    def _uninstrument(self, **_: Any) -> None:
        pending, _State.pending = _State.pending, None
        if pending is not None:
            pending.stop()


class _State:
    """Outside the instrumentor, whose constructor runs at each ``KerasInstrumentor()``."""

    pending: _Pending | None = None


class _Pending:
    """An instrumentation that takes effect when Keras is imported.

    NumPy and SciPy are imported with it and not before: a program without Keras does not pay.
    """

    def __init__(
        self, from_file: dict[str, Any] | None, in_code: dict[str, Any], providers: dict[str, Any]
    ) -> None:
        self._from_file, self._in_code = from_file, in_code
        self._providers = providers
        self._models: Models | None = None

    def start(self, _: Any) -> None:
        """Patch Keras: never raises, or the program's ``import keras`` would be undone."""
        if _State.pending is not self:
            return  # uninstrumented in the meantime: an import hook cannot be taken back
        try:
            from otel_drift.keras.models import models

            self._models = models()
            # What nobody asked for in this line of code, such as a broken file that turns up beside
            # a model later on, must not keep its predictions from being timed.
            self._models.record_all(_session(self._options(), strict=False, **self._providers))
        except Exception:
            logger.warning("Keras is not instrumented", exc_info=True)

    def _options(self) -> Options:
        """Read what was said outside the code, and put what was said in it on top."""
        if self._from_file is not None:
            return Configuration.checked(self._from_file)
        return Options.from_environment().updated(**self._in_code)

    def stop(self) -> None:
        """Restore Keras."""
        if self._models is not None:
            self._models.forget_all()


def _check_baseline(options: Options) -> None:
    """Raise for a baseline that cannot be read, while the user's own line of code still runs."""
    if options.baseline is not None:
        from otel_drift.baselines.discovery import find_baselines

        find_baselines(options.baseline, "", None)


def _session(options: Options, *, strict: bool, **providers: Any) -> Session:
    from otel_drift.keras.introspection import activation_of
    from otel_drift.keras.patch import OBSERVED
    from otel_drift.telemetry.session import Session

    return Session(
        options,
        strict=strict,
        methods=tuple(OBSERVED.values()),
        activation_of=activation_of,
        **providers,
    )


def instrument_model(
    model: Any,
    *,
    name: str | None = None,
    version: str | None = None,
    baseline: Any = None,
    drift_function: Any = None,
    meter_provider: Any = None,
    tracer_provider: Any = None,
    logger_provider: Any = None,
    **options: Any,
) -> Any:
    """Record the predictions of one model, and return that same model.

    Parameters
    ----------
    model
        A Keras model.
    name
        What ``keras.model.name`` says; the model's own name by default.
    version
        What ``keras.model.version`` says; by default the numbered folder that the model was loaded
        from, else a digest of its baseline.
    baseline
        A `Baseline`, a dict of them by output name, a file, a folder, or ``"first:10000"``.
    drift_function
        The user's own test of inputs and outputs, or a dict of such by output name.
    meter_provider, tracer_provider, logger_provider
        Instead of the global ones.
    **options
        ``tolerance``, ``average_run_length``, ``decision``, ``outputs`` and ``traces``, as of
        `KerasInstrumentor`.

    Raises
    ------
    TypeError
        If it is no Keras model, or an option is unknown or of the wrong type.
    ValueError, FileNotFoundError
        If a value is not allowed, the baseline is missing or broken, it has not as many classes as
        the model's output, or another model of that name and version is recorded otherwise. Nothing
        has changed then.
    """
    import sys

    keras: Any = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: must be a keras.Model; watch() serves other models")
    checked = Options.of(
        baseline=baseline,
        drift_function=drift_function,
        model_name=name,
        model_version=version,
        **options,
    )
    from otel_drift.keras.introspection import check_fit
    from otel_drift.keras.models import models

    session = _session(
        checked,
        strict=True,
        meter_provider=meter_provider,
        tracer_provider=tracer_provider,
        logger_provider=logger_provider,
    )
    called = checked.model_name or str(model.name)
    baselines = session.baselines(called, models().path_of(model))
    check_fit(model, called, baselines, checked.decision)
    models().record_one(model, session, called, baselines)
    return model


def uninstrument_model(model: Any) -> None:
    """Undo `instrument_model`: the model's series end with the next collection.

    Raises
    ------
    ValueError
        If the model was not instrumented.
    """
    from otel_drift.keras.models import models

    if not models().forget_one(model):
        raise ValueError(f"model {model.name!r}: was not instrumented with instrument_model")
