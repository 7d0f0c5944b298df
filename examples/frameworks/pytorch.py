"""Watch a plain torch module, compiled as a whole: `record` is given its outputs.

opentelemetry-instrument python examples/frameworks/pytorch.py
"""

import torch
from watched_digits import digits, report, start_metrics, stream

import otel_drift
from otel_drift import Baseline


def trained(x: torch.Tensor, y: torch.Tensor) -> torch.nn.Module:
    """Fit two layers, which takes a second."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    start_metrics()
    data = digits()
    model = trained(torch.from_numpy(data.x_train), torch.from_numpy(data.y_train))
    with torch.inference_mode():
        baseline = Baseline.from_predictions(model(torch.from_numpy(data.x_test)).numpy())
        recorder = otel_drift.watch("digits-torch", baseline)
        for x in stream(data, batches=30):
            recorder.record(model(torch.from_numpy(x)))
        report(recorder, "without drift")
        for x in stream(data, batches=10, lost=3):
            recorder.record(model(torch.from_numpy(x)))
        report(recorder, "without threes")


if __name__ == "__main__":
    main()
