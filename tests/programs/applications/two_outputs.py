"""Score support tickets: a functional model that gives a priority and a department.

Trains on made-up tickets, then scores new ones, as Keras's guide to its functional API does.
Prints the largest scores it saw, and writes all scores to the file that is named.
"""

import json
import sys

import keras
import numpy as np

keras.utils.set_random_seed(1)
random = np.random.default_rng(1)


def tickets(n):
    title = random.normal(size=(n, 16)).astype("float32")
    body = random.normal(size=(n, 32)).astype("float32")
    priority = (title[:, :1] + body[:, :1] > 0).astype("float32")
    department = (title[:, 1] > 0).astype(int) + 2 * (body[:, 1] > 0).astype(int)
    return {"title": title, "body": body}, {"priority": priority, "department": department}


title = keras.Input((16,), name="title")
body = keras.Input((32,), name="body")
features = keras.layers.Concatenate()([title, body])
features = keras.layers.Dense(32, activation="relu")(features)
priority = keras.layers.Dense(1, activation="sigmoid", name="priority")(features)
department = keras.layers.Dense(4, activation="softmax", name="department")(features)
model = keras.Model(
    inputs={"title": title, "body": body},
    outputs={"priority": priority, "department": department},
    name="tickets",
)
model.compile(
    optimizer="adam",
    loss={"priority": "binary_crossentropy", "department": "sparse_categorical_crossentropy"},
)
model.fit(*tickets(512), epochs=2, validation_split=0.25, verbose=0)
model.evaluate(*tickets(128), verbose=0)

scored = []
for n in (64, 5, 200, 1):
    x, _ = tickets(n)
    scored.append(model.predict(x, batch_size=32, verbose=0))
    scored.append(model.predict_on_batch(x))

priorities = np.concatenate([y["priority"] for y in scored])
departments = np.concatenate([y["department"] for y in scored])
np.savez(sys.argv[1], priorities=priorities, departments=departments)
urgent = int((priorities >= 0.5).sum())
by_department = np.bincount(departments.argmax(axis=1), minlength=4).tolist()
print(json.dumps({"urgent": urgent, "of": len(priorities), "departments": by_department}))
