"""The example runs as it is written: from a checkout, without meta-features, to samples."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = "example/train_loop_example.py"


def test_the_example_goes_from_a_zoo_to_samples(
    project_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(project_root / EXAMPLE))["main"](networks=50, tasks=10, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    starts = ["zoo: 50 networks", "network 0: ", "untrained: ", "epoch  1: ", "epoch  2: ", "trained: "]
    for line, start in zip(lines, [*starts, *["sample: 2 inputs -> "] * 3], strict=True):
        assert line.startswith(start)


@pytest.mark.slow
def test_the_example_learns_at_its_default_size(project_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(project_root / EXAMPLE)],
        cwd=tmp_path,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (trained,) = (line for line in done.stdout.splitlines() if line.startswith("trained:"))
    metrics = dict(pair.split("=") for pair in trained.split()[1:])
    assert float(metrics["function_correlation"]) > 0.4
    assert list(tmp_path.iterdir()) == []
