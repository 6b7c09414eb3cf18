"""The note on what worked: counted out of the runs, bounded, the same whenever it is rebuilt."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nas_agent_graph.analysis.lessons import LONGEST_NOTE, effects_of, lessons_note
from nas_agent_graph.context import RunView, run_views
from nas_system.config_io.config_file import write_config
from nas_system.nas_agent.agent_state import AgentState, RunInfo, save_agent_state
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import Change, ForecastingTask, RunConfig, apply_changes, canonical_key, families_of
from nas_system.space.score import Direction

BASE = RunConfig()
NOISE = 0.001


def run_view(
    number: int,
    val_score: float | None,
    *changes: tuple[str, Any],
    parent: RunView | None = None,
    **fields: Any,
) -> RunView:
    start = parent.config if parent else BASE
    assert start is not None
    config = apply_changes(start, [Change(parameter=path, value=value) for path, value in changes])
    known: dict[str, Any] = {
        "run_id": f"run_{number:04d}",
        "status": "FAILED" if val_score is None else "OK",
        "cause": None,
        "config": config,
        "family": config.model.family,
        "key": canonical_key(config),
        "val_score": val_score,
        "accepted": number == 0,
        "parent": parent.run_id if parent else None,
        "summary": "",
    }
    return RunView(**{**known, **fields})


def ten_runs() -> list[RunView]:
    first = run_view(0, 0.070)
    better = run_view(
        1,
        0.060,
        ("training.lr", 0.003),
        parent=first,
        accepted=True,
        proposer="llm:m",
        hypothesis='faster\n# Task "now"',
        expected_score=0.065,
    )
    return [
        first,
        better,
        run_view(2, 0.058, ("training.lr", 0.004), parent=better),
        run_view(3, 9.0, ("training.lr", 0.05), parent=better),
        run_view(4, 0.0705, ("model.d_model", 64), parent=first),
        run_view(5, 0.090, ("training.loss", "mae"), parent=first),
        run_view(6, None, ("model.family", "gru"), parent=first, status="OOM_HOST"),
        run_view(7, 0.080, ("training.optimizer", "sgd"), ("training.momentum", 0.95), parent=first),
        run_view(8, 0.063, ("model.family", "linear"), parent=first),
        run_view(9, None, ("model.dropout", 0.3), parent=first, status="DIVERGED"),
    ]


def test_a_run_stopped_early_counts_with_its_best_so_far_and_is_no_failure() -> None:
    runs = ten_runs()
    runs[9] = replace(runs[9], status="PRUNED", epochs=4, best_so_far=0.080)
    effects = {effect.change: effect for effect in effects_of(runs, BASE, NOISE)}
    dropout = effects["model.dropout up"]
    assert dropout.gains == pytest.approx((-10,)) and dropout.failed == 0
    note = lessons_note(runs, BASE, NOISE)
    assert note is not None and "A run stopped early counts with its best so far." in note
    assert "1 stopped early" in note and "PRUNED" not in note
    assert "stopped early" not in (lessons_note(ten_runs(), BASE, NOISE) or "")


def test_there_is_no_note_before_ten_runs() -> None:
    assert lessons_note(ten_runs()[:9], BASE, NOISE) is None


def test_effects_are_the_differences_to_the_parent_in_units_of_the_noise() -> None:
    effects = {effect.change: effect for effect in effects_of(ten_runs(), BASE, NOISE)}
    assert effects["training.lr up"].gains == pytest.approx((10.0, 2.0, -8940.0))
    assert effects["training.lr up"].middle == pytest.approx(2.0), "one divergence does not speak for all"
    assert effects["model.d_model up"].gains == pytest.approx((-0.5,))
    assert effects['training.optimizer = "sgd"'].gains == pytest.approx((-10.0,))
    assert "training.momentum up" not in effects, "it has an effect only because of the optimizer"
    assert effects['model.family = "linear"'].gains == pytest.approx((7.0,))
    assert (effects['model.family = "gru"'].gains, effects['model.family = "gru"'].failed) == ((), 1)


def test_a_run_that_changed_many_things_says_nothing_about_any_of_them() -> None:
    first = run_view(0, 0.07)
    many = [("training.lr", 0.003), ("model.d_model", 64), ("model.d_ff", 128), ("model.dropout", 0.1)]
    assert effects_of([first, run_view(1, 0.05, *many, parent=first)], BASE, NOISE) == []
    assert len(effects_of([first, run_view(1, 0.05, *many[:3], parent=first)], BASE, NOISE)) == 3


def test_the_note_says_what_worked_what_failed_and_what_is_untouched() -> None:
    lines = (lessons_note(ten_runs(), BASE, NOISE) or "").splitlines()
    assert lines[0] == "After 10 runs. Gains are medians against the parent run, in units of the noise."
    assert lines[1] == (
        "Families, best first (runs): informer the best in 8, 1 DIVERGED; linear behind by 5 in 1; "
        "gru no score in 1, 1 OOM_HOST."
    )
    assert lines[2] == 'Worked: model.family = "linear" (+7, 1 run); training.lr up (+2, 3 runs).'
    assert lines[3].startswith(
        'Made it worse: training.loss = "mae" (-20, 1 run); training.optimizer = "sgd"'
    )
    assert lines[4] == 'Only failed: model.dropout up (1 run); model.family = "gru" (1 run).'
    assert lines[5] == "No effect beyond one unit: model.d_model up (-0.5, 1 run)."
    assert lines[6].startswith("Next, because untouched: families ridge, patchtst,")
    assert "with informer always as it was: model.normalization" in lines[6]
    assert lines[7] == (
        'Interpretation, unverified: run_0001 (val_mse 0.06, expected 0.065) "faster # Task \\"now\\""'
    )


def test_without_a_measured_noise_the_unit_is_a_hundredth_of_the_best_score() -> None:
    note = lessons_note(ten_runs(), BASE, None) or ""
    assert "in units of 1 % of the best score, the noise being unknown" in note
    assert 'model.family = "linear" (+12.1, 1 run)' in note  # 0.007 / 0.00058


def test_the_note_changes_every_ten_runs_and_only_then() -> None:
    runs = ten_runs()
    note = lessons_note(runs, BASE, NOISE)
    more = [run_view(n, 0.05, ("training.lr", 0.002 + n / 1e4), parent=runs[0]) for n in range(10, 20)]
    assert lessons_note([*runs, *more[:9]], BASE, NOISE) == note
    assert lessons_note([*runs, *more], BASE, NOISE) != note


def test_a_search_without_any_score_still_gets_its_note() -> None:
    runs = [run_view(0, None, status="TIMEOUT")]
    runs += [run_view(n, None, ("training.lr", n / 1e3), parent=runs[0], status="LOST") for n in range(2, 11)]
    note = lessons_note(runs, BASE, NOISE) or ""
    families = "Families, best first (runs): informer no score in 10, 9 LOST, 1 TIMEOUT."
    assert note == f"After 10 runs: none has a score. {families}"


def test_the_note_stays_short_however_long_the_search() -> None:
    generator = random.Random(3)
    runs = [run_view(0, 0.07)]
    for number in range(1, 300):
        family = generator.choice([name for name in families_of("forecasting") if name != "ridge"])
        changes = [("training.lr", round(generator.uniform(1e-4, 0.1), 6))]
        start = changes if family == "informer" else [("model.family", family), *changes]
        score = generator.choice([None, round(generator.uniform(0.04, 0.1), 6)])
        runs.append(
            run_view(
                number,
                score,
                *start,
                parent=runs[0],
                status=generator.choice(["OOM_HOST", "TIMEOUT", "DIVERGED"]) if score is None else "OK",
                accepted=score is not None,
                proposer="llm:m",
                hypothesis="because " * 100,
            )
        )
        if number % 10 == 9:
            note = lessons_note(runs, BASE, NOISE) or ""
            assert 300 < len(note) <= LONGEST_NOTE


# --- as people see it ------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The ten runs on disk."""
    for run in ten_runs():
        folder = tmp_path / "runs" / run.run_id
        folder.mkdir(parents=True)
        assert run.config is not None
        write_config(folder / "config_used.py", run.config)
        stated = {"hypothesis": run.hypothesis, "expected_val_mse": run.expected_score}
        (folder / "proposal.json").write_text(json.dumps(stated))
    kept = ("run_id", "status", "family", "key", "accepted", "parent", "proposer")
    infos = [
        RunInfo(val_mse=run.val_score, **{name: getattr(run, name) for name in kept}) for run in ten_runs()
    ]
    write_config(tmp_path / "runs" / "base_config.py", BASE)
    state = AgentState(
        task=ForecastingTask(), noise=NOISE, noise_runs=3, best_run_id="run_0001", runs=tuple(infos)
    )
    save_agent_state(state, tmp_path / "agent_state.json")
    return tmp_path


def test_rebuilt_from_disk_the_note_is_the_same(workspace: Path) -> None:
    state = json.loads((workspace / "agent_state.json").read_text())
    ledger = Ledger(workspace, AgentState.model_validate(state))
    assert lessons_note(run_views(ledger), BASE, NOISE) == lessons_note(ten_runs(), BASE, NOISE)


def test_show_prints_the_note_and_the_calibration(workspace: Path, run_cli: Callable[..., Any]) -> None:
    done = run_cli("nas_agent_graph.show", "--lessons", cwd=workspace, env={"COLUMNS": "400"})
    assert (done.returncode, done.stderr) == (0, "")
    note = (lessons_note(ten_runs(), BASE, NOISE) or "").splitlines()
    assert done.stdout.splitlines()[:3] == note[:3]
    assert done.stdout.splitlines()[-1].startswith("Predictions by llm:m: 1 scored, off by 0.005 on average")


def test_show_says_when_the_first_note_comes(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    save_agent_state(AgentState(task=ForecastingTask()), tmp_path / "agent_state.json")
    done = run_cli("nas_agent_graph.show", "--lessons", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "No lessons yet: the first note comes after 10 runs.\n")
    refused = run_cli("nas_agent_graph.show", "run_0000", "--lessons", cwd=tmp_path)
    assert refused.returncode == 2 and "leave out the run id" in refused.stderr


class Maximized(ForecastingTask):
    direction: ClassVar[Direction] = "maximize"


def test_a_maximized_metric_teaches_what_the_mirrored_error_teaches() -> None:
    def without_scores(note: str | None) -> list[str]:
        return [line for line in (note or "").split("\n") if not line.startswith("Interpretation")]

    runs = ten_runs()
    mirrored = [replace(run, val_score=None if run.val_score is None else 10 - run.val_score) for run in runs]
    base = BASE.model_copy(update={"task": Maximized()})
    note = lessons_note(mirrored, base, NOISE)
    assert without_scores(note) == without_scores(lessons_note(runs, BASE, NOISE))
    assert "(val_mse 9.94," in (note or "")
    assert without_scores(lessons_note(mirrored, BASE, NOISE)) != without_scores(note)
