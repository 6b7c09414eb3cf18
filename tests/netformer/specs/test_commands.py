"""The three commands as a user starts them: real trainings, a kill in the middle, a learned model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_system.files import write_json
from nas_system.netformer.specs.archive.archive_file import read_archive
from nas_system.space import RunConfig

MODULE = "nas_system.netformer"
PLAN = ("--tasks", "1", "--configs", "4", "--shared", "0", "--seed", "5", "--time-limit", "3")


@pytest.fixture(scope="module")
def model(tiny_archive_file: Path, run_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    flags = ("--archive", tiny_archive_file, "--out", folder / "m.weights", "--members", "2")
    done = run_cli(MODULE, "fit", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "learned from 51 trainings on 3 tasks" in done.stdout
    return folder / "m.weights"


def propose(run_cli: Any, folder: Path, *flags: Any) -> dict:
    done = run_cli(MODULE, "propose", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_proposals_are_valid_ranked_and_the_same_in_another_process(
    model: Path, facts: Path, run_cli: Any, tmp_path: Path
) -> None:
    flags = ("--model", model, "--facts", facts, "--count", "25")
    first, again = (propose(run_cli, tmp_path, *flags, "--seed", "7") for _ in range(2))
    assert first["proposals"] == again["proposals"]
    assert [entry["rank"] for entry in first["proposals"]] == list(range(1, 26))
    task, longest = (json.loads(facts.read_text())[name] for name in ("task", "max_seq_len"))
    for entry in first["proposals"]:
        config = RunConfig.model_validate({"task": task, **entry["config"]})
        assert config.data.seq_len <= longest and entry["expected_val_mse"] > 0
    assert first["proposals"][0]["relative"] == min(entry["relative"] for entry in first["proposals"])
    # The tiny archive likes two families, and no others.
    families = [entry["config"]["model"]["family"] for entry in first["proposals"][:5]]
    assert sum(family in ("linear", "gru") for family in families) >= 4, families
    other = propose(run_cli, tmp_path, *flags[:4], "--count", "5", "--seed", "8")["proposals"]
    assert [entry["config"] for entry in other] != [entry["config"] for entry in first["proposals"][:5]]


def test_what_is_no_model_is_refused(model: Path, run_cli: Any, tmp_path: Path) -> None:
    content = torch.load(model, weights_only=True)
    torch.save({"schema_version": content["schema_version"]}, tmp_path / "foreign.weights")
    torch.save(content | {"vocabulary": {"tokens": [1]}}, tmp_path / "wrong.weights")
    (tmp_path / "truncated.weights").write_bytes(model.read_bytes()[:-100])
    for name, word in (
        ("foreign", "not a model"),
        ("wrong", "not a model"),
        ("truncated", "checkpoint"),
        ("missing", "no checkpoint"),
    ):
        done = run_cli(MODULE, "propose", "--check", "--model", f"{name}.weights", cwd=tmp_path)
        assert done.returncode == 2 and word in done.stderr and done.stderr.startswith("error: ")


def test_other_tasks_and_incomplete_facts_are_refused(
    model: Path, facts: Path, run_cli: Any, tmp_path: Path
) -> None:
    found = json.loads(facts.read_text())
    write_json(tmp_path / "graphs.json", found | {"task": {"name": "graph_regression"}})
    write_json(tmp_path / "incomplete.json", {"task": found["task"]})
    for name, word in (
        ("graphs", "forecasting"),
        ("incomplete", "not the facts"),
        ("missing", "not the facts"),
    ):
        flags = ("--model", model, "--facts", f"{name}.json")
        done = run_cli(MODULE, "propose", *flags, cwd=tmp_path)
        assert done.returncode == 2 and word in done.stderr, done.stderr


def test_an_archive_is_made_of_real_trainings_and_goes_on_after_a_kill(
    project_root: Path, run_cli: Any, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", MODULE, "archive", "--out", "a.gz", "--work", "work", *PLAN]
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    results = tmp_path / "work" / "results.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not results.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = results.read_bytes()
    done_before = before.count(b'"kind"')
    assert 1 <= done_before < 4
    results.write_bytes(before + b'\n{"kind": "row", "task": "tr')  # truncated by the kill
    done = run_cli(MODULE, *command[3:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" train_00 ") == 4 - done_before
    archive = read_archive(tmp_path / "a.gz")
    (task,) = archive.tasks.values()
    assert len(archive.rows) == 4 and len(task.features) == 30
    assert all(row.score is None or 0 < row.score < 100 for row in archive.rows)
    assert sum(row.status == "OK" for row in archive.rows) >= 3
    assert "archive --out a.gz" in archive.made_by


def test_unknown_commands_and_flags_are_one_line_of_error(run_cli: Any, tmp_path: Path) -> None:
    for words in ((), ("abracadabra",), ("archive", "--tasks", "many"), ("propose", "--count", "0")):
        done = run_cli(MODULE, *words, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout
