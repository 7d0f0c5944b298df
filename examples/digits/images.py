"""Labelled images in two halves: one to train on, one held out.

`train.py` and `drift.py` both take their halves from here, with the same seed, so that the images
`drift.py` sends are exactly those the baseline was counted on. Drawn at random from them, the
predictions then have exactly the baseline's shares: what is undrifted is so by construction and
not by luck.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 8


class Half(NamedTuple):
    """Images, and what they show."""

    x: NDArray[np.float32]
    """Shape (n, height, width, channels), from 0 to 1."""
    y: NDArray[np.int64]
    """Shape (n,), classes from 0."""


class Images(NamedTuple):
    """A data set."""

    name: str
    """Also that of the model file."""
    training: Half
    held_out: Half


def load_images(dataset: str) -> Images:
    """Load a data set.

    Parameters
    ----------
    dataset
        ``digits`` (1,797 images of 8 x 8 pixels that come with scikit-learn), ``mnist`` (70,000 of
        28 x 28, downloaded by Keras), or an ``.npz`` file with the arrays ``x``, shape
        (n, height, width) or (n, height, width, channels), and ``y``, shape (n,).

    Raises
    ------
    SystemExit
        If it cannot be had; says why and what to do.
    """
    if dataset == "digits":
        return _digits()
    if dataset == "mnist":
        return _mnist()
    if dataset.endswith(".npz"):
        return _file(Path(dataset))
    raise SystemExit(f"--dataset {dataset}: must be digits, mnist or a file that ends in .npz")


def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _halves("digits", digits.images, digits.target)


def _mnist() -> Images:
    import keras

    try:
        (x, y), (held_out_x, held_out_y) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception for a download that fails
        raise SystemExit(
            f"--dataset mnist: cannot be downloaded here: {error}\n"
            "Without a network use --dataset digits, or --dataset FILE.npz with arrays x and y."
        ) from error
    return Images(
        "mnist", Half(_pixels(x), _classes(y)), Half(_pixels(held_out_x), _classes(held_out_y))
    )


def _file(path: Path) -> Images:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"--dataset {path}: {error}") from error
    if x.ndim not in (3, 4) or y.shape != x.shape[:1] or y.dtype.kind not in "iu" or y.min() < 0:
        raise SystemExit(
            f"--dataset {path}: x has shape {x.shape}, y has shape {y.shape} and type {y.dtype}: "
            "must be (n, height, width) or (n, height, width, channels), and n whole numbers from 0"
        )
    return _halves(path.stem, x, y)


def _halves(name: str, x: NDArray, y: NDArray) -> Images:
    """Split in two at random, with equal shares of each class.

    In half, because the baseline is counted on the held-out images: the more there are, the
    narrower the band of shares that count as "not moved".
    """
    random = np.random.default_rng(SEED)
    order = random.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # by class, and at random within each
    pixels, classes = _pixels(x), _classes(y)
    training, held_out = order[0::2], order[1::2]
    return Images(
        name,
        Half(pixels[training], classes[training]),
        Half(pixels[held_out], classes[held_out]),
    )


def _pixels(x: NDArray) -> NDArray[np.float32]:
    scaled = (x / x.max()).astype(np.float32)
    return scaled if scaled.ndim == 4 else scaled[..., np.newaxis]


def _classes(y: NDArray) -> NDArray[np.int64]:
    return y.astype(np.int64)
