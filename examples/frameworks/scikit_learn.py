"""Watch a scikit-learn forest: same series, rules and dashboards as a Keras model's.

opentelemetry-instrument python examples/frameworks/scikit_learn.py
"""

from sklearn.ensemble import RandomForestClassifier
from watched_digits import digits, report, start_metrics, stream

import otel_drift
from otel_drift import Baseline


def main() -> None:
    start_metrics()
    data = digits()
    forest = RandomForestClassifier(100, random_state=1).fit(data.x_train, data.y_train)
    classes = [str(name) for name in forest.classes_]
    baseline = Baseline.from_labels(forest.predict(data.x_test), classes)

    recorder = otel_drift.watch("digits-forest", baseline)
    for x in stream(data, batches=30):
        recorder.record(forest.predict(x))
    report(recorder, "without drift")
    for x in stream(data, batches=10, lost=3):
        recorder.record(forest.predict(x))
    report(recorder, "without threes")


if __name__ == "__main__":
    main()
