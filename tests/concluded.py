"""A search that has ended with a conclusion, on disk and without a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from builders import SOURCE, run_info, task_info

from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.selection.conclusion import Conclusion, conclude
from nas_agent_graph.selection.noise import SeedNoise
from nas_agent_graph.selection.record import to_record
from nas_system.config_io.config_file import write_config
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import (
    AgentState,
    RepeatInfo,
    TaskConfig,
    add_repeat,
    add_run,
    save_agent_state,
    with_leader,
)
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.task_info import TaskInfo

BASELINES = [
    {"name": "nlinear-336", "val_mse": 0.0504, "test_mse": 0.0262, "hold_out_mse": 0.0291},
    {"name": "last-value", "val_mse": 0.0696, "test_mse": 0.0343, "hold_out_mse": 0.0391},
]
SCORES = {
    # run: family, its own score, then (seed, purpose, score) of its repeats.
    0: ("informer", 0.0600, ((43, "base", 0.0612), (44, "base", 0.0597))),
    1: ("linear", 0.0506, ()),
    2: ("gru", 0.0491, ((43, "challenge", 0.0503), (44, "final", 0.0499), (45, "final", 0.0501))),
    3: ("tcn", 0.0496, ((43, "final", 0.0512), (44, "final", 0.0505))),
    4: ("tide", 0.0499, ((43, "final", 0.0520),)),
    5: ("lstm", 0.0560, ()),
}
FINAL_AFTER = 7
WINDOWS = 400


def ended_state(task: TaskConfig | None = None, mirror: float | None = None) -> AgentState:
    """Return a search of seven runs, one of them without a score, whose final has ended.

    With `mirror` every score s is `mirror` - s, for a metric that is maximised.
    """
    state = AgentState(leads_by="mean", max_runs=FINAL_AFTER, task=task or ForecastingTask(), data=SOURCE)
    for number, (family, score, _) in SCORES.items():
        parent = "run_0000" if number else None
        state = add_run(
            state,
            run_info(number, score, family=family, accepted=number < 3, proposer="tpe", parent=parent),
        )
    state = add_run(state, run_info(6, None, status="OOM_GPU", cause="24 GiB are too little"))
    for number, (_, _, repeats) in SCORES.items():
        for seed, purpose, score in repeats:
            after = FINAL_AFTER if purpose == "final" else number
            repeat = RepeatInfo(
                run_id=f"run_{number:04d}",
                seed=seed,
                purpose=purpose,
                after=after,
                ended_after=after,
                val_score=score,
                seconds=9.5,
            )
            state = add_repeat(state, repeat)
    state = state.replace(hold_out={"run_0002": 0.0302})
    return state if mirror is None else with_leader(_mirrored(state, mirror))


def _mirrored(state: AgentState, mirror: float) -> AgentState:
    def turned(score: float | None) -> float | None:
        return None if score is None else mirror - score

    runs = [run.model_copy(update={"val_score": turned(run.val_score)}) for run in state.runs]
    repeats = [one.model_copy(update={"val_score": turned(one.val_score)}) for one in state.repeats]
    return state.replace(runs=tuple(runs), repeats=tuple(repeats))


def baselines_info() -> TaskInfo:
    """Return the facts of the search's series."""
    return task_info(BASELINES)


def conclusion_of_ended(state: AgentState, windows: int = WINDOWS) -> Conclusion:
    """Conclude the search from made-up losses on so many validation windows, in blocks of 24."""
    hours = np.arange(windows)
    common = 0.02 * (1 + np.sin(hours / 7.0))

    def losses(score: float, number: int) -> np.ndarray:
        own = np.sin(hours * (number + 2) / 5.0) * 0.008
        return common + own + score - float((common + own).mean())

    candidates = candidates_of(state)
    errors = {one.run_id: losses(one.mean, int(one.run_id.removeprefix("run_"))) for one in candidates}
    if state.direction == "maximize":
        return _concluded(candidates, errors, {}, {})
    known = {str(row["name"]): float(row["val_mse"]) for row in BASELINES}
    baselines = {name: losses(score, place) for place, (name, score) in enumerate(known.items(), 8)}
    found = _concluded(candidates, errors, baselines, known)
    return found.with_hold_out(0.0302, 0.0302 + 0.01 * np.sin(hours / 3.0), 24)


def _concluded(candidates: Any, errors: Any, baselines: Any, known: dict[str, float]) -> Conclusion:
    found = conclude(candidates, SeedNoise.of(candidates), errors, baselines, known, 24)
    assert found is not None
    return found


def write_conclusion(workspace: Path, state: AgentState, conclusion: Conclusion) -> None:
    """Write `runs/conclusion.json` as a search does at its end."""
    record = {"runs": len(state.runs), "repeats": len(state.repeats)}
    write_json(workspace / "runs" / "conclusion.json", {**record, **to_record(conclusion)})


def write_ended_search(workspace: Path, windows: int = WINDOWS) -> AgentState:
    """Write the search, its run folders and its conclusion."""
    state = ended_state()
    for run in state.runs:
        paths = RunPaths(workspace / "runs" / run.run_id)
        paths.folder.mkdir(parents=True)
        write_config(paths.config, RunConfig())
        write_json(paths.proposal, {"proposer": run.proposer, "parent": run.parent, "changes": []})
        scores = [0.05 + math.exp(-epoch / 4) / 50 for epoch in range(12)]
        epochs = [{"epoch": epoch, "train_mse": 0.9 * s, "val_mse": s} for epoch, s in enumerate(scores)]
        write_json(paths.history, {"best_epoch": 11, "epochs": epochs})
    for repeat in state.repeats:
        (workspace / "runs" / repeat.training_id).mkdir(parents=True)
    write_json(workspace / "runs/task_facts.json", baselines_info().to_json())
    write_conclusion(workspace, state, conclusion_of_ended(state, windows))
    save_agent_state(state, workspace / "agent_state.json")
    return state
