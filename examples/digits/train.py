"""Train a small convolutional network on images of digits, and count its baseline.

    python examples/digits/train.py

Writes two files: the model `digits.keras`, and beside it `digits.baseline.json`, where an
instrumented program finds it by itself.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads slow a model down that is so small

import keras
import numpy as np
from images import SEED, Half, Images, load_images

from otel_drift import Baseline

BATCH_SIZE = 64
IMAGES_SEEN = 64_000
"""Training ends when the model has seen so many, however few different ones there are."""
FEW = 10_000
"""Fewer images than this are also shown shifted."""


def main() -> None:
    arguments = _arguments()
    images = load_images(arguments.dataset)
    model = train(images)
    scores = model.predict(images.held_out.x, verbose=0)
    accuracy = float((scores.argmax(axis=1) == images.held_out.y).mean())
    print(f"held-out accuracy {accuracy:.4f} on {len(scores)} images")

    # Counted on images the model was not trained on, as those of production will be: on its
    # training images it errs less, and so predicts other shares. Each image counts once: drawing
    # them again and again would feign a certainty that so few images do not give.
    baseline = Baseline.from_predictions(scores)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{images.name}.keras"
    model.save(path)
    print(f"model     {path}")
    print(f"baseline  {baseline.save(path)}, counted on {baseline.size} predictions")


def train(images: Images) -> keras.Model:
    """Train a model; the same images give the same model."""
    keras.utils.set_random_seed(SEED)
    x, y = with_shifted(images.training)
    epochs = math.ceil(IMAGES_SEEN / len(y))
    steps = epochs * math.ceil(len(y) / BATCH_SIZE)
    model = build_model(images)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.004, steps)),
        loss="sparse_categorical_crossentropy",
    )
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def build_model(images: Images) -> keras.Model:
    """Make two convolutions and a softmax over the classes."""
    classes = 1 + int(max(images.training.y.max(), images.held_out.y.max()))
    return keras.Sequential(
        [
            keras.Input(shape=images.training.x.shape[1:]),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name=images.name,
    )


def with_shifted(half: Half) -> Half:
    """Add each image four times, shifted by one pixel, where there are few images."""
    if len(half.y) >= FEW:
        return half
    shifted = [np.roll(half.x, pixel, axis) for axis in (1, 2) for pixel in (-1, 1)]
    return Half(np.concatenate([half.x, *shifted]), np.tile(half.y, 5))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a classifier of digits and count its baseline."
    )
    parser.add_argument(
        "--dataset", default="digits", help="digits (default), mnist, or FILE.npz with x and y"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(".demo"), help="folder for the files (.demo)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
