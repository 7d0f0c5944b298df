"""Expressions that several panels share, in terms of the records of ``prometheus/rules``.

>>> print(each_output("model:keras_replicas:count"))
((0 * output:keras_predictions:rate5m + on (keras_model_name) group_left () model:keras_replicas:count)
or on (keras_model_name) label_replace(model:keras_replicas:count, "keras_model_output", "-", "", ""))
"""  # noqa: E501

from prometheus.definitions import CALLS, ERRORS, TRAFFIC

LINES_AT_MOST = 10
"""Lines in a graph over all models; more could not be told apart."""

FAILED = f"(sum by (keras_model_name) ({ERRORS}) / (sum by (keras_model_name) ({CALLS}) > 0))"
"""Share of calls that raised; absent while there are no calls."""


def highest(record: str, labels: str) -> str:
    """Keep the series of a record that were highest in the time range.

    They are ranked once for the whole range and not at each step, so no line comes and goes.

    Parameters
    ----------
    record
        A plain selector.
    labels
        What tells its series apart.
    """
    over_time = f"max_over_time({record}[$__range] @ end())"
    best = f"topk({LINES_AT_MOST}, max by ({labels}) ({over_time}))"
    return f"max by ({labels}) ({record} and on ({labels}) {best})"


def each_output(expr: str) -> str:
    """Repeat what a model has for each output; a model whose outputs are not known gets a dash."""
    every = f"0 * {TRAFFIC} + on (keras_model_name) group_left () {expr}"
    rest = f'label_replace({expr}, "keras_model_output", "-", "", "")'
    return f"(({every})\nor on (keras_model_name) {rest})"
