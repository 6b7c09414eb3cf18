"""A run at several rolling origins: its files, its score, its limits, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_hourly

from nas_system.config_io.config_file import read_config, write_config
from nas_system.data import OpenTask, build_windows, open_task, synthetic_series
from nas_system.data.baselines.scoring import score_baselines
from nas_system.data.measures.closed_form import search_closed_form
from nas_system.data.measures.origins import sensible_origins
from nas_system.data.splits import most_origins
from nas_system.errors import ConfigError, Diverged, StoppedOnRequest
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask, RunConfig, family_default
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint
from nas_system.training_job import JobOptions, run_training

ORIGINS = 3
RunCli = Callable[..., Any]


def series_of(folder: Path) -> Path:
    """A file of 600 rows: validated on rows 180 to 270, 270 to 360 and 360 to 450."""
    return write_hourly(
        folder / "series.csv",
        600,
        load=lambda hour: 10 + hour % 24 + (hour * 37) % 11 + hour // 100,
        heat=lambda hour: hour % 7,
    )


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return config_of(tmp_path, ORIGINS)


def config_of(folder: Path, origins: int, family: str = "linear") -> RunConfig:
    task = ForecastingTask(dataset=str(series_of(folder)), targets=("load",), pred_len=4, origins=origins)
    base = family_default(family)
    data = base.data.model_copy(update={"seq_len": 24, "batch_size": 32})
    training = base.training.model_copy(update={"max_epochs": 4, "max_steps": None, "patience": 4})
    return base.model_copy(update={"task": task, "data": data, "training": training})


def train(config: RunConfig, folder: Path, **options: Any) -> dict[str, Any]:
    """Train in this process; return metrics.json."""
    folder.mkdir(exist_ok=True)
    paths = RunPaths(folder)
    write_config(paths.config, config)
    given = {"time_limit_s": None, "resume": False, "facts": None, "data_dir": None, "stop": lambda: None}
    run_training(
        config, paths, JobOptions(**({"tag": folder.name, "device": "cpu", "threads": 1} | given | options))
    )
    return json.loads(paths.metrics.read_text())


class After:
    """Does something after so many steps."""

    def __init__(self, steps: int, action: Callable[[], None]) -> None:
        self.left, self.action = steps, action

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def stop() -> None:
    raise StoppedOnRequest("asked to")


def same_weights(one: Path, other: Path) -> bool:
    left, right = load_checkpoint(one)["model"], load_checkpoint(other)["model"]
    return all(torch.equal(value, right[name]) for name, value in left.items())


# --- the score ------------------------------------------------------------------------------


def test_the_score_is_the_mean_over_the_origins_and_everything_else_that_of_the_last(
    config: RunConfig, tmp_path: Path
) -> None:
    several = train(config, tmp_path / "several")
    single = train(config_of(tmp_path, 1), tmp_path / "single")
    by_origin = several["val_mse_by_origin"]
    assert len(by_origin) == ORIGINS and len(set(by_origin)) == ORIGINS
    assert several["val_mse"] == several["val_score"] == pytest.approx(fmean(by_origin))
    assert by_origin[-1] == single["val_mse"]
    for name in ("test_mse", "test_mae", "train_mse", "best_epoch", "epochs", "steps", "accuracy"):
        assert several[name] == single[name], name
    assert same_weights(tmp_path / "several" / "best_model.pth", tmp_path / "single" / "best_model.pth")
    histories = [json.loads((tmp_path / run / "history.json").read_text()) for run in ("several", "single")]
    assert histories[0].pop("origins") == ORIGINS
    for history in histories:
        for epoch in history["epochs"]:
            del epoch["seconds"]
    assert histories[0] == histories[1]


def test_a_single_origin_leaves_the_files_and_figures_that_it_always_left(tmp_path: Path) -> None:
    config = config_of(tmp_path, 1)
    metrics = train(config, tmp_path / "run", pictures="none")
    files = {"best_model.pth", "config_used.py", "history.json", "metrics.json", "val_errors.npy"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files
    assert not [name for name in metrics if "origin" in name]
    assert "origins" not in (tmp_path / "run" / "config_used.py").read_text()
    assert "origins" not in config.task.model_dump() and "origins" not in config.task.model_dump_json()


def test_the_files_say_how_many_origins_there_were(config: RunConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run", pictures="none")
    files = {"best_model.pth", "origin_1.pth", "origin_2.pth", "config_used.py", "history.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*files, "metrics.json", "val_errors.npy"}
    errors = np.load(tmp_path / "run" / "val_errors.npy")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert errors.mean(dtype=float) == pytest.approx(metrics["val_mse"], rel=1e-5)
    assert read_config(tmp_path / "run" / "config_used.py").task == config.task


@pytest.mark.parametrize("family", ["ridge", "lstm"])
def test_every_family_is_scored_by_models_of_the_earlier_rows(family: str, tmp_path: Path) -> None:
    config = config_of(tmp_path, 2, family)
    metrics = train(config, tmp_path / "run", pictures="none")
    data = open_task(config.forecasting)
    for origin, path in zip(data.origins(), ("origin_1.pth", "best_model.pth"), strict=True):
        stored = load_checkpoint(tmp_path / "run" / path)
        windows = build_windows(origin, config, splits=("val",))
        assert stored["scaler"] == windows.scaler.to_json()
    assert not same_weights(tmp_path / "run" / "origin_1.pth", tmp_path / "run" / "best_model.pth")
    assert metrics["val_mse"] == pytest.approx(fmean(metrics["val_mse_by_origin"]))


def test_a_look_back_that_the_earliest_origin_has_no_rows_for_is_refused_at_once(
    config: RunConfig, tmp_path: Path
) -> None:
    long = config.model_copy(update={"data": config.data.model_copy(update={"seq_len": 200})})
    with pytest.raises(ConfigError, match="there are 180; seq_len can be 176 at most"):
        train(long, tmp_path / "run")
    assert not (tmp_path / "run" / "history.json").exists()


# --- limits ---------------------------------------------------------------------------------


def test_the_origins_share_the_steps_of_a_run(config: RunConfig, tmp_path: Path) -> None:
    metrics = train(config, tmp_path / "run", pictures="none", max_steps=12)
    assert metrics["planned_steps"] == metrics["steps"] == 4
    assert [origin["steps"] for origin in metrics["earlier_origins"]] == [4, 4]
    free = train(config, tmp_path / "free", pictures="none")
    repeat = train(config, tmp_path / "repeat", pictures="none", max_steps=free["plan"]["most_steps"])
    assert repeat["planned_steps"] == free["planned_steps"] == free["steps"]
    assert repeat["val_mse"] == free["val_mse"]


def test_a_stop_file_ends_every_origin_after_as_many_steps(config: RunConfig, tmp_path: Path) -> None:
    request = tmp_path / "stop_run"
    with contextlib.chdir(tmp_path):
        metrics = train(config, tmp_path / "run", pictures="none", stop=After(3, request.touch))
    assert metrics["reason"] == "stop_file" and metrics["epochs"] == 1
    most = metrics["steps"]
    assert all(0 < origin["steps"] <= most for origin in metrics["earlier_origins"])
    assert not request.exists()
    with contextlib.chdir(tmp_path):
        late = train(config, tmp_path / "run", pictures="none", stop=After(60, request.touch))
    assert late["reason"] == "completed" and not request.exists()


def test_an_origin_that_diverges_leaves_a_run_without_a_score(config: RunConfig, tmp_path: Path) -> None:
    # In the first origin's validation part, and in the others' training part, which scales it.
    file = Path(config.task.dataset)
    lines = file.read_text().splitlines()
    lines[201] = lines[201].split(",")[0] + ",1e25,0"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(Diverged, match="origin 1 of 3: the validation score is inf"):
        train(config, tmp_path / "run", pictures="none")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["reason"] == "diverged" and metrics["val_mse"] is None


# --- interruptions --------------------------------------------------------------------------

STEPS_OF_LAST = 44
"""Four passes of eleven batches."""


@pytest.mark.parametrize("steps", [20, STEPS_OF_LAST + 7, STEPS_OF_LAST + 30])
def test_a_run_that_was_stopped_at_any_origin_ends_with_the_same_numbers(
    steps: int, config: RunConfig, tmp_path: Path
) -> None:
    whole = train(config, tmp_path / "whole", pictures="none")
    assert whole["steps"] == STEPS_OF_LAST
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "cut", pictures="none", stop=After(steps, stop))
    stopped = json.loads((tmp_path / "cut" / "metrics.json").read_text())
    assert stopped["reason"] == "stopped" and stopped["test_mse"] is None
    assert "val_mse_by_origin" not in stopped
    left = STEPS_OF_LAST - 11 if steps == 20 else 0
    steps_now = []
    resumed = train(config, tmp_path / "cut", pictures="none", resume=True, stop=lambda: steps_now.append(1))
    for name in ("val_mse", "test_mse", "val_mse_by_origin", "earlier_origins", "steps", "best_epoch"):
        assert resumed[name] == whole[name], name
    every = whole["steps"] + sum(origin["steps"] for origin in whole["earlier_origins"])
    assert left <= len(steps_now) < every - min(steps, STEPS_OF_LAST) + 11
    assert not (tmp_path / "cut" / "origins.json").exists()
    assert not (tmp_path / "cut" / "last.pth").exists()


def test_the_origins_of_another_training_are_not_taken_over(config: RunConfig, tmp_path: Path) -> None:
    other = config.model_copy(update={"seed": 7})
    with pytest.raises(StoppedOnRequest):
        train(other, tmp_path / "cut", pictures="none", stop=After(STEPS_OF_LAST + 30, stop))
    resumed = train(config, tmp_path / "cut", pictures="none", resume=True)
    whole = train(config, tmp_path / "whole", pictures="none")
    assert resumed["val_mse_by_origin"] == whole["val_mse_by_origin"]


# --- scored again, and next to baselines ----------------------------------------------------


def score_again(run_cli: RunCli, folder: Path) -> dict[str, Any]:
    done = run_cli("nas_system.score", "--part", "val", "--run", str(folder), "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["runs"][0]


def test_the_score_is_computed_again_from_the_weights_of_every_origin(
    config: RunConfig, tmp_path: Path, run_cli: RunCli
) -> None:
    metrics = train(config, tmp_path / "run", pictures="none")
    again = score_again(run_cli, tmp_path / "run")
    assert again["val_mse"] == pytest.approx(metrics["val_mse"], rel=1e-6)
    assert again["samples"] == ORIGINS * (90 - 4 + 1)
    weights = RunPaths(tmp_path / "run").origin(1)
    checkpoint = load_checkpoint(weights)
    changed = {name: 2 * value for name, value in checkpoint["model"].items()}
    save_checkpoint(weights, {**checkpoint, "model": changed})
    assert score_again(run_cli, tmp_path / "run")["val_mse"] > 1.01 * metrics["val_mse"]
    weights.unlink()
    assert score_again(run_cli, tmp_path / "run")["problem"].startswith(
        "origin_1.pth: there is no checkpoint"
    )


def test_baselines_and_closed_forms_are_scored_as_the_mean_over_the_same_origins(tmp_path: Path) -> None:
    task = config_of(tmp_path, ORIGINS).forecasting
    data, alone = open_task(task), task.model_copy(update={"origins": 1})
    rows = {row.name: row for row in score_baselines(data)}
    single = {row.name: row for row in score_baselines(open_task(alone))}
    assert rows.keys() == single.keys()
    at_each = []
    for origin in data.origins():
        part = type(origin)(alone, origin.series, origin.split, origin.scaler)
        at_each.append({row.name: row.scores["val_mse"] for row in score_baselines(part, ("val",))})
    for name in ("last-value", "drift", "seasonal-24"):
        expected = fmean(scores[name] for scores in at_each)
        assert rows[name].scores["val_mse"] == pytest.approx(expected)
        assert rows[name].scores["test_mse"] == single[name].scores["test_mse"]
    best = search_closed_form(data)[0]
    forms = [form for form in search_closed_form(open_task(alone)) if form.seq_len == best.seq_len]
    assert best.val_mse not in [form.val_mse for form in forms]


# --- how many, where nobody says --------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "pred_len", "expected"),
    [(144, 12, 2), (240, 13, 2), (240, 12, 1), (600, 31, 2), (600, 30, 1), (3000, 151, 2), (3001, 151, 1)],
)
def test_a_short_series_with_few_horizons_to_validate_on_gets_a_second_origin(
    rows: int, pred_len: int, expected: int
) -> None:
    assert sensible_origins(opened(rows, pred_len)) == expected


def test_etth1_and_what_is_as_long_keep_one_validation_part() -> None:
    task = ForecastingTask(dataset="synthetic", pred_len=720)
    assert sensible_origins(OpenTask.of_series(task, synthetic_series())) == 1


def test_where_the_earlier_origin_has_nothing_to_learn_from_there_is_only_one() -> None:
    data = opened(240, 13)
    assert sensible_origins(data) == 2
    flat = data.series.values.copy()
    flat[:108] = 5.0
    assert sensible_origins(OpenTask.of_series(data.task, replace(data.series, values=flat))) == 1
    no_rows_before = opened(240, 24, split=(0.3, 0.3, 0.3))
    assert most_origins(no_rows_before.split, 24) == sensible_origins(no_rows_before) == 1


def opened(rows: int, pred_len: int, **fields: Any) -> OpenTask:
    task = ForecastingTask(dataset="own.csv", pred_len=pred_len, **fields)
    return OpenTask.of_series(task, synthetic_series(rows))


# --- in a search ----------------------------------------------------------------------------

BASE = """
model: {family: linear}
data: {features: MS, seq_len: 24, batch_size: 32}
training: {lr: 0.01, max_epochs: 2, patience: 2}
"""


def test_a_search_ranks_its_runs_by_the_mean_over_the_origins(tmp_path: Path, run_cli: RunCli) -> None:
    series_of(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    task = ("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml")
    rest = ("--repeat-base", "0", "--proposer", "random_search", "--max-runs", "1")

    def search(*flags: str) -> Any:
        return run_cli("nas_agent_graph.run", *task, *rest, *flags, cwd=tmp_path)

    done = search("--origins", "2")
    assert done.returncode == 0, done.stderr
    assert "each configuration is trained 2 times: its score is the mean over 2 origins" in done.stdout
    run = tmp_path / "runs" / "run_0000"
    metrics = json.loads((run / "metrics.json").read_text())
    state = json.loads((tmp_path / "agent_state.json").read_text())
    assert state["task"]["origins"] == 2
    assert state["runs"][0]["val_score"] == metrics["val_mse"]
    assert metrics["val_mse"] == pytest.approx(fmean(metrics["val_mse_by_origin"]))
    # It leads, so the agent has computed the same from the weights of both origins, which it has kept.
    (verified,) = json.loads((run / "verdict.json").read_text())["verified"]
    assert verified["problem"] is None and verified["val_score"] == pytest.approx(metrics["val_mse"])
    assert (run / "origin_1.pth").is_file() and not (run / "work").exists()
    facts = json.loads((tmp_path / "runs" / "task_facts.json").read_text())
    assert facts["max_seq_len"] == 270 - 4
    assert facts["measured"]["origins"][0] == {"train": [0, 270], "val": [270, 360]}

    for flags in ((), ("--origins", "auto"), ("--origins", "2")):
        again = search(*flags)
        assert again.returncode == 0, again.stderr
        assert "all 1 runs are done" in again.stdout and "is trained 2 times" not in again.stdout
    other = search("--origins", "3")
    assert other.returncode == 2 and "origins is 2, not 3" in other.stderr


def test_describe_shows_the_origins_and_refuses_what_the_rows_do_not_allow(
    tmp_path: Path, run_cli: RunCli
) -> None:
    series_of(tmp_path)
    task = ("--dataset", "series.csv", "--target", "load", "--pred-len", "4")
    done = run_cli("nas_system.describe", *task, "--origins", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "origin 1  trained on rows 0 to 180, validated on 180 to 270" in done.stdout
    assert "origin 3  trained on rows 0 to 360, validated on 360 to 450" in done.stdout
    many = run_cli("nas_system.describe", *task, "--origins", "5", cwd=tmp_path)
    assert many.returncode == 2 and "leave room for 4; lower --origins" in many.stderr
    for wrong in ("0", "-1", "some"):
        refused = run_cli("nas_system.describe", *task, "--origins", wrong, cwd=tmp_path)
        assert refused.returncode == 2 and "neither a number of origins nor auto" in refused.stderr
    graphs = run_cli("nas_system.describe", "--task", "zinc_synth", "--origins", "2", cwd=tmp_path)
    assert graphs.returncode == 2
    assert "--origins: the task zinc_synth has nothing of the kind" in graphs.stderr
