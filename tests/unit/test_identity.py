"""Each model has an identity of its own, and what ends takes its series with it."""

import os
import sys
import threading

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

import otel_drift
from otel_drift import Baseline, KerasInstrumentor

NAME, VERSION = "keras.model.name", "keras.model.version"
OUTPUT, CLASS = "keras.model.output", "keras.prediction.class"


def built(classes=3, name="net", favoured=None):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(classes, activation="softmax")], name=name
    )
    if favoured is not None:
        bias = np.zeros(classes, dtype="float32")
        bias[favoured] = 50
        model.set_weights([np.zeros((4, classes), dtype="float32"), bias])
    return model


def saved(path, counts, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    built(len(counts), **options).save(path)
    Baseline.from_counts(counts).save(path)
    return path


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(100, 4)).astype("float32")


@pytest.fixture
def everything(collected):
    """Every model is recorded, as without code."""
    KerasInstrumentor().instrument(meter_provider=collected.provider)
    yield collected
    if KerasInstrumentor().is_instrumented_by_opentelemetry:
        KerasInstrumentor().uninstrument()


def errors_of(collected):
    return collected.values("keras.instrumentation.errors", NAME, "error.type")


def test_models_in_folders_of_their_own_are_told_apart(everything, x, tmp_path):
    """Two healthy models called `model.keras` once gave 100 alarms in 100 calls."""
    cats = saved(tmp_path / "cats" / "model.keras", [10_000, 1, 1], favoured=0)
    dogs = saved(tmp_path / "dogs" / "model.keras", [1, 1, 10_000], favoured=2)
    models = [keras.saving.load_model(path) for path in (cats, dogs)]
    for _ in range(100):
        for model in models:
            model.predict_on_batch(x)
    counts = everything.values("keras.predictions", NAME, CLASS)
    assert counts["cats", "0"] == counts["dogs", "2"] == 10_000
    alarms = everything.values("keras.prediction.drift.alarms", NAME)
    assert alarms == {"cats": 0, "dogs": 0}


def test_a_numbered_folder_is_the_version(everything, x, tmp_path):
    for number in ("6", "7"):
        path = saved(tmp_path / "digits" / number / "model.keras", [5, 5, int(number)])
        keras.saving.load_model(path).predict(x, verbose=0)
    samples = everything.points("keras.predict.samples")
    found = {(one[NAME], one[VERSION]) for _, one, _ in samples}
    assert found == {("digits", "6"), ("digits", "7")}
    durations = everything.points("keras.predict.duration")
    assert {one[VERSION] for _, one, _ in durations} == {"6", "7"}


def test_one_name_and_version_with_two_baselines_is_one_warning(everything, x, tmp_path, caplog):
    good = saved(tmp_path / "cats" / "1" / "net.keras", [10_000, 1, 1], favoured=0)
    other = saved(tmp_path / "dogs" / "1" / "net.keras", [1, 1, 10_000], favoured=2)
    first, second = (keras.saving.load_model(path) for path in (good, other))
    for _ in range(20):
        first.predict_on_batch(x)
        second.predict_on_batch(x)
    counts = everything.values("keras.predictions", NAME, CLASS)
    assert counts == {("net", "0"): 2_000} | dict.fromkeys(
        [("net", "1"), ("net", "2"), ("net", "other"), ("net", "invalid")], 0
    )
    assert everything.values("keras.prediction.drift.alarms", NAME) == {"net": 0}
    samples = everything.values("keras.predict.samples", "keras.method")
    assert samples["predict_on_batch"] == 4_000  # both are timed
    (point,) = [
        point
        for _, attributes, point in everything.points("keras.predict.duration")
        if attributes["keras.method"] == "predict_on_batch"
    ]
    assert point.count == 40
    assert max(count for key, count in errors_of(everything).items() if key[1] == "baseline") == 1
    reports = [one for one in caplog.records if "recorded already" in one.getMessage()]
    assert len(reports) == 1
    assert "with other baselines" in reports[0].getMessage()
    assert "OTEL_PYTHON_KERAS_MODEL_NAME" in reports[0].getMessage()


def test_one_name_and_version_with_two_baselines_is_an_error_in_code(collected):
    first = otel_drift.instrument_model(
        built(), name="net", version="1", baseline=Baseline.uniform(3),
        meter_provider=collected.provider,
    )  # fmt: skip
    second = built()
    with pytest.raises(ValueError, match="name='net' in version '1' is recorded already, with oth"):
        otel_drift.instrument_model(
            second, name="net", version="1", baseline=Baseline.from_counts([1, 2, 3]),
            meter_provider=collected.provider,
        )  # fmt: skip
    with pytest.raises(ValueError, match="was not instrumented"):
        otel_drift.uninstrument_model(second)
    otel_drift.uninstrument_model(first)


def test_a_refused_model_changes_nothing(collected, x):
    """The refused call had reconfigured the good recorder of that name."""
    good = otel_drift.instrument_model(
        built(), name="net", baseline=Baseline.uniform(3), meter_provider=collected.provider
    )
    with pytest.raises(ValueError, match="has 5 classes, but output 'output' of model 'net' has 3"):
        otel_drift.instrument_model(
            built(), name="net", baseline=Baseline.uniform(5), meter_provider=collected.provider
        )
    good.predict(x, verbose=0)
    proportions = collected.values("keras.prediction.baseline.proportion", CLASS)
    assert set(proportions) == {"0", "1", "2", "other", "invalid"}
    counts = collected.values("keras.predictions", CLASS)
    assert set(counts) == set(proportions)
    assert sum(counts.values()) == 100
    otel_drift.uninstrument_model(good)


def test_an_uninstrumented_model_leaves_with_its_last_counts(collected, x):
    """`active` had stayed 1, and the alert fired, until the process ended."""
    model = otel_drift.instrument_model(
        built(favoured=1), name="net", baseline=Baseline.uniform(3),
        meter_provider=collected.provider,
    )  # fmt: skip
    for _ in range(10):
        model.predict_on_batch(x)
    assert collected.values("keras.prediction.drift.active", NAME) == {"net": 1}
    model.predict_on_batch(x)
    otel_drift.uninstrument_model(model)
    model.predict_on_batch(x)
    last = {name: point.value for name, attributes, point in collected.points()
            if attributes.get(CLASS, "1") == "1" and hasattr(point, "value")}  # fmt: skip
    assert last["keras.predictions"] == 1_100  # what was counted since the last collection
    assert "keras.prediction.drift.active" not in last
    assert "keras.prediction.drift.evidence" not in last
    for name in ("keras.predictions", "keras.prediction.drift.active", "keras.predict.samples"):
        assert collected.points(name) == []


def test_a_model_that_two_hold_stays_until_both_let_go(collected, x):
    models = [
        otel_drift.instrument_model(
            built(), name="net", baseline=Baseline.uniform(3), meter_provider=collected.provider
        )
        for _ in range(2)
    ]
    for model in models:
        model.predict(x, verbose=0)
    otel_drift.uninstrument_model(models[0])
    models[1].predict(x, verbose=0)
    assert sum(collected.values("keras.predictions", CLASS).values()) == 300
    otel_drift.uninstrument_model(models[1])
    collected.points()
    assert collected.points("keras.predictions") == []


def test_uninstrumenting_keras_leaves_a_watch_of_the_same_name(everything, x):
    watched = otel_drift.watch("net", Baseline.uniform(3), meter_provider=everything.provider)
    built(name="net").predict(x, verbose=0)
    watched.record(np.array([0, 1, 2]))
    counts = everything.points("keras.predictions")
    assert sum(point.value for _, _, point in counts) == 103
    # One is held against a baseline and the other is not: they are two.
    versions = {attributes.get(VERSION) for _, attributes, _ in counts}
    assert len(versions) == 2
    KerasInstrumentor().uninstrument()
    everything.points()
    watched.record(np.array([0]))
    counts = everything.points("keras.predictions")
    assert sum(point.value for _, _, point in counts) == 4


def test_each_watch_has_its_own_logger_provider(collected):
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    exporters = {}
    for name in ("one", "two"):
        exporters[name] = InMemoryLogRecordExporter()
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporters[name]))
        recorder = otel_drift.watch(
            name, Baseline.uniform(3), meter_provider=collected.provider, logger_provider=provider
        )
        recorder.record(np.zeros(2_000, dtype=int))
    collected.points()
    for name, exporter in exporters.items():
        (event,) = exporter.get_finished_logs()
        assert event.log_record.attributes[NAME] == name


def test_instrumenting_a_model_anew_goes_on_with_its_counts(collected, x):
    model = built()
    for tolerance in (0.2, 0.3):
        otel_drift.instrument_model(
            model, name="net", baseline=Baseline.uniform(3), tolerance=tolerance,
            meter_provider=collected.provider,
        )  # fmt: skip
        model.predict(x, verbose=0)
    assert sum(collected.values("keras.predictions", CLASS).values()) == 200
    assert collected.values("keras.predict.samples", "keras.method")["predict"] == 200
    upper = collected.values("keras.prediction.baseline.upper", CLASS)
    assert upper["0"] == pytest.approx(1.3 / 3)
    otel_drift.uninstrument_model(model)


def test_a_watch_with_other_options_goes_on_with_its_counts(collected):
    for tolerance in (0.2, 0.3):
        recorder = otel_drift.watch(
            "pets", Baseline.uniform(2), tolerance=tolerance, meter_provider=collected.provider
        )
        recorder.record(np.array([0, 1, 1]))
    assert collected.values("keras.predictions", CLASS)["1"] == 4
    assert collected.values("keras.prediction.baseline.upper", CLASS)["0"] == pytest.approx(0.65)


def test_earlier_versions_leave_when_no_model_is_left_of_them(everything, x, tmp_path):
    import gc

    path = tmp_path / "digits.keras"
    for share in range(1, 6):
        saved(path, [10, 10, share])
        model = keras.saving.load_model(path)
        model.predict_on_batch(x)
        del model
        gc.collect()
    everything.points()
    samples = everything.points("keras.predict.samples")
    assert len({attributes[VERSION] for _, attributes, _ in samples}) == 1


def test_more_models_than_there_is_room_for_are_counted_as_other(collected, monkeypatch):
    from otel_drift.telemetry import registry

    monkeypatch.setattr(registry, "MAXIMUM_MODELS", 3)
    for number in range(6):
        recorder = otel_drift.watch(
            f"m{number}",
            Baseline.uniform(2),
            tolerance=0.2 + number / 100,
            meter_provider=collected.provider,
        )
        recorder.record(np.array([[0.9, 0.1]]))
    samples = collected.values("keras.predict.samples", NAME)
    assert samples == {"m0": 1, "m1": 1, "m2": 1, "other": 3}


def test_a_watch_and_a_model_that_are_the_same_share_and_miss_nothing(collected, x):
    """The watch comes first, and knows neither methods nor spans nor layers."""
    watched = otel_drift.watch("net", Baseline.uniform(3), meter_provider=collected.provider)
    model = otel_drift.instrument_model(
        built(), name="net", baseline=Baseline.uniform(3), meter_provider=collected.provider
    )
    watched.record(np.array([0, 1, 2]))
    model.predict(x, verbose=0)
    assert sum(collected.values("keras.predictions", CLASS).values()) == 103
    ((_, _, point),) = collected.points("keras.predict.duration")
    assert point.count == 1
    assert not any(errors_of(collected).values())
    otel_drift.uninstrument_model(model)
    watched.record(np.array([0]))
    assert sum(collected.values("keras.predictions", CLASS).values()) == 104


def test_a_model_may_be_loaded_while_a_recorder_is_made(everything, tmp_path, monkeypatch):
    """Looking up a function of the user's may import a module that loads a model."""
    path = saved(tmp_path / "second.keras", [1, 1, 1])
    module = tmp_path / "loads_a_model.py"
    module.write_text(
        f"import keras\nmodel = keras.saving.load_model({str(path)!r})\nlabels = None"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="outputs='loads_a_model:nothing': must name a function"):
        otel_drift.watch(
            "first",
            Baseline.uniform(3),
            outputs="loads_a_model:nothing",
            meter_provider=everything.provider,
        )
    names = {attributes[NAME] for _, attributes, _ in everything.points("keras.predict.samples")}
    assert names == {"second"}


def test_no_prediction_is_lost_while_a_model_is_instrumented_anew(collected, x):
    """Calls that were under way when a recorder was replaced had not been recorded at all."""
    model = built()

    def instrument(tolerance):
        otel_drift.instrument_model(
            model, name="net", baseline=Baseline.uniform(3), tolerance=tolerance,
            meter_provider=collected.provider,
        )  # fmt: skip

    instrument(0.2)
    predicted, stop = threading.Semaphore(0), threading.Event()
    calls = []

    def predict():
        while not stop.is_set():
            model.predict_on_batch(x[:7])
            calls.append(7)
            predicted.release()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=predict) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        seen = 0
        for step in range(40):
            for _ in range(5):
                assert predicted.acquire(timeout=20)
            instrument(0.2 + step / 100)
            samples = sum(collected.values("keras.predict.samples", "keras.method").values())
            assert samples >= seen
            seen = samples
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert sum(collected.values("keras.predictions", CLASS).values()) == sum(calls)
    assert sum(collected.values("keras.predict.samples", "keras.method").values()) == sum(calls)
    otel_drift.uninstrument_model(model)
