"""Load a model, predict by all three entry points, and print what came out."""

import hashlib
import json
import sys

import keras
import numpy as np


def largest(y):
    """Say whether the first class won: for a service that asks for no more."""
    return (np.asarray(y).argmax(axis=1) == 0).astype(int)


def mean_of_the_inputs(x, y):
    """Test for drift, in a way of the program's own."""
    return 0.25, float(np.mean(x))


if __name__ == "__main__":
    random = np.random.default_rng(7)
    model = keras.saving.load_model(sys.argv[1])
    outputs = []
    for rows in (40, 1, 7, 64, 33):
        x = (4 * random.normal(size=(rows, 4))).astype("float32")
        outputs += [
            model.predict(x, verbose=0),
            model.predict_on_batch(x),
            keras.ops.convert_to_numpy(model(x)),
        ]
    y = np.concatenate(outputs)
    classes, counts = np.unique(y.argmax(axis=1), return_counts=True)
    printed = {
        "counts": {str(name): int(count) for name, count in zip(classes, counts, strict=True)},
        "digest": hashlib.sha256(y.tobytes()).hexdigest(),
        "scipy": "scipy" in sys.modules,
        "numpy": np.__file__,
    }
    print(json.dumps(printed))
