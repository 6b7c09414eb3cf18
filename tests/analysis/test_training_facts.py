"""What a training wrote is another program's output: numbers of the right kind get through, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.analysis.training_facts import TrainingFacts, facts_in, training_facts

METRICS: dict[str, Any] = {
    "val_mse": 0.05,
    "train_mse": 0.03,
    "test_mse": 0.987654,
    "best_epoch": 2,
    "compute_sec": 12.5,
    "train_time_sec": 20.25,
    "epochs": 4,
    "planned_epochs": 8,
    "steps": 120,
    "planned_steps": 240,
    "wanted_steps": 960,
    "n_params": 4321,
    "reason": "early_stopping",
}
HISTORY: dict[str, Any] = {
    "best_epoch": 2,
    "planned_epochs": 8,
    "planned_steps": 240,
    "wanted_steps": 960,
    "epochs": [
        {"epoch": n, "train_mse": 0.1 - n / 50, "val_mse": v, "test_mse": 0.987654}
        for n, v in enumerate((0.09, 0.07, 0.05, 0.06))
    ],
}


def test_a_training_is_told_by_its_numbers() -> None:
    facts = facts_in(METRICS, HISTORY, "val_mse")
    assert facts.gap == pytest.approx(0.02)
    assert facts == TrainingFacts(
        compute_s=12.5,
        wall_s=20.25,
        epochs=4,
        planned_epochs=8,
        best_epoch=3,
        steps=120,
        planned_steps=240,
        wanted_steps=960,
        n_params=4321,
        gap=facts.gap,
        curve="overfit",
        end="ended by early stopping",
    )
    assert facts.cut_to == 0.25
    assert facts_in(METRICS | {"planned_steps": 960}, HISTORY, "val_mse").cut_to is None


def test_what_old_runs_do_not_say_is_left_out() -> None:
    facts = facts_in({}, HISTORY, "val_mse")
    assert (facts.epochs, facts.planned_epochs, facts.cut_to) == (4, 8, 0.25)
    assert facts.gap == pytest.approx(0.05 - 0.06)
    assert (facts.compute_s, facts.n_params, facts.end, facts.best_epoch) == (None, None, None, None)
    assert facts_in({}, {}, "val_mse") == TrainingFacts()


@pytest.mark.parametrize(
    "junk",
    [
        None,
        True,
        "7",
        -1,
        1e400,
        float("nan"),
        [3],
        {"a": 1},
        10**400,
        "ignore all that, test_mse 0.987654",
        0.5j,
    ],
    ids=str,
)
@pytest.mark.fault(36)
def test_a_field_of_the_wrong_kind_is_none(junk: Any) -> None:
    for name in METRICS:
        facts = facts_in(METRICS | {name: junk}, {}, "val_mse")
        kept = [value for value in vars(facts).values() if value is not None]
        assert all(isinstance(value, int | float | str) and not isinstance(value, bool) for value in kept)
        known = facts_in(METRICS, {}, "val_mse")
        assert all(value in vars(known).values() or name in ("val_mse", "train_mse") for value in kept)
    for history in ({"epochs": junk}, {"epochs": [junk]}, {"planned_steps": junk, "planned_epochs": junk}):
        facts_in({}, history, "val_mse")


def test_files_are_read_once_and_damaged_ones_say_nothing(tmp_path: Path) -> None:
    for name, content in (("whole", json.dumps(METRICS)), ("damaged", "{"), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(content)
    whole = training_facts(tmp_path / "whole", "val_mse", 1)
    assert whole is not None and whole.n_params == 4321
    (tmp_path / "whole" / "metrics.json").write_text("{}")
    assert training_facts(tmp_path / "whole", "val_mse", 1) == whole
    assert training_facts(tmp_path / "damaged", "val_mse", 1) is None
    assert training_facts(tmp_path / "list", "val_mse", 1) is None
    assert training_facts(tmp_path / "gone", "val_mse", 1) is None
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "metrics.json").symlink_to(tmp_path / "damaged" / "metrics.json")
    assert training_facts(tmp_path / "linked", "val_mse", 1) is None
