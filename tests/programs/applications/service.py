"""A small web service: FastAPI, one Keras model, loaded when a worker starts.

MODEL=digits.keras uvicorn service:app --workers 2
"""

import os
from contextlib import asynccontextmanager

import keras
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """What is to be classified."""

    rows: list[list[float]]


@asynccontextmanager
async def lifespan(app):
    """Load the model once a worker."""
    app.state.model = keras.saving.load_model(os.environ["MODEL"])
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
def health():
    """Say that this worker serves, and which it is."""
    return {"worker": os.getpid()}


@app.post("/predict")
def predict(request: Rows):
    """Classify some rows."""
    x = np.asarray(request.rows, dtype="float32")
    scores = app.state.model.predict_on_batch(x)
    return {"worker": os.getpid(), "scores": scores.tolist()}
