"""What has reached Prometheus: models, baselines, errors, rules, alerts, targets.

>>> from otel_drift.fleet.prometheus_api import PrometheusApi
>>> for found in look_at_prometheus(PrometheusApi("http://localhost:1")):
...     print(found.state, found.remedy)
wrong start Prometheus there, or correct the address
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from otel_drift.doctor.errors import look_at_errors
from otel_drift.doctor.finding import Finding, ok, unknown, wrong
from otel_drift.doctor.rules import look_at_rules
from otel_drift.fleet.prometheus_api import HEADERS, PrometheusApi, PrometheusError, Sample

BY_MODEL = "keras_model_name, keras_model_version"
BY_OUTPUT = f"{BY_MODEL}, keras_model_output"
PREDICTIONS = "keras_predictions_total"
PROCESSES = '{keras_prediction_scope!="fleet"}'
"""Not what the fleet's detector says."""
SAMPLES = "keras_predict_samples_total"
OUTPUTS = f"sum by ({BY_OUTPUT}) (last_over_time({PREDICTIONS}{PROCESSES}[1h]))"
WITH_BASELINE = f"group by ({BY_OUTPUT}) (last_over_time(keras_prediction_baseline_proportion[1h]))"
WITHOUT_OUTPUT = (
    f"sum by ({BY_MODEL}) (last_over_time({SAMPLES}[1h]))"
    f" unless on ({BY_MODEL}) last_over_time({PREDICTIONS}[1h])"
)
AGES = (
    f"time() - max by ({BY_MODEL})"
    f" (timestamp({SAMPLES}) or max_over_time(timestamp({SAMPLES})[1h:30s]))"
)
"""Seconds since the newest sample of each model that had one in the last hour."""
TIMES_GONE = (
    f"resets((group by ({BY_MODEL}) ({SAMPLES})"
    f" or 0 * group by ({BY_MODEL}) (last_over_time({SAMPLES}[1h])))[1h:30s])"
)
"""How often the series of each model have vanished in the last hour."""
OLDEST_SECONDS = 180.0
OFTEN = 2
"""One time may be a program that was restarted."""
SHOWN = 5
"""So many targets are named."""
INTERVAL_REMEDY = (
    "if the program runs, let the collector's metric_expiration exceed OTEL_METRIC_EXPORT_INTERVAL"
    " (60 s)"
)


def look_at_prometheus(api: PrometheusApi) -> list[Finding]:
    """Look at everything; what cannot be asked is a finding too."""
    found: list[Finding] = []
    try:
        now = time.time()
        api.query("vector(1)", now)
        found.append(ok("prometheus", f"Prometheus at {api.url} answers"))
    except PrometheusError as error:
        return [wrong("prometheus", str(error), _remedy(error))]
    for look in (look_at_models, look_at_ages, look_at_errors, look_at_rules, look_at_targets):
        try:
            found += look(api, now)
        except PrometheusError as error:
            what = f"{look.__name__.removeprefix('look_at_')}: {error}"
            found.append(unknown("prometheus", what))
    return found


def look_at_models(api: PrometheusApi, at: float) -> Iterator[Finding]:
    """Look which outputs of models have predictions, and which have a baseline."""
    outputs = api.query(OUTPUTS, at).samples
    with_baseline = {_output(one) for one in api.query(WITH_BASELINE, at).samples}
    without_output = api.query(WITHOUT_OUTPUT, at).samples
    if not outputs and not without_output:
        remedy = "predict once, wait 60 s; else run `otel-drift doctor` beside the program"
        yield wrong("models", f"no series {PREDICTIONS} in the last hour", remedy)
    for one in sorted(outputs, key=_output):
        what = f"model {_model(one)}, output {one.labels.get('keras_model_output', '')!r}"
        what += f": {one.value:,.0f} predictions"
        if _output(one) in with_baseline:
            yield ok("models", f"{what}, has a baseline")
        else:
            remedy = "save a baseline beside the model, or name one in OTEL_PYTHON_KERAS_BASELINE"
            yield wrong("models", f"{what}, no baseline: drift is not watched", remedy)
    for one in without_output:
        what = f"model {_model(one)}: {one.value:,.0f} rows predicted, none counted by class"
        remedy = (
            "unless it is a regression, say what its outputs mean in OTEL_PYTHON_KERAS_DECISION"
        )
        yield unknown("models", what, remedy)


def look_at_ages(api: PrometheusApi, at: float) -> Iterator[Finding]:
    """Look whether series are fresh, and stay."""
    gone = {
        _output(one): one.value for one in api.query(TIMES_GONE, at).samples if one.value >= OFTEN
    }
    for one in api.query(AGES, at).samples:
        times = gone.get(_output(one))
        if times is not None:
            what = f"model {_model(one)}: its series vanished {times:.0f} times in the last hour"
            yield wrong("age", what, INTERVAL_REMEDY)
        elif one.value > OLDEST_SECONDS:
            what = f"model {_model(one)}: its newest sample is {one.value:.0f} s old"
            yield wrong("age", what, INTERVAL_REMEDY)
        else:
            yield ok("age", f"model {_model(one)}: its newest sample is {one.value:.0f} s old")


def look_at_targets(api: PrometheusApi, at: float) -> Iterator[Finding]:
    """Look whether Prometheus scrapes, and which targets are down."""
    targets = api.query("up", at).samples
    down = [one for one in targets if one.value == 0]
    if not targets:
        yield unknown("targets", "nothing is scraped", "scrape the collector, unless OTLP comes in")
    elif not down:
        yield ok("targets", f"all {len(targets)} scrape targets are up")
    else:
        names = [
            f"{one.labels.get('job', '')} {one.labels.get('instance', '')}" for one in down[:SHOWN]
        ]
        more = f" and {len(down) - SHOWN} more" if len(down) > SHOWN else ""
        what = f"{len(down)} of {len(targets)} scrape targets are down: {', '.join(names)}{more}"
        yield wrong("targets", what, "start what is to be scraped, or correct its address")


def _remedy(error: PrometheusError) -> str:
    if error.kind in ("401", "403"):
        return f"give user and password in the URL, or set {HEADERS}"
    if error.kind == "timeout":
        return "look whether it is overloaded, or a firewall is in between"
    if error.kind == "nonsense" or error.kind.isdigit():
        return "give the address of Prometheus itself, with its path where it has one"
    return "start Prometheus there, or correct the address"


def _output(sample: Sample) -> tuple[str, str, str]:
    labels = sample.labels
    return (
        labels.get("keras_model_name", ""),
        labels.get("keras_model_version", ""),
        labels.get("keras_model_output", ""),
    )


def _model(sample: Sample) -> str:
    name, version, _ = _output(sample)
    return f"{name!r} {version}".rstrip()
