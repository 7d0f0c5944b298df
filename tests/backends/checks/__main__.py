"""Run every check on the Keras backend that KERAS_BACKEND names; print what came of them as JSON.

Run by hand, with parts of names of checks to run only those:

    KERAS_BACKEND=jax python tests/backends/checks [PART_OF_A_NAME ...]
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import time
import traceback
from typing import Any

import harness
import names

SECONDS = 90
"""After which a check that hangs is a check that has failed."""


def hanging(*_: Any) -> None:
    """Interrupt a check."""
    raise TimeoutError(f"still running after {SECONDS} s")


def outcome(name: str) -> dict[str, object]:
    """Run one check."""
    start = time.perf_counter()
    trouble = ""
    signal.alarm(SECONDS)
    try:
        harness.CHECKS[name]()
    except BaseException:
        trouble = traceback.format_exc()
    finally:
        signal.alarm(0)
    return {"trouble": trouble, "seconds": round(time.perf_counter() - start, 3)}


def main(parts: list[str]) -> None:
    """Run the checks that are named, or all."""
    signal.signal(signal.SIGALRM, hanging)
    if harness.BACKEND == "torch":
        import torch

        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork, with us or without
    for module in names.MODULES:
        importlib.import_module(module)
    chosen = [name for name in harness.CHECKS if not parts or any(part in name for part in parts)]
    results = {name: outcome(name) for name in chosen}
    if parts:
        for name, result in results.items():
            print(name, result["trouble"] or "passed", result["seconds"])
    else:
        print(json.dumps(results))


main(sys.argv[1:])
