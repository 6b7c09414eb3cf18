"""The sandbox changes no number: a training in it ends with the scores that it has without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attack_runs import PROJECT

from nas_system.config_io.config_file import write_config
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig, family_default

FAMILIES = ("linear", "informer", "tft", "graph_transformer")


def small(family: str) -> RunConfig:
    values: dict[str, Any] = family_default(family).model_dump()
    values["training"] |= {"max_epochs": 1, "max_steps": None}
    if family == "graph_transformer":
        values["model"] |= {"hidden_dim": 16, "num_layers": 1, "heads": 2}
        values["task"] |= {"train_graphs": 64, "val_graphs": 32, "test_graphs": 32}
    else:
        values["data"] |= {"seq_len": 48, "batch_size": 256}
        values["task"] |= {"dataset": "synthetic"}
    return RunConfig.model_validate(values)


def scores(paths: RunPaths, config: RunConfig, mode: str) -> dict[str, float]:
    """Train under a supervisor and return every score in metrics.json."""
    paths.folder.mkdir()
    write_config(paths.config, config)
    training = [sys.executable, "-m", "nas_system.train", "--config", str(paths.config), "--device", "cpu"]
    training += ["--runs-dir", str(paths.folder.parent), "--tag", paths.folder.name]
    training += ["--output-dir", str(paths.work)]
    supervisor = [
        sys.executable,
        "-m",
        "nas_system.processes.supervisor",
        str(paths.folder),
        "--attempt",
        "1",
    ]
    subprocess.run(
        [*supervisor, "--time-limit", "300", "--sandbox", mode, "--", *training],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=True,
    )
    ended = json.loads(paths.exit.read_bytes())
    assert ended["returncode"] == 0, paths.log.read_text()
    assert (ended["confinement"] == "off") == (mode == "off")
    # The pictures are drawn in the sandbox, too.
    assert paths.learning_curve.is_file()
    metrics = json.loads(paths.metrics.read_bytes())
    return {name: value for name, value in metrics.items() if name.startswith(("train_m", "val_", "test_"))}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_has_the_same_scores_in_the_sandbox_and_without(family: str, tmp_path: Path) -> None:
    config = small(family)
    inside = scores(RunPaths(tmp_path / "inside"), config, "best")
    assert inside == scores(RunPaths(tmp_path / "outside"), config, "off")
    assert len(inside) >= 3
