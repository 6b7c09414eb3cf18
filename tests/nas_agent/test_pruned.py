"""A training that the search stopped early: its record, and the outcome made from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.nas_agent.pruned import Pruned, epochs_saved, read_pruned, write_pruned
from nas_system.processes.run_files import RunPaths

STOPPED = Pruned(
    rule="margin",
    rung="1/2",
    epoch=4,
    planned_epochs=8,
    direction="minimize",
    score=0.0612,
    threshold=0.055,
    reference=0.05,
    against="run_0007",
    margin=0.1,
    compared=9,
)


def ended(run_dir: Path, metrics: dict[str, Any] | None = None, **fields: Any) -> Path:
    end = {"schema": 1, "attempt": 1, "ended": "stop_request", "returncode": 5, "signal": None, "wall_s": 3.5}
    (run_dir / "exit.json").write_text(json.dumps({**end, **fields}))
    if metrics is not None:
        (run_dir / "metrics.json").write_text(json.dumps(metrics))
    return run_dir


def test_a_stop_with_its_evidence_on_record_is_pruned_and_has_no_score(tmp_path: Path) -> None:
    write_pruned(tmp_path, STOPPED, attempt=1)
    outcome = read_outcome(ended(tmp_path, metrics={"val_mse": 0.0612, "reason": "stopped"}))
    assert outcome.status is Status.PRUNED
    cause = "stopped early at epoch 4 of 8 at val_mse 0.061200, 22 % above run_0007 (rule margin)"
    assert outcome.cause == outcome.cause_and_numbers == cause
    assert (outcome.val_score, outcome.test_score) == (None, None)
    assert outcome.pruned == STOPPED
    assert not outcome.came_from_outside, "no other attempt is due"
    assert epochs_saved(outcome.cause) == 4


@pytest.mark.parametrize(
    ("fields", "metrics", "status"),
    [
        ({"returncode": 0}, {"val_mse": 0.04}, Status.OK),  # it had ended before the request reached it
        ({"ended": "exited", "returncode": 0}, {"val_mse": 0.04}, Status.OK),
        ({"ended": "exited", "returncode": 3}, None, Status.DIVERGED),
        ({"ended": "exited", "returncode": 5}, None, Status.STOPPED),  # somebody else's signal
        ({"ended": "time_limit", "returncode": None, "signal": 9}, None, Status.TIMEOUT),
        ({"attempt": 2}, None, Status.STOPPED),  # the evidence is about an earlier attempt
        ({"returncode": None, "signal": 9}, None, Status.PRUNED),  # it did not obey, and was killed
    ],
)
def test_only_a_stop_on_request_of_that_attempt_is_pruned(
    tmp_path: Path, fields: dict[str, Any], metrics: dict[str, float] | None, status: Status
) -> None:
    write_pruned(tmp_path, STOPPED, attempt=1)
    outcome = read_outcome(ended(tmp_path, metrics, **fields))
    assert outcome.status is status
    assert (outcome.pruned is not None) == (status is Status.PRUNED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": 2},
        {"schema": None},
        {"attempt": "1"},
        {"rule": "x" * 50},
        {"rule": None},
        {"rung": "0/4"},
        {"rung": 0.25},
        {"epoch": True},
        {"epoch": 0},
        {"planned_epochs": 10**9},
        {"direction": "sideways"},
        {"score": None},
        {"score": "0.06"},
        {"threshold": 1e301},
        {"against": "../run_0001"},
        {"against": 7},
        {"margin": []},
    ],
)
def test_an_invalid_record_is_no_evidence(tmp_path: Path, wrong: dict[str, Any]) -> None:
    record = STOPPED.to_json(1) | wrong
    RunPaths(tmp_path).pruned.write_text(json.dumps(record))
    assert read_pruned(tmp_path, 1) is None
    assert read_outcome(ended(tmp_path)).status is Status.STOPPED


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_pruned(tmp_path, STOPPED, attempt=3)
    assert read_pruned(tmp_path, 3) == STOPPED
    assert read_pruned(tmp_path, 1) is None
    RunPaths(tmp_path).pruned.write_text('{"schema": 1,')
    assert read_pruned(tmp_path, 3) is None


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (
            {"against": None, "rule": "median", "reference": 0.055, "margin": 0.0},
            "stopped early at epoch 4 of 8 at val_mse 0.061200, 11 % above the median of 9 runs "
            "(rule median)",
        ),
        (
            {"direction": "maximize", "score": 0.62, "reference": 0.83},
            "stopped early at epoch 4 of 8 at val_mse 0.620000, 0.210000 below run_0007 (rule margin)",
        ),
        (
            {"score": 5e12},
            "stopped early at epoch 4 of 8 at val_mse 5e+12, 5e+12 above run_0007 (rule margin)",
        ),
    ],
)
def test_the_cause_names_epoch_score_distance_and_rule(changes: dict[str, Any], cause: str) -> None:
    assert replace(STOPPED, **changes).cause("val_mse") == cause


@pytest.mark.parametrize("cause", [None, "", "stopped on request", "was stopped early at epoch 4 of 8 at"])
def test_no_other_cause_counts_as_saved_epochs(cause: str | None) -> None:
    assert epochs_saved(cause) == 0
