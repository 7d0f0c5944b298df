"""A WSGI application that loads its model, and warms it up, when it is imported.

    MODEL=.demo/digits.keras gunicorn --preload --workers 2 application:application

It takes images as an `.npy` file and answers with their labels. It knows nothing of how it is
watched: that is in gunicorn.conf.py.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of torch do not survive a fork

import keras
import numpy as np

model = keras.saving.load_model(os.environ.get("MODEL", ".demo/digits.keras"))
model.predict_on_batch(np.zeros((1_000, *model.input_shape[1:]), dtype="float32"))


def application(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    body = request["wsgi.input"].read(int(request["CONTENT_LENGTH"] or 0))
    images = np.load(io.BytesIO(body), allow_pickle=False)
    labels = model.predict_on_batch(images).argmax(axis=1)
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"worker": os.getpid(), "labels": labels.tolist()}).encode()]
