"""Baselines from files, where they are not to be those that replicas export.

>>> import tempfile
>>> from otel_drift import Baseline
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Baseline.uniform(2).save(Path(folder) / "pets.baseline.json")
...     baseline_of = baselines_in([f"cats={path}", folder], 0.2)
...     [len(baseline_of(Output(name, "7", "output")).classes) for name in ("pets", "cats")]
[4, 4]
>>> baseline_of(Output("dogs", "7", "output")) is None
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from otel_drift.baselines.baseline import Baseline, load_baselines
from otel_drift.baselines.files import SUFFIX
from otel_drift.fleet.counters import Output
from otel_drift.fleet.reference import ExportedReference, exported_reference


def baselines_in(
    places: Sequence[str], tolerance: float
) -> Callable[[Output], ExportedReference | None]:
    """Read files now, and give the baseline of an output.

    Parameters
    ----------
    places
        Each ``NAME=FILE`` of one model, or a folder with ``NAME.baseline.json`` of several.
    tolerance
        Relative change of a class's share that does not matter.

    Raises
    ------
    ValueError
        If a place is neither, or a file is broken.
    FileNotFoundError
        If a file is not there.
    """
    found: dict[str, dict[str, Baseline]] = {}
    for place in places:
        folder = Path(place)
        if folder.is_dir():
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                found.setdefault(path.name.removesuffix(SUFFIX), load_baselines(path))
            continue
        name, equals, file = place.partition("=")
        if not (name and equals and file):
            raise ValueError(f"baseline {place!r}: must be NAME=FILE or a folder")
        found[name] = load_baselines(Path(file))
    references = {
        (model, output): exported_reference(baseline, tolerance)
        for model, outputs in found.items()
        for output, baseline in outputs.items()
    }
    return lambda output: references.get((output.model, output.name))
