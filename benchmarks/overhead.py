"""What a prediction costs more when it is watched, in microseconds, beside others who watch.

    python benchmarks/overhead.py            # under 20 minutes; writes results/overhead.md
    python benchmarks/overhead.py --quick    # under a minute: JAX, 32 rows x 10 classes, no file

A model of three dense layers predicts on the CPU, on each backend in a process of its own. Several
ways to watch it take turns, one call each, in an order that is shuffled anew in every round:

- *bare*: nothing. All the others are given as what they add to this.
- *floor*: two readings of the clock, the argmax, one look for NaN and one append. Less cannot be
  done by anybody who counts classes.
- *contrib*: a wrapper in the manner of opentelemetry-python-contrib (wrapt, the check for
  suppression, the attributes, one histogram), which knows nothing of what is predicted.
- *ours*: otel_drift with a baseline, without spans; *with spans*: the same with a span for each
  call, sampled; *no SDK*: the same in a program that has OpenTelemetry's API alone.
- *gangplank*: gangplank 0.5.0, installed without its dependencies into .bench/, with the chi-square
  function of its own example, which tests batches of 50 rows or more; *every batch*: the same
  function without that limit. It watches `predict`, and times `__call__`; it does not know
  `predict_on_batch`.

Each way has a model object of its own, so that no call has to be patched or restored for another.
They share the layers, and with them the weights and the code: what differs is the wrapping. The
models that are not ours are of a subclass that has the methods as Keras wrote them, taken before
the class was patched; so a bare call, and what it calls inside, goes through nothing of ours.
Between two calls of one way there are those of all the others: the processor's caches are as cold
for each as after a request that did other work, and never as warm as in a loop of its own.

A call is over when its numbers are there: `__call__` includes the reading of its tensor, for bare
too, or else the floor would be blamed for waiting for a device. It also ends with its
arrays being freed. `predict` makes batches of at most 1,024 rows. Frameworks compute in one thread:
with more, small calls wait for whatever else the machine does.

Metrics are collected as a periodic reader would every 5 seconds, and encoded for OTLP; spans are
encoded in batches of 512; gangplank's registry is scraped. That is done in a thread while its own
way goes on predicting: what it stalls is that way's own calls, and not those of whoever has its
turn. The 5 seconds are counted in the calls of that way. What another thread does by itself can
strike any of them; `benchmarks/serving.py` measures whole processes, where it cannot.

Given is the difference between a quantile of one way's calls and that of the bare calls, with the
standard error of ten parts of the run where it matters. A tail is given where at least two calls
lie beyond it. On a busy machine compare with the floor of the same line, which is struck alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "overhead.md"
GANGPLANK = ROOT / ".bench" / "gangplank"
BACKENDS = ("torch", "jax", "tensorflow")
ENTRY_POINTS = ("predict", "predict_on_batch", "__call__")
SHAPES = ((1, 10), (32, 2), (32, 10), (32, 1_000), (1_024, 10), (1_024, 1_000), (100_000, 10))
"""Rows and classes of a call."""
MAIN = (32, 10)
LARGEST_BATCH = 1_024
DASH = "\u2013"
"""What there is no figure for."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
FEATURES = 64
COLLECT_SECONDS = 5.0
SPANS_A_BATCH = 512
WAYS = (
    *("bare", "floor", "contrib", "ours", "with spans", "no SDK"),
    *("gangplank", "every batch"),
)
SLICES = 10
"""Parts of a run whose medians say how sure the median is."""


class Way(NamedTuple):
    """One way to watch a model."""

    call: Callable[[], Any]
    background: Background


class Background:
    """What is done beside the calls of one way, every so often.

    Parameters
    ----------
    work
        Collects, encodes, exports.
    waiting
        What is exported in batches.
    """

    def __init__(
        self, work: Callable[[], Any] | None = None, waiting: Sequence[Any] | None = None
    ) -> None:
        self.work = work
        self._waiting = waiting
        self._seconds = COLLECT_SECONDS / 2  # so that even a short run meets one

    def is_due(self, seconds: float) -> bool:
        """Whether there is work after a call of so many seconds."""
        self._seconds += seconds
        due = self._seconds >= COLLECT_SECONDS
        if due:
            self._seconds = 0.0
        batch = self._waiting is not None and len(self._waiting) >= SPANS_A_BATCH
        return self.work is not None and (due or batch)


def read_of(backend: str) -> Callable[[Any], Any]:
    """Give what turns the tensor of a backend into NumPy, as cheaply as that can be done."""
    if backend == "torch":
        return lambda y: y.detach().numpy()
    return np.asarray if backend == "jax" else lambda y: y.numpy()


def floor_of(method: Callable[..., Any], read: Callable[[Any], Any]) -> Callable[..., Any]:
    """Give the least that anybody can do who counts the classes of each call."""
    buffer: deque[Any] = deque(maxlen=4_096)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        y = method(*args, **kwargs)
        seconds = perf_counter() - start
        scores = read(y)
        labels = scores.argmax(1)
        if not math.isfinite(scores.sum()):
            labels[np.isnan(scores).any(1)] = -1
        buffer.append((labels, seconds))
        return y

    return timed


def contrib_of(method: Callable[..., Any], name: str, histogram: Any) -> Callable[..., Any]:
    """Give what OpenTelemetry's own instrumentations do: one histogram, and nothing else."""
    import wrapt
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    def observed(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if not is_instrumentation_enabled():
            return wrapped(*args, **kwargs)
        attributes = {"keras.model.name": instance.name, "keras.method": name}
        start = perf_counter()
        try:
            return wrapped(*args, **kwargs)
        except Exception as error:
            attributes["error.type"] = type(error).__qualname__
            raise
        finally:
            histogram.record(perf_counter() - start, attributes)

    return wrapt.FunctionWrapper(method, observed)


def chi_square(gangplank: Any, classes: int, least: int) -> Callable[[Any, Any], Any]:
    """Give the drift function of gangplank's chi-square example."""
    from scipy import stats

    def get_drift_metrics(_: Any, scores: Any) -> Any:
        if len(scores) < least:
            return gangplank.Drift()
        buckets = [0] * classes
        for row in scores:
            buckets[row.argmax()] += 1
        result = stats.chisquare(buckets)
        return gangplank.Drift(p_value=result.pvalue, test_statistic=result.statistic)

    return get_drift_metrics


def find_gangplank() -> str:
    """Install gangplank into a folder of its own; give why not, or nothing."""
    if not GANGPLANK.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        done = subprocess.run(
            [*command, str(GANGPLANK), "gangplank==0.5.0"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"gangplank could not be installed: {done.stderr.strip().splitlines()[-1]}"
    return ""


class Telemetry:
    """The SDK of one way: metrics that are collected, and spans that are exported, on demand."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import (
            MetricExporter,
            MetricExportResult,
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

        class Encoding(MetricExporter):
            """Encode for OTLP, and send to nobody."""

            def export(self, metrics_data: Any, *_: Any, **__: Any) -> Any:
                encode_metrics(metrics_data).SerializeToString()
                return MetricExportResult.SUCCESS

            def force_flush(self, *_: Any, **__: Any) -> bool:
                return True

            def shutdown(self, *_: Any, **__: Any) -> None:
                pass

        class Queueing(SpanProcessor):
            """Keep what has ended until it is exported, as the batch processor does."""

            def on_end(self, span: Any) -> None:
                ended.append(span)

        self.spans = ended = deque[Any]()
        self._encode_spans = encode_spans
        # Without an interval it starts no thread of its own: `export` collects in its place.
        self._reader = PeriodicExportingMetricReader(Encoding(), math.inf)
        self.meter_provider = MeterProvider([self._reader])
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(Queueing())

    def export(self) -> None:
        """Do what the threads of the SDK do."""
        self._reader.collect()
        while self.spans:
            count = min(SPANS_A_BATCH, len(self.spans))
            batch = [self.spans.popleft() for _ in range(count)]
            self._encode_spans(batch).SerializeToString()


class Contest:
    """The ways to watch a model, on the backend of this process."""

    def __init__(self, ways: Sequence[str]) -> None:
        import keras
        from prometheus_client import CollectorRegistry, generate_latest

        keras.utils.set_random_seed(1)
        self._keras = keras
        self._read = read_of(keras.backend.backend())
        methods = {name: getattr(keras.Model, name) for name in ENTRY_POINTS}
        self._bare_class = type("Bare", (keras.Sequential,), methods)
        self._names = [way for way in WAYS if way in ways]
        self._telemetry = {way: Telemetry() for way in ("contrib", "ours", "with spans")}
        meter = self._telemetry["contrib"].meter_provider.get_meter("contrib")
        self._histogram = meter.create_histogram("keras.predict.duration", unit="s")
        self._registries = {way: CollectorRegistry() for way in ("gangplank", "every batch")}
        self._background = {way: Background() for way in self._names}
        for way, one in self._telemetry.items():
            self._background[way] = Background(one.export, one.spans)
        for way, registry in self._registries.items():
            self._background[way] = Background(partial(generate_latest, registry))
        self._models: dict[str, Any] = {}
        self._classes = 0

    def prepare(self, classes: int) -> None:
        """Make a model for each way, all of the same layers."""
        from otel_drift import Baseline, instrument_model, uninstrument_model

        if classes == self._classes:
            return
        for way in ("ours", "with spans", "no SDK"):
            if way in self._models:
                uninstrument_model(self._models[way])
        keras, self._classes = self._keras, classes
        dense = keras.layers.Dense
        layers = [dense(64, "relu"), dense(64, "relu"), dense(classes, "softmax")]
        for way in self._names:
            kind = keras.Sequential if way in ("ours", "with spans", "no SDK") else self._bare_class
            name = f"{way.replace(' ', '-')}-{classes}"
            self._models[way] = kind([keras.Input((FEATURES,)), *layers], name=name)
        sample = self._inputs(100 * LARGEST_BATCH if classes < 100 else 10 * LARGEST_BATCH)
        scores = self._models["bare"].predict(sample, verbose=0, batch_size=LARGEST_BATCH)
        baseline = Baseline.from_predictions(scores)
        for way in ("ours", "with spans", "no SDK"):
            if way in self._names:
                options: dict[str, Any] = {"traces": way == "with spans"}
                if way != "no SDK":
                    options["meter_provider"] = self._telemetry[way].meter_provider
                    options["tracer_provider"] = self._telemetry[way].tracer_provider
                instrument_model(self._models[way], baseline=baseline, **options)
        if "gangplank" in self._names:
            self._wrap_by_gangplank(classes)

    def _wrap_by_gangplank(self, classes: int) -> None:
        import gangplank

        for way, least in (("gangplank", 50), ("every batch", 1)):
            registry = self._registries[way]
            for collector in list(registry._collector_to_names):
                registry.unregister(collector)
            self._models[way] = gangplank.PrometheusModel(
                self._models[way],
                registry=registry,
                get_drift_metrics_func=chi_square(gangplank, classes, least),
            )

    def ways(self, entry: str, rows: int) -> dict[str, Way]:
        """Give the ways that there are to watch one method, ready to be called."""
        x, found = self._inputs(rows), dict[str, Way]()
        for way in self._names:
            if way == "gangplank" and entry == "predict_on_batch":
                continue  # it passes through, unwatched
            if way == "every batch" and (entry != "predict" or rows >= 50):
                continue  # it does what gangplank's example does
            call = self._call(way, entry, x)
            found[way] = Way(call, self._background[way])
        return found

    def _call(self, way: str, entry: str, x: Any) -> Callable[[], Any]:
        model, read = self._models[way], self._read
        if way in ("floor", "contrib"):
            method = getattr(model, entry)
            if way == "floor":
                method = floor_of(method, read if entry == "__call__" else lambda y: y)
            else:
                method = contrib_of(method, entry, self._histogram)
            if entry == "predict":
                return lambda: method(x, verbose=0, batch_size=LARGEST_BATCH)
            return (lambda: read(method(x))) if entry == "__call__" else (lambda: method(x))
        if entry == "predict":
            return lambda: model.predict(x, verbose=0, batch_size=LARGEST_BATCH)
        if entry == "predict_on_batch":
            return lambda: model.predict_on_batch(x)
        return lambda: read(model(x))

    @staticmethod
    def _inputs(rows: int) -> Any:
        return np.random.default_rng(rows).normal(size=(rows, FEATURES)).astype("float32")


def take_turns(ways: dict[str, Way], seconds: float) -> dict[str, tuple[list[float], list[float]]]:
    """Call them in turns; give for each its call of every round, and all its calls, in seconds."""
    order = list(ways)
    shuffle = random.Random(1).shuffle
    started = perf_counter()
    for _ in range(3):
        start = perf_counter()
        for way in order:
            ways[way].call()
        if start - started > seconds / 4:
            break  # warm enough: such calls are few
    rounds = int(min(20_000, max(5, seconds / (perf_counter() - start))))
    in_rounds: dict[str, list[float]] = {way: [] for way in order}
    extra: dict[str, list[float]] = {way: [] for way in order}
    for _ in range(rounds):
        shuffle(order)
        for way in order:
            call, background = ways[way]
            at = perf_counter()
            call()
            took = perf_counter() - at
            in_rounds[way].append(took)
            if background.is_due(took):
                extra[way] += beside(background, call)
    return {way: (took, took + extra[way]) for way, took in in_rounds.items()}


def beside(background: Background, call: Callable[[], Any]) -> list[float]:
    """Work in a thread; give the seconds of the calls that are made meanwhile."""
    thread = threading.Thread(target=background.work)
    thread.start()
    took: list[float] = []
    while thread.is_alive():
        at = perf_counter()
        call()
        took.append(perf_counter() - at)
    return took


def summary(times: dict[str, tuple[list[float], list[float]]]) -> dict[str, dict[str, float]]:
    """Give medians and tails in microseconds, as what is added to bare."""
    bare, all_bare = (1e6 * np.array(one) for one in times["bare"])
    slices = min(SLICES, len(bare))
    found: dict[str, dict[str, float]] = {}
    for way, (in_rounds, calls) in times.items():
        in_turn, microseconds = 1e6 * np.array(in_rounds), 1e6 * np.array(calls)
        own = {"calls": len(calls), "median": float(np.median(in_turn))}
        own["added"] = own["median"] - float(np.median(bare))
        parts = [
            np.median(one) - np.median(other)
            for one, other in zip(
                np.array_split(in_turn, slices), np.array_split(bare, slices), strict=True
            )
        ]
        own["error"] = float(np.std(parts, ddof=1) / math.sqrt(slices))
        for name, quantile in (("p99", 0.99), ("p99.9", 0.999)):
            if min(len(calls), len(all_bare)) * (1 - quantile) >= 2:
                own[name] = float(np.quantile(microseconds, quantile))
                own["added " + name] = own[name] - float(np.quantile(all_bare, quantile))
        found[way] = own
    return found


def measure(options: argparse.Namespace) -> None:
    """Measure on the backend of this process; print a line of JSON for each method and shape."""
    sys.path.append(str(GANGPLANK))
    contest = Contest(options.ways)
    for rows, classes in sorted(options.shapes, key=lambda shape: (shape[1], shape[0])):
        contest.prepare(classes)
        for entry in ENTRY_POINTS:
            seconds = options.seconds * (options.main_factor if (rows, classes) == MAIN else 1)
            times = take_turns(contest.ways(entry, rows), seconds)
            cell = {"entry": entry, "rows": rows, "classes": classes, "ways": summary(times)}
            print(json.dumps(cell), flush=True)


def number(value: float | None) -> str:
    """Give microseconds with three digits, or a dash."""
    if value is None:
        return DASH
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def table(cells: list[dict[str, Any]], ways: Sequence[str], key: str, bare: str) -> list[str]:
    """Give a Markdown table of one figure."""
    shown = [way for way in ways if way != "bare"]
    lines = [
        f"| backend | method | rows x classes | calls | bare | {' | '.join(shown)} |",
        "|---|---|---:|---:|---:|" + "---:|" * len(shown),
    ]
    for cell in cells:
        found = cell["ways"]
        if bare not in found["bare"]:
            continue
        values = [number(found[way].get(key) if way in found else None) for way in shown]
        place = f"{cell['backend']} | `{cell['entry']}` | {cell['rows']:,} x {cell['classes']:,}"
        calls, base = found["bare"]["calls"], number(found["bare"][bare])
        lines.append(f"| {place} | {calls:,} | {base} | {' | '.join(values)} |")
    return lines


def verdicts(cells: list[dict[str, Any]]) -> list[str]:
    """Give what ours adds beside the floor and gangplank, for calls of 32 and of 1,024 rows."""
    lines = [
        "| backend | method | rows x classes | ours | floor | ours / floor | spans / floor | "
        "no SDK | added p99.9 | gangplank / ours | every batch / ours |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in cells:
        found = cell["ways"]
        if cell["rows"] not in (32, LARGEST_BATCH) or "ours" not in found:
            continue
        ours, floor = found["ours"]["added"], found["floor"]["added"]

        def ratio(way: str, over: float, found: Any = found) -> str:
            return f"{found[way]['added'] / over:.2f}" if way in found and over > 0 else DASH

        place = f"{cell['backend']} | `{cell['entry']}` | {cell['rows']:,} x {cell['classes']:,}"
        lines.append(
            f"| {place} | {number(ours)} ± {number(found['ours']['error'])} | {number(floor)} ± "
            f"{number(found['floor']['error'])} | {ratio('ours', floor)} | "
            f"{ratio('with spans', floor)} | "
            f"{number(found['no SDK']['added']) if 'no SDK' in found else DASH} | "
            f"{number(found['ours'].get('added p99.9'))} | {ratio('gangplank', ours)} | "
            f"{ratio('every batch', ours)} |"
        )
    return lines


def report(cells: list[dict[str, Any]], ways: Sequence[str], note: str) -> str:
    """Give all of it as Markdown."""
    keras_version = json.loads(
        subprocess.run(
            [sys.executable, "-c", "from importlib.metadata import version as v; import json; "
             "print(json.dumps({n: v(n) for n in ('keras', 'numpy', 'opentelemetry-sdk')}))"],
            capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in keras_version.items())
    lines = [
        "# What a prediction costs more when it is watched",
        "",
        "Command: `python benchmarks/overhead.py`. Microseconds. Its docstring says who takes part "
        f"and how it is measured. {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"{versions}.{' ' + note if note else ''}",
    ]
    chapters = (
        ("Beside the floor and gangplank", verdicts(cells)),
        ("Added to a call: median", table(cells, ways, "added", "median")),
        ("Added to the 99th percentile", table(cells, ways, "added p99", "p99")),
        ("Added to the 99.9th percentile", table(cells, ways, "added p99.9", "p99.9")),
    )
    for title, rows in chapters:
        lines += ["", f"## {title}", "", *rows]
    return "\n".join(lines) + "\n"


def run(backend: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one backend in a process of its own."""
    shapes = [f"{rows}x{classes}" for rows, classes in options.shapes]
    command = [
        *(sys.executable, __file__, "--measure", "--seconds", str(options.seconds)),
        *("--main-factor", str(options.main_factor), "--shapes", *shapes, "--ways", *options.ways),
    ]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        **ONE_THREAD,
        **QUIET,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    cells: list[dict[str, Any]] = []
    errors = None if options.verbose else subprocess.DEVNULL
    with subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        for line in process.stdout or ():
            cell = {"backend": backend, **json.loads(line)}
            cells.append(cell)
            added = {way: round(one["added"], 1) for way, one in cell["ways"].items()}
            print(f"{backend} {cell['entry']} {cell['rows']} x {cell['classes']}: {added}",
                  file=sys.stderr, flush=True)  # fmt: skip
    if process.returncode:
        raise SystemExit(f"{backend}: failed; --verbose shows why")
    return cells


def shape(text: str) -> tuple[int, int]:
    """Read rows x classes."""
    rows, _, classes = text.partition("x")
    return int(rows), int(classes)


def main() -> None:
    """Run each backend and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one backend, 32 x 10, print only")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS)
    parser.add_argument("--shapes", nargs="+", type=shape, help="such as 32x10")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seconds", type=float, help="for each method and shape")
    parser.add_argument("--main-factor", type=float, default=4, help="so much longer for 32x10")
    parser.add_argument("--verbose", action="store_true", help="show what the backends say")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    note = find_gangplank()
    if note:
        options.ways = [way for way in options.ways if way not in ("gangplank", "every batch")]
    options.ways = [way for way in WAYS if way in {"bare", "floor", *options.ways}]
    whole = not (options.quick or options.backends or options.shapes or options.seconds)
    options.backends = options.backends or (["jax"] if options.quick else BACKENDS)
    options.shapes = options.shapes or ([MAIN] if options.quick else SHAPES)
    options.seconds = options.seconds or (2 if options.quick else 7)
    cells = [cell for backend in options.backends for cell in run(backend, options)]
    text = report(cells, options.ways, note)
    print(text)
    if whole:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
