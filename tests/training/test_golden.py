"""Twenty recorded losses of every family: a change of code that changes numbers is noticed.

Meant to change? `python tests/training/record_golden.py` records again.
"""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECORDER = runpy.run_path(str(HERE / "record_golden.py"))


@pytest.mark.parametrize("family", RECORDER["CONFIGS"])
def test_losses_are_the_recorded_ones(family):
    recorded = json.loads((HERE / "recorded" / f"{family}.json").read_text())["losses"]
    losses = RECORDER["losses_of"](family)
    assert len(losses) == RECORDER["STEPS"]
    assert losses == pytest.approx(recorded, rel=1e-5)


def test_the_same_seed_gives_the_same_losses_in_another_process(project_root):
    # Bit for bit: the same machine, the same kernels.
    command = [sys.executable, str(HERE / "record_golden.py"), "informer"]
    other = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True, timeout=240)
    assert json.loads(other.stdout) == RECORDER["losses_of"]("informer")
