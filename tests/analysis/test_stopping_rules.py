"""`benchmarks/stopping_rules.py`: what the rules save and lose on recorded curves."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.analysis.pruning import RULES, Curve, EndedRun

ROOT = Path(__file__).parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "stopping_rules.py"))
TASKS: list[Any] = [
    BENCHMARK["from_json"](record) for record in json.loads(BENCHMARK["RECORDED"].read_text())
]


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
@pytest.mark.parametrize("rule", RULES)
def test_on_no_recorded_task_a_rule_loses_the_best_run_often(task: Any, rule: str) -> None:
    orders = BENCHMARK["orders_of"](task, 100)
    results = [BENCHMARK["replayed"](task, rule, order) for order in orders]
    assert sum(result.lost for result in results) < 0.04 * len(orders)
    assert sum(result.epochs for result in results) < task.epochs * len(orders)


@pytest.mark.parametrize("rule", RULES)
def test_on_the_recorded_tasks_together_a_rule_saves_a_sixth_of_the_epochs(rule: str) -> None:
    saved = []
    for task in TASKS:
        results = [
            BENCHMARK["replayed"](task, rule, order).epochs for order in BENCHMARK["orders_of"](task, 100)
        ]
        saved.append(1 - sum(results) / len(results) / task.epochs)
    assert sum(saved) / len(saved) > 0.15


def test_a_stopped_training_costs_the_epochs_up_to_its_rung_and_a_lost_best_run_counts() -> None:
    def flat(number: int, score: float, epochs: int = 8) -> EndedRun:
        return EndedRun(f"run_{number:04d}", score, Curve((score,) * epochs, epochs))

    late = EndedRun("run_0006", 0.5, Curve((9.0,) * 7 + (0.5,), 8))
    runs = (*(flat(number, 1.0 + number / 1000) for number in range(6)), late)
    task = BENCHMARK["Task"]("made up", "val_mse", "minimize", runs)
    result = BENCHMARK["replayed"](task, "margin", runs)
    assert (result.epochs, result.stopped, result.lost) == (6 * 8 + 2, 1, True)
    assert result.regret == pytest.approx(1.0)
    first = BENCHMARK["replayed"](task, "margin", (runs[0], late, *runs[1:6]))
    assert (first.stopped, first.lost, first.regret) == (2, False, 0.0), "of the first five none is stopped"


def test_trainings_of_a_folder_are_read_and_make_a_row(tmp_path: Path) -> None:
    for number, score in enumerate((0.5, 0.7)):
        folder = tmp_path / f"search/runs/run_{number:04d}"
        folder.mkdir(parents=True)
        epochs = [{"val_accuracy": score - 0.1}, {"val_accuracy": score}]
        history = {"metric": "val_accuracy", "direction": "maximize", "planned_epochs": 2, "epochs": epochs}
        (folder / "history.json").write_text(json.dumps(history))
        (folder / "metrics.json").write_text(json.dumps({"val_accuracy": score, "reason": "completed"}))
    (tmp_path / "search/runs/run_0002").mkdir()  # begun, and not ended
    task = BENCHMARK["task_of_folder"](tmp_path / "search")
    assert (task.direction, [run.score for run in task.runs]) == ("maximize", [0.5, 0.7])
    assert BENCHMARK["from_json"](BENCHMARK["to_json"](task)) == task
    row = BENCHMARK["row_of"](task, "margin", BENCHMARK["orders_of"](task, 3))
    assert row == "| search |  | margin | 0 % | 0.0 % | 0.00 / 0.00 % | 0.0 of 2 |"
