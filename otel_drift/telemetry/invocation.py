"""The methods of a model that are called, and what is recorded of each call.

.. code-block:: python

    method = recorder.methods["predict"]
    invocation = method.started() if recorder.traced else None
    start = perf_counter()
    try:
        y = model.predict(x)
    except BaseException as error:
        method.raised(error, perf_counter() - start, context, invocation)
        raise
    method.returned(y, perf_counter() - start, context, invocation, model, (x,))

`returned` makes labels and appends them, with the duration, to the `backlog`; counting them is
left to others. Nothing here raises, but what interrupts a program (``KeyboardInterrupt``) passes.

A span is the current one while the model runs, so that what the model calls nests in it; its
context goes with the duration, so that the histogram's exemplars carry its trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import get_ident
from time import monotonic, time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from otel_drift.outputs.decision import Labels
from otel_drift.outputs.reader import Found
from otel_drift.outputs.usual import FEW_ROWS, LabelsOf
from otel_drift.telemetry.backlog import BACKLOG, CONTEXT_BYTES, Call
from otel_drift.telemetry.names import ERROR_TYPE, METHOD
from otel_drift.telemetry.undecided_call import PossibleStep

if TYPE_CHECKING:
    from otel_drift.telemetry.recorder import ModelRecorder

PIECE = 32_768
"""Labels that are worked out together: the fewer, the more each costs."""


class Raised(str):
    """The type of what a call raised."""

    __slots__ = ()


class Seen(NamedTuple):
    """How a call that cannot be training found what one before it may have trained."""

    sign: PossibleStep
    unchanged: bool


class Remainder(NamedTuple):
    """What else is to be done of a call if it was a prediction."""

    tested: tuple[Any, Any] | None
    """Inputs and outputs, for the user's own tests."""
    invocation: Invocation | None
    ended: int
    """When it returned, in nanoseconds since the epoch."""


class Possible(NamedTuple):
    """What a call gave that may turn out to be the forward half of a training step."""

    found: Found | Labels
    sign: PossibleStep
    thread: int
    since: float
    more: Remainder | None


class Method:
    """One method of one model.

    Parameters
    ----------
    recorder
        Of the model.
    name
        What ``keras.method`` says: ``predict``, ``predict_on_batch`` or ``call``.
    usual
        As of `OutputReader`.
    """

    __slots__ = ("_usual", "attributes", "name", "plain", "recorder")

    def __init__(
        self, recorder: ModelRecorder, name: str, usual: dict[type[Any], LabelsOf]
    ) -> None:
        self.recorder, self.name, self._usual = recorder, name, usual
        self.attributes = {**recorder.attributes, METHOD: name}
        self.plain = False
        """Whether calls are counted, and nothing else is done with them."""

    def started(self) -> Invocation | None:
        """Start the span of a call, and make it the current one."""
        recorder = self.recorder
        try:
            return None if recorder.tracer is None else Invocation(self, recorder.tracer)
        except Exception:
            what = f"{recorder.name}: a span could not be started"
            recorder.failed("internal", what, subject="span")
            return None

    def returned(
        self,
        y: Any,
        seconds: float,
        context: Context | None = None,
        invocation: Invocation | None = None,
        model: Any = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        possible_step: Callable[[Any, Any], PossibleStep | None] | None = None,
    ) -> None:
        """Record a call that has returned.

        Parameters
        ----------
        y
            What it returned.
        seconds
            How long it took.
        context
            What it ran in, where there is a context and no span of its own.
        invocation
            Its span, if it has one.
        model
            For what its layers say about its outputs.
        args, kwargs
            What it was given, for the user's own tests.
        possible_step
            Given model and output: the sign of a training step, where the call may turn out to be
            the forward half of one.
        """
        recorder = self.recorder
        try:
            labels_of = self._usual.get(y.__class__)
            found = None if labels_of is None else labels_of(y)
            if (
                found is not None
                and self.plain
                and possible_step is None
                and context is None
                and len(found) <= FEW_ROWS
            ):
                calls = BACKLOG.calls
                calls.append((self, found, seconds, None))
                if len(calls) > BACKLOG.most:
                    BACKLOG.attend(self)
                return
            if found is None:
                found = recorder.reader.read(y, model)
                if found is None:
                    return  # it was traced or built: no prediction, and its span is never ended
            if invocation is not None:
                context = invocation.context
            sign = None if possible_step is None else possible_step(model, y)
            if sign is not None:
                more = None
                if recorder.tests or invocation is not None:
                    tested = (_first(args, kwargs), y) if recorder.tests else None
                    more = Remainder(tested, invocation, time_ns())
                call = (
                    self,
                    Possible(found, sign, get_ident(), monotonic(), more),
                    seconds,
                    context,
                )
                BACKLOG.add(call)
                recorder.newest = sign
                return
            if possible_step is not None and recorder.newest is not None:
                recorder.see_unchanged(self)
            if recorder.counted:
                self.append_large((self, found, seconds, context))
            if recorder.tests:
                recorder.test(_first(args, kwargs), y)
            if invocation is not None:
                invocation.end()
        except Exception:
            what = f"{recorder.name}: a {self.name} that is not recorded"
            recorder.failed("internal", what, subject="returned")
        finally:
            if invocation is not None:
                invocation.leave()

    def raised(
        self,
        error: BaseException,
        seconds: float,
        context: Context | None = None,
        invocation: Invocation | None = None,
    ) -> None:
        """Record a call that has raised, and how many seconds it took until then."""
        recorder = self.recorder
        try:
            error_type = type(error).__qualname__
            if invocation is not None:
                context = invocation.context
                invocation.fail(error, error_type)
            if recorder.counted:
                self.append_large((self, Raised(error_type), seconds, context))
        except Exception:
            what = f"{recorder.name}: a {self.name} that failed is not recorded"
            recorder.failed("internal", what, subject="raised")
        finally:
            if invocation is not None:
                invocation.leave()

    def append_large(self, call: Call) -> None:
        """Append an entry that may hold much to the backlog."""
        _, found, _, context = call
        size = 0 if context is None else CONTEXT_BYTES
        if type(found) is Found:
            size += sum(labels.nbytes for _, labels in found.now)
        elif type(found) is not Raised:
            size += found.nbytes
        BACKLOG.add_large(call, size)

    def take(self, found: Any, seconds: float | None, context: Context | None) -> None:
        """Count a call, as of `otel_drift.telemetry.backlog`."""
        recorder = self.recorder
        try:
            if type(found) is Possible:
                recorder.undecided.follow(
                    found.sign,
                    lambda: self._predicted(found, seconds, context),
                    found.thread,
                    found.since,
                )
            elif type(found) is Seen:
                recorder.undecided.end(found.sign, found.unchanged)
            else:
                self._count(found, seconds, context)
        except Exception:
            what = f"{recorder.name}: a {self.name} that cannot be counted"
            recorder.failed("internal", what, subject="take")

    def works(self, *, at_leisure: bool) -> Iterator[None]:
        """Work out what has been counted, as of `otel_drift.telemetry.backlog`."""
        recorder = self.recorder
        try:
            recorder.settle(collecting=False)
            for _, monitor in recorder.monitors():
                if monitor.many_wait or not at_leisure:
                    yield from monitor.works(PIECE)
        except Exception:
            what = f"{recorder.name}: predictions that cannot be tested"
            recorder.failed("internal", what, subject="works")

    def full(self) -> None:
        """Report that a caller had to help."""
        self.recorder.failed(
            "backlog_full",
            f"{self.recorder.name}: predictions come faster than they can be counted: "
            "each waits until some of the oldest are",
            subject="backlog",
            traceback=False,
        )

    def _count(self, found: Any, seconds: float | None, context: Context | None) -> None:
        recorder, attributes = self.recorder, self.attributes
        if not recorder.counted:
            return  # there are spans only
        if type(found) is Raised:
            attributes = {**attributes, ERROR_TYPE: str(found)}
        else:
            recorder.count(self.name, found)
        if seconds is not None:
            recorder.duration.record(seconds, attributes, context)

    def _predicted(self, call: Possible, seconds: float | None, context: Context | None) -> None:
        """Count a call that was a prediction after all."""
        self._count(call.found, seconds, context)
        if call.more is not None:
            if call.more.tested is not None:
                self.recorder.test(*call.more.tested)
            if call.more.invocation is not None:
                call.more.invocation.end(call.more.ended)


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Give the inputs among a call's arguments."""
    return args[0] if args else next(iter(kwargs.values()), None)


class Invocation:
    """The span of one call, which is the current one until `leave`."""

    __slots__ = ("_recorder", "_span", "_token", "context")

    def __init__(self, method: Method, tracer: trace.Tracer) -> None:
        self._recorder = method.recorder
        name = f"{method.name} {method.recorder.name}"
        self._span = tracer.start_span(name, attributes=method.attributes)
        self.context = trace.set_span_in_context(self._span)
        self._token = otel_context.attach(self.context)

    def end(self, at: int | None = None) -> None:
        """End the span, at a time in nanoseconds since the epoch; now if None."""
        self._span.end(at)

    def fail(self, error: BaseException, error_type: str) -> None:
        """End the span with an error."""
        self._span.set_attribute(ERROR_TYPE, error_type)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
        self._span.record_exception(error)
        self._span.end()

    def leave(self) -> None:
        """Make the span before it the current one again: never raises, but for interruptions."""
        try:
            otel_context.detach(self._token)
        except BaseException as error:
            with suppress(Exception):
                before = self._token.old_value
                otel_context.attach(before if isinstance(before, Context) else Context())
            if not isinstance(error, Exception):
                raise
            what = f"{self._recorder.name}: a span could not be left as it should be"
            self._recorder.failed("internal", what, subject="leave")
