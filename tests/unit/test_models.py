"""Models on torch: found by their file, held against their baseline, and left as they were."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

import otel_drift
from otel_drift import Baseline, KerasInstrumentor


def built(seed=1, classes=3, name="net"):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(classes, activation="softmax")], name=name
    )


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(60, 4)).astype("float32")


@pytest.fixture
def everything(collected):
    """Every model is recorded, as without code."""
    KerasInstrumentor().instrument(meter_provider=collected.provider)
    yield collected
    if KerasInstrumentor().is_instrumented_by_opentelemetry:
        KerasInstrumentor().uninstrument()


def test_a_loaded_model_has_the_name_and_the_baseline_of_its_file(everything, x, tmp_path):
    model, path = built(), tmp_path / "digits.keras"
    Baseline.from_model(model, x).save(path)
    model.save(path)
    assert everything.points("keras.predict.samples") == []  # what from_model predicts is not ours
    loaded = keras.saving.load_model(path)
    expected = loaded.predict(x, verbose=0).argmax(1)
    proportions = everything.values(
        "keras.prediction.baseline.proportion", "keras.model.name", "keras.prediction.class"
    )
    assert {key[0] for key in proportions} == {"digits"}
    counts = everything.values("keras.predictions", "keras.model.name", "keras.prediction.class")
    for k in range(3):
        assert counts["digits", str(k)] == np.count_nonzero(expected == k)
    errors = everything.values("keras.instrumentation.errors", "error.type")
    assert not any(errors.values())


def test_loading_again_goes_on_counting_and_a_new_baseline_is_a_new_version(
    everything, x, tmp_path
):
    path = tmp_path / "digits.keras"
    model = built()
    model.save(path)
    Baseline.from_counts([10, 10, 10]).save(path)
    first, same = keras.saving.load_model(path), keras.saving.load_model(path)
    first.predict(x, verbose=0)
    same.predict(x, verbose=0)
    Baseline.from_counts([1, 1, 2]).save(path)
    second = keras.saving.load_model(path)
    second.predict(x, verbose=0)
    first.predict(x, verbose=0)
    keys = ("keras.model.name", "keras.model.version", "keras.prediction.class")
    counts = everything.values("keras.predictions", *keys)
    versions = {version for _, version, _ in counts}
    totals = {v: sum(n for key, n in counts.items() if key[1] == v) for v in versions}
    assert sorted(totals.values()) == [60, 180]
    shares = everything.values("keras.prediction.baseline.proportion", *keys)
    third = {version: shares["digits", version, "2"] for version in versions}
    assert {totals[v]: share for v, share in third.items()} == {180: 1 / 3, 60: 0.5}


def test_a_baseline_of_other_weights_is_reported_once(everything, x, tmp_path, caplog):
    path = tmp_path / "digits.keras"
    Baseline.from_model(built(seed=1), x).save(path)
    built(seed=2).save(path)
    for _ in range(2):
        keras.saving.load_model(path)
    errors = everything.values("keras.instrumentation.errors", "error.type")
    assert errors["baseline_outdated"] >= 1
    reports = [one for one in caplog.records if "other weights" in one.getMessage()]
    assert len(reports) == 1
    assert str(tmp_path / "digits.baseline.json") in reports[0].getMessage()


def test_a_baseline_older_than_its_model_is_reported(everything, tmp_path):
    path = tmp_path / "digits.keras"
    saved = Baseline.from_counts([1, 1, 1]).save(path)
    built().save(path)
    keras.saving.load_model(path)
    errors = everything.values("keras.instrumentation.errors", "error.type")
    assert errors["baseline_outdated"] == 0
    os.utime(saved, (1e9, 1e9))
    keras.saving.load_model(path)
    errors = everything.values("keras.instrumentation.errors", "error.type")
    assert errors["baseline_outdated"] == 1


def test_one_model_alone(collected, x):
    model, other = built(), built(name="other")
    same = otel_drift.instrument_model(
        model, name="mnist", baseline=Baseline.uniform(3), meter_provider=collected.provider
    )
    assert same is model
    model.predict(x, verbose=0)
    other.predict(x, verbose=0)
    assert set(collected.values("keras.predictions", "keras.model.name")) == {"mnist"}
    otel_drift.uninstrument_model(model)
    model.predict(x, verbose=0)
    samples = collected.values("keras.predict.samples", "keras.method")
    assert samples["predict"] == 60
    assert "predict" not in vars(keras.Model)
    with pytest.raises(ValueError, match="was not instrumented"):
        otel_drift.uninstrument_model(model)


def test_what_is_wrong_with_one_model_is_said_at_once(x, tmp_path):
    model = built(classes=3)
    path = Baseline.uniform(5).save(tmp_path / "five.json")
    with pytest.raises(ValueError, match=r"five.json: field 'outputs.output.classes' has 5 "):
        otel_drift.instrument_model(model, baseline=path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        otel_drift.instrument_model(model, baseline=tmp_path / "nowhere.json")
    with pytest.raises(TypeError, match=r"model=5: must be a keras.Model; watch\(\) serves"):
        otel_drift.instrument_model(5)
    with pytest.raises(TypeError, match="not an option"):
        otel_drift.instrument_model(model, colour="red")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        KerasInstrumentor().instrument(baseline="nowhere.json")
    assert not KerasInstrumentor().is_instrumented_by_opentelemetry
    assert "predict" not in vars(keras.Model)


def test_a_drift_function_sees_inputs_and_outputs(collected, x):
    seen = []

    def mine(inputs, outputs):
        seen.append((inputs, outputs))
        return 0.75, 2.0

    model = otel_drift.instrument_model(
        built(),
        baseline=Baseline.uniform(3),
        drift_function={"mine": mine},
        meter_provider=collected.provider,
    )
    y = model.predict(x, verbose=0)
    recorder = model.__dict__["_otel_drift"].recorder
    assert recorder.tests[0].wait(20)
    assert np.array_equal(seen[0][0], x)
    assert np.array_equal(seen[0][1], y)
    p_values = collected.values("keras.prediction.drift.p_value", "keras.model.output")
    assert p_values["mine"] == 0.75
    otel_drift.uninstrument_model(model)


def test_the_public_names_are_there_and_no_others():
    for name in otel_drift.__all__:
        assert getattr(otel_drift, name) is not None
    assert dir(otel_drift) == sorted(otel_drift.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = otel_drift.nonsense
