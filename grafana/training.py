"""The dashboard *Training*: how models were trained, run by run."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.common import BigValueTextMode, ScaleDistribution, VisibilityMode

from grafana.look import (
    board,
    choice,
    columns,
    graph,
    grid,
    in_order,
    lines,
    now,
    number,
    option,
    several,
)
from prometheus.definitions import SERVING_WINDOW, Exported

UID = "otel-drift-training"
MODEL = '{keras_model_name="$model"}'
RUN = '{keras_model_name="$model",keras_training_run=~"$run"}'
METRIC = (
    '{keras_model_name="$model",keras_training_run=~"$run",keras_training_metric_name=~"$metric"}'
)


def training_dashboard() -> Dashboard:
    """Make the dashboard."""
    models = f"label_values({Exported.TRAINING_LOSS}, keras_model_name)"
    runs = f"label_values({Exported.TRAINING_LOSS}{MODEL}, keras_training_run)"
    metrics = f"label_values({Exported.TRAINING_METRIC}{RUN}, keras_training_metric_name)"
    return (
        board(UID, "Training", "Loss, metrics, epochs and learning rate of training runs.")
        .time("now-6h", "now")
        .with_variable(choice("model", "Model", models))
        .with_variable(several("run", "Run", runs))
        .with_variable(several("metric", "Metric", metrics))
        .with_row(Row("Runs"))
        .with_panel(running())
        .with_panel(epochs())
        .with_panel(steps_per_second())
        .with_panel(newest_loss())
        .with_panel(runs_table())
        .with_row(Row("Progress"))
        .with_panel(loss())
        .with_panel(metric())
        .with_panel(learning_rate())
        .with_panel(epoch_duration())
    )


def running() -> Any:
    """Count the runs in training."""
    panel = number(
        "Runs that report",
        "Runs of the chosen model that report now.",
        now(f"count(count by (keras_training_run) ({Exported.TRAINING_LOSS}{RUN}))"),
        width=6,
    )
    return panel.no_value("None")


def epochs() -> Any:
    """Count finished epochs."""
    return number(
        "Epochs",
        "Epochs that the chosen runs have finished.",
        now(f"sum({Exported.TRAINING_EPOCHS}{RUN})"),
        width=6,
    )


def steps_per_second() -> Any:
    """Tell the speed of training."""
    return number(
        "Steps",
        "Training steps (batches) per second over 5 minutes, all chosen runs.",
        now(f"sum(rate({Exported.TRAINING_STEPS}{RUN}[{SERVING_WINDOW}]))"),
        width=6,
    ).unit("cps")


def newest_loss() -> Any:
    """Tell the lowest validation loss."""
    validation = RUN[:-1] + ',keras_training_phase="validation"}'
    return (
        number(
            "Lowest validation loss",
            "The run with the lowest newest loss on validation data.",
            now(
                f"bottomk(1, min by (keras_training_run) ({Exported.TRAINING_LOSS}{validation}))",
                "{{keras_training_run}}",
            ),
            width=6,
        )
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .no_value("No validation")
    )


def runs_table() -> Any:
    """Make the table that has a row for each run."""

    def last(name: str, phase: str = "") -> str:
        chosen = RUN[:-1] + (f',keras_training_phase="{phase}"}}' if phase else "}")
        return f"max by (keras_training_run) (last_over_time({name}{chosen}[$__range]))"

    seconds = Exported.TRAINING_EPOCH_DURATION
    results = {
        "Training loss": last(Exported.TRAINING_LOSS, "train"),
        "Validation loss": last(Exported.TRAINING_LOSS, "validation"),
        "Evaluation loss": last(Exported.TRAINING_LOSS, "evaluation"),
    }
    course = {
        "Epochs": last(Exported.TRAINING_EPOCHS),
        "Seconds per epoch": f"{last(seconds + '_sum')} / {last(seconds + '_count')}",
        "Learning rate": last(Exported.TRAINING_LEARNING_RATE),
    }
    shown = {"keras_training_run": "Run", **{name: name for name in (*results, *course)}}
    panel = grid(
        "Runs",
        "The newest values of each run in the time range, those that have ended too. Loss on "
        "training data far below that on validation data: the model learns by heart.",
        now(columns(results)),
        now(columns(course), ref_id="B"),
        height=8,
    )
    return (
        in_order(panel, shown)
        .override_by_name("Seconds per epoch", [option("unit", "s")])
        .override_by_name("Epochs", [option("decimals", 0)])
        .sort_by([common.TableSortByFieldState().display_name("Validation loss")])
    )


def loss() -> Any:
    """Show the loss."""
    return graph(
        "Loss",
        "Loss of each run, by phase, after each epoch. Validation rising while training falls: "
        "stop earlier.",
        lines(
            f"max by (keras_training_run, keras_training_phase) ({Exported.TRAINING_LOSS}{RUN})",
            "{{keras_training_run}} {{keras_training_phase}}",
        ),
        unit="none",
    ).show_points(VisibilityMode.AUTO)


def metric() -> Any:
    """Show the metrics."""
    return graph(
        "Metrics",
        "Metrics the model was compiled with, of each run, by phase, after each epoch.",
        lines(
            "max by (keras_training_run, keras_training_phase, keras_training_metric_name)"
            f" ({Exported.TRAINING_METRIC}{METRIC})",
            "{{keras_training_run}} {{keras_training_metric_name}} {{keras_training_phase}}",
        ),
        unit="none",
    ).show_points(VisibilityMode.AUTO)


def learning_rate() -> Any:
    """Show the learning rate."""
    logarithmic = common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)
    return graph(
        "Learning rate",
        "Learning rate of each run, on a logarithmic scale: it shows what a schedule does.",
        lines(
            f"max by (keras_training_run) ({Exported.TRAINING_LEARNING_RATE}{RUN})",
            "{{keras_training_run}}",
        ),
        unit="none",
    ).scale_distribution(logarithmic)


def epoch_duration() -> Any:
    """Show how long epochs take."""
    seconds = Exported.TRAINING_EPOCH_DURATION
    return graph(
        "Seconds per epoch",
        "Mean duration of the epochs of each run so far.",
        lines(
            f"sum by (keras_training_run) ({seconds}_sum{RUN})"
            f" / sum by (keras_training_run) ({seconds}_count{RUN})",
            "{{keras_training_run}}",
        ),
        unit="s",
    ).min(0)
