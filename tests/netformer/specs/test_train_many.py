"""Many trainings in one process: the same numbers as one by one, and a failure is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nas_system.netformer.specs.archive.synthetic_tasks import csv_of, draw_recipe, task_of

FAST = {
    "model": {"family": "linear"},
    "data": {"features": "S", "seq_len": 24, "batch_size": 64},
    "training": {"lr": 0.01, "max_epochs": 2, "patience": 2},
}
ENDLESS = {
    "model": {"family": "gru"},
    "data": {"features": "S", "seq_len": 48, "batch_size": 1},
    "training": {"max_epochs": 900, "patience": 900},
}


def training(folder: Path, tag: str, config: dict, limit_s: float | None = None) -> str:
    recipe = draw_recipe("series", 11)
    (folder / "series.csv").write_bytes(csv_of(recipe))
    task = task_of(recipe, str(folder / "series.csv")).model_dump(mode="json", exclude_defaults=True)
    (folder / f"{tag}.json").write_text(json.dumps({"task": task, **config}))
    flags = ["--config", str(folder / f"{tag}.json"), "--tag", tag, "--runs-dir", str(folder / "runs")]
    return json.dumps({"arguments": [*flags, "--no-pictures", "--device", "cpu"], "limit_s": limit_s})


def run_lines(project_root: Path, folder: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nas_system.train_many"],
        input="\n".join(lines) + "\n",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def val_mse(folder: Path, tag: str) -> float:
    return json.loads((folder / "runs" / tag / "metrics.json").read_text())["val_mse"]


def test_trainings_follow_one_another_whatever_becomes_of_them(
    project_root: Path, tmp_path: Path, run_cli
) -> None:
    lines = [
        training(tmp_path, "first", FAST),
        training(tmp_path, "wrong", FAST | {"model": {"family": "abacus"}}),
        json.dumps({"arguments": ["--tag", "nothing-else"]}),
        training(tmp_path, "endless", ENDLESS, limit_s=1.5),
        training(tmp_path, "last", FAST),
    ]
    done = run_lines(project_root, tmp_path, lines)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["exit_code"] for answer in answers] == [0, 2, 2, 5, 0]
    assert [answer["timed_out"] for answer in answers] == [False, False, False, True, False]
    assert not list(tmp_path.glob("runs/*/*.png"))
    assert "val_mse" in (tmp_path / "runs" / "first" / "train.log").read_text()
    # Alone, and after others in one process: the same number.
    flags = json.loads(lines[0])["arguments"]
    flags[flags.index("first")] = "alone"
    assert run_cli("nas_system.train", *flags, cwd=tmp_path).returncode == 0
    assert val_mse(tmp_path, "first") == val_mse(tmp_path, "last") == val_mse(tmp_path, "alone")


def test_a_line_that_is_no_training_ends_it_with_a_word(project_root: Path, tmp_path: Path) -> None:
    for line in ("nonsense", '{"arguments": "--tag x"}', '{"arguments": [], "limit_s": -1}'):
        done = run_lines(project_root, tmp_path, [line])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
