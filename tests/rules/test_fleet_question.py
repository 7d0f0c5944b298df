"""The question of the fleet's detector means the same to every Prometheus.

From version 3 on a range leaves its left edge out, before it held it: samples that lie exactly at
the end of a tick must be counted once by both.
"""

import subprocess
from pathlib import Path

import pytest
import yaml

from otel_drift.fleet.counters import grown_by
from tests.grafana.prometheus_server import BIN

COUNTERS = {
    "steady": ("0+7x99", 7 * 99),
    # Within the tick that ends at 255 s: what it gained since the last one, 7, is lost.
    "begins again": ("0+7x49 0+7x49", 7 * (48 + 49)),
    "is born": ("_x40 3+7x58", 7 * 58),
    "dies": ("0+7x49 stale _x49", 7 * 49),
    "is away": ("0+7x49 _x30 560+7x19", 7 * 99),
    "steps back a little": ("0+7x49 343x1 340x1 364+7x47", 364 + 7 * 45),
}
"""Samples each 5 s, every third at the very moment at which a tick of 15 s ends; and what all
ticks count together."""


@pytest.mark.parametrize("program", ["promtool", "promtool-2.42"])
def test_ticks_add_up_to_what_is_counted(program: str, tmp_path: Path) -> None:
    series, samples = [], []
    for model, (values, wanted) in COUNTERS.items():
        labels = f'keras_model_name="{model}",keras_model_output="o",keras_prediction_class="a"'
        series.append({"series": f"keras_predictions_total{{{labels}}}", "values": values})
        samples.append({"labels": f"{{{labels}}}", "value": wanted})
    # The subquery asks at the end of each tick, as the service does.
    asked = {"expr": f"sum_over_time(({grown_by(15.0)})[490s:15s])", "eval_time": "495s"}
    test = {
        "interval": "5s",
        "input_series": series,
        "promql_expr_test": [{**asked, "exp_samples": samples}],
    }
    path = tmp_path / "question.yml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "5s", "tests": [test]}))
    done = subprocess.run(
        [BIN / program, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
