"""Make a model and save it."""

import sys

import keras

keras.utils.set_random_seed(3)
layers = [
    keras.Input((4,)),
    keras.layers.Dense(8, activation="relu"),
    keras.layers.Dense(3, activation="softmax"),
]
keras.Sequential(layers).save(sys.argv[1])
