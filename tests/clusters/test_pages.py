"""The pages for clusters tell the truth: their commands run, as they stand there, on real ones."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from python_server import ROOT

from clusters.ray_cluster import RayCluster
from clusters.slurm_cluster import SlurmCluster


def commands_of(page: str) -> list[list[str]]:
    """Return the commands of the page's first block."""
    block = (ROOT / "docs" / page).read_text().partition("```bash\n")[2].partition("```")[0]
    return [shlex.split(line) for line in block.splitlines()]


def run_all(
    page: str, folder: Path, environment: dict[str, str], inside: Sequence[str] = ()
) -> dict[str, str]:
    """Run them one after the other; return what each printed, by its name."""
    said = {}
    for words in commands_of(page):
        if words[0] == "pip":
            continue
        assert words[0] == "nas"
        done = subprocess.run(
            [*inside, sys.executable, "-m", "nas_agent_graph.cli", *words[1:]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NAS_STATS_SECONDS": "0", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        said[words[1]] = done.stdout + done.stderr
    assert "Trainings can run there." in said["doctor"]
    assert re.search(r"trainings are jobs of \w+, named nas-[0-9a-f]{8}-RUN-aATTEMPT", said["run"])
    assert "The search has ended: all" in said["run"]
    assert "best run" in said["show"]
    return said


@pytest.mark.timeout(600)
def test_the_page_on_slurm_leads_to_a_leaderboard(slurm: SlurmCluster, tmp_path: Path) -> None:
    run_all("slurm.md", tmp_path, slurm.environment)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_page_on_ray_leads_to_a_leaderboard(ray: RayCluster, tmp_path: Path) -> None:
    run_all("ray.md", tmp_path, ray.environment, ray.inside)
