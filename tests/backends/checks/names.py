"""What there is to run; without Keras, so that the tests can be listed."""

MODULES = ("matrix", "inputs", "faults", "uncounted", "unchanged", "lifetimes")
ENTRY_POINTS = ("predict", "predict_on_batch", "__call__")
KINDS = (
    "softmax",
    "logits_with_a_baseline",
    "logits_with_a_decision",
    "sigmoid",
    "sigmoid_with_a_threshold",
    "list_of_outputs",
    "dict_of_outputs",
    "nested_outputs",
    "sequences",
    "regression_by_quantiles",
    "labels_of_their_own",
    "labels_with_a_threshold",
    "an_outputs_function",
    "cannot_be_guessed",
)
