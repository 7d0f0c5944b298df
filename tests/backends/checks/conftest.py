"""The tests of one Keras backend, in a process of their own.

By hand, with the backend in the environment:

    KERAS_BACKEND=jax python -m pytest --import-mode=prepend -c /dev/null tests/backends/checks
"""

import keras

if keras.backend.backend() == "torch":
    import torch

    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork, with us or without
