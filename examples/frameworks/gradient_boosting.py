"""Watch an XGBoost classifier: `record` is given its probabilities.

opentelemetry-instrument python examples/frameworks/gradient_boosting.py
"""

from watched_digits import digits, report, start_metrics, stream
from xgboost import XGBClassifier

import otel_drift
from otel_drift import Baseline


def main() -> None:
    start_metrics()
    data = digits()
    model = XGBClassifier(n_estimators=30, random_state=1).fit(data.x_train, data.y_train)
    baseline = Baseline.from_predictions(model.predict_proba(data.x_test))

    recorder = otel_drift.watch("digits-xgboost", baseline)
    for x in stream(data, batches=30):
        recorder.record(model.predict_proba(x))
    report(recorder, "without drift")
    for x in stream(data, batches=10, lost=3):
        recorder.record(model.predict_proba(x))
    report(recorder, "without threes")


if __name__ == "__main__":
    main()
