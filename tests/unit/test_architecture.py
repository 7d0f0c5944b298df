"""The way of a prediction through the package stays short: few modules, hardly a step back."""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import otel_drift
from otel_drift import Baseline

MODULES, CLIMBS = 2, 0
"""From the return of the model until its labels are appended, at most."""


def steps(call):
    """Each step from one module of the package to another: the module, and whether by a call."""
    stack, found = [], []

    def profile(frame, event, _):
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("otel_drift."):
            return
        if event == "call":
            stack.append(name)
            found.append((name, frame.f_code.co_name, True))
        elif event == "return" and stack:
            stack.pop()
            found.append((stack[-1] if stack else name, "", False))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def climbs_of(way):
    """How often one returns to a module and enters another from there."""
    climbs, returned, place = 0, False, way[0][0]
    for module, _, entered in way:
        if entered and module != place:
            climbs += returned
            returned = False
        elif not entered and module != place:
            returned = True
        place = module
    return climbs


def test_a_prediction_enters_few_modules_before_it_is_buffered(collected):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    otel_drift.instrument_model(
        model, baseline=Baseline.uniform(3), meter_provider=collected.provider
    )
    x = np.zeros((8, 4), dtype="float32")
    for _ in range(3):
        model.predict_on_batch(x)
    way = steps(lambda: model.predict_on_batch(x))
    otel_drift.uninstrument_model(model)
    first = next(i for i, (_, function, _) in enumerate(way) if function == "returned")
    returned = way[first:-2]  # until it returns to what is patched, and that to the caller
    assert returned[-1] == ("otel_drift.telemetry.invocation", "", False)
    modules = {module for module, _, _ in returned}
    assert len(modules) <= MODULES, modules
    assert climbs_of(returned) <= CLIMBS, returned
