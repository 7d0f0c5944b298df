"""The examples for other frameworks run as their README says, and find the lost digit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = Path(__file__).parents[2] / "examples" / "frameworks"


@pytest.mark.parametrize("script", ["scikit_learn.py", "pytorch.py", "gradient_boosting.py"])
def test_the_lost_digit_is_found(script):
    ran = subprocess.run(
        [sys.executable, FRAMEWORKS / script], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    quiet, drift, moved = ran.stdout.splitlines()
    assert quiet.startswith("without drift: 3,088 predictions")
    assert quiet.endswith("no drift")
    assert drift.endswith("DRIFT")
    assert re.fullmatch(r"  moved: class 3 from 10\.\d% to about [01]\.\d%", moved)
