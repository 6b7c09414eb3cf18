"""A training leaves the same files whatever ended it, and says in metrics.json what that was."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from builders import write_hourly

from nas_system.config_io.config_file import write_config
from nas_system.errors import ConfigError, Diverged, StoppedOnRequest
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.nas_agent.window_errors import read_errors
from nas_system.space import ForecastingTask, RunConfig, family_default
from nas_system.training_job import JobOptions, run_training

FILES = {"history.json", "learning_curve.png", "metrics.json"}
SCORES = ("val_mse", "test_mse", "train_mse", "best_epoch")


@pytest.fixture
def config(tmp_path) -> RunConfig:
    load, heat = (lambda hour: 10 + hour % 24 + (hour * 37) % 11), (lambda hour: hour % 7)
    path = write_hourly(tmp_path / "series.csv", 600, load=load, heat=heat)
    task = ForecastingTask(dataset=str(path), targets=("load",), pred_len=4)
    base = family_default("linear")
    data = base.data.model_copy(update={"seq_len": 24, "batch_size": 32})
    training = base.training.model_copy(update={"max_epochs": 4, "max_steps": None, "patience": 4})
    return base.model_copy(update={"task": task, "data": data, "training": training})


def train(config, folder, **options):
    folder.mkdir(exist_ok=True)
    paths = RunPaths(folder)
    with contextlib.suppress(ConfigError):  # of what no file may ask for
        write_config(paths.config, config)
    given = {
        "tag": folder.name,
        "device": "cpu",
        "threads": 1,
        "time_limit_s": None,
        "resume": False,
        "facts": None,
        "data_dir": None,
        "stop": lambda: None,
    }
    run_training(config, paths, JobOptions(**(given | options)))


def metrics_of(folder):
    text = (folder / "metrics.json").read_text()
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def history_of(folder):
    return json.loads((folder / "history.json").read_text())


class StopAfter:
    """Asks the training to stop after some steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise StoppedOnRequest("asked to")


def test_a_completed_training_has_every_file_and_figure(config, tmp_path):
    train(config, tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert metrics["reason"] == "completed"
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {
        "best_model.pth",
        "config_used.py",
        "predictions.png",
        "val_errors.npy",
    }
    assert all(metrics[name] is not None for name in SCORES)
    assert (metrics["metric"], metrics["direction"]) == ("val_mse", "minimize")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert (history["metric"], history["direction"]) == ("val_mse", "minimize")
    best = history["epochs"][metrics["best_epoch"]]
    for part in ("train", "val"):
        assert (
            metrics[f"{part}_score"] == metrics[f"{part}_mse"] == best[f"{part}_score"] == best[f"{part}_mse"]
        )
    assert metrics["test_score"] == metrics["test_mse"]
    timing = metrics["timing"]
    parts = sum(timing[f"{part}_sec"] for part in ("data", "forward", "backward", "optimizer", "evaluation"))
    assert 0 < parts < metrics["train_time_sec"]
    assert timing["steps_per_sec"] > 0
    assert metrics["peak_memory_mb"] > 50
    assert (metrics["threads"], metrics["device"], metrics["precision"]) == (1, "cpu", "fp32")


def test_a_stop_file_ends_it_after_the_epoch_and_the_score_counts(config, tmp_path):
    with contextlib.chdir(tmp_path):
        (tmp_path / "stop_run").touch()
        train(config, tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["reason"], metrics["epochs"]) == ("stop_file", 1)
    assert metrics["test_mse"] is not None
    assert not (tmp_path / "stop_run").exists()


def test_a_budget_too_small_for_anything_is_a_training_of_one_step_and_the_score_counts(
    config, tmp_path, capsys
):
    train(config, tmp_path / "run", time_limit_s=1e-6)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["reason"], metrics["epochs"], metrics["steps"]) == ("completed", 1, 1)
    assert (metrics["planned_epochs"], metrics["planned_steps"]) == (1, 1)
    assert metrics["wanted_steps"] == 4 * 11
    assert metrics["plan"]["most_steps"] == 1
    assert metrics["plan"]["why"].startswith("planned for 1 of 44 steps: 1e-06 s of compute; about ")
    assert metrics["plan"]["why"] in capsys.readouterr().out.splitlines()
    assert 0 < metrics["compute_sec"] < metrics["train_time_sec"]
    assert metrics["test_mse"] is not None


def test_the_shortest_cycle_is_one_that_its_schedule_has_room_for(config, tmp_path):
    onecycle = config.training.model_copy(update={"scheduler": "onecycle"})
    train(config.model_copy(update={"training": onecycle}), tmp_path / "run", time_limit_s=1e-6)
    assert metrics_of(tmp_path / "run")["steps"] == 4
    rates = [epoch["lr"] for epoch in history_of(tmp_path / "run")["epochs"]]
    assert rates[0] == pytest.approx(onecycle.lr / 25)


def test_what_cannot_be_measured_beforehand_ends_after_the_epoch_that_reaches_the_limit(config, tmp_path):
    # A compiled step is not the one that a look at the first batch sees. (`eager` compiles nothing.)
    compiled = config.training.model_copy(update={"compile": "eager"})
    train(config.model_copy(update={"training": compiled}), tmp_path / "run", time_limit_s=1e-6)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["reason"], metrics["epochs"], metrics["planned_epochs"]) == ("time_budget", 1, 4)
    assert metrics["plan"]["why"] == ""


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle", "step", "plateau"])
def test_a_shorter_plan_is_the_same_training_as_one_that_was_asked_for(config, tmp_path, scheduler):
    def curve_of(run, epochs, **options):
        training = config.training.model_copy(update={"max_epochs": epochs, "scheduler": scheduler})
        train(config.model_copy(update={"training": training}), tmp_path / run, **options)
        return [{**epoch, "seconds": 0} for epoch in history_of(tmp_path / run)["epochs"]]

    assert curve_of("planned", 4, max_steps=22) == curve_of("asked", 2)
    assert metrics_of(tmp_path / "planned")["val_mse"] == metrics_of(tmp_path / "asked")["val_mse"]


def test_a_resumed_training_keeps_its_plan(config, tmp_path):
    train(config, tmp_path / "whole", max_steps=33)
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "cut", max_steps=33, stop=StopAfter(20))
    train(config, tmp_path / "cut", resume=True, max_steps=11, time_limit_s=1e-6)
    whole, cut = metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "cut")
    planned = ("planned_epochs", "planned_steps", "wanted_steps", "plan", "reason", "steps")
    assert [whole[name] for name in (*SCORES, *planned)] == [cut[name] for name in (*SCORES, *planned)]
    assert (whole["planned_epochs"], whole["planned_steps"], whole["wanted_steps"]) == (3, 33, 44)


@pytest.mark.fault(24)
def test_a_diverged_training_leaves_valid_json_without_a_score(config, tmp_path):
    # A rate that no configuration may ask for, past the validator on purpose.
    wild = config.training.model_copy(update={"lr": 1e30, "optimizer": "sgd"})
    with pytest.raises(Diverged, match=r"lower training\.lr"):
        train(config.model_copy(update={"training": wild}), tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert metrics["reason"] == "diverged"
    assert [metrics[name] for name in SCORES] == [None] * 4
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES


def test_a_stopped_training_keeps_its_score_so_far_and_leaves_the_test_part_alone(config, tmp_path):
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "run", stop=StopAfter(12))
    metrics = metrics_of(tmp_path / "run")
    assert metrics["reason"] == "stopped"
    assert metrics["epochs"] >= 1
    assert metrics["val_mse"] is not None
    assert metrics["test_mse"] is None
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES | {
        "last.pth",
        "best_model.pth",
        "val_errors.npy",
    }


def test_a_stopped_and_resumed_training_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path):
    train(config, tmp_path / "whole")
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "cut", stop=StopAfter(12))
    train(config, tmp_path / "cut", resume=True)
    whole, cut = metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "cut")
    assert [whole[name] for name in SCORES] == [cut[name] for name in SCORES]
    first, second = (
        torch.load(tmp_path / name / "best_model.pth", weights_only=True)["model"]
        for name in ("whole", "cut")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    errors = [(tmp_path / name / "val_errors.npy").read_bytes() for name in ("whole", "cut")]
    assert errors[0] == errors[1]


def test_a_training_resumed_from_an_older_checkpoint_has_the_errors_of_its_best_epoch_too(config, tmp_path):
    """Such a checkpoint kept none; if no later epoch is better, they cost one pass more."""
    never = config.training.model_copy(update={"lr": 1e-9, "scheduler": "none", "patience": 1})
    config = config.model_copy(update={"training": never})
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "run", stop=StopAfter(12))
    last = tmp_path / "run" / "last.pth"
    content = torch.load(last, weights_only=True)
    assert len(content.pop("best_errors")) > 50
    torch.save(content, last)
    (tmp_path / "run" / "val_errors.npy").unlink()
    train(config, tmp_path / "run", resume=True)
    score = metrics_of(tmp_path / "run")["val_mse"]
    assert read_errors(tmp_path / "run" / "val_errors.npy", score=score) is not None


@pytest.mark.parametrize("difference", ["lr", "seed"])
def test_a_checkpoint_of_another_training_is_not_continued(config, tmp_path, capsys, difference):
    with pytest.raises(StoppedOnRequest):
        train(config, tmp_path / "run", stop=StopAfter(12))
    slower = config.training.model_copy(update={"lr": 0.001})
    other = {"lr": {"training": slower}, "seed": {"seed": 7}}[difference]
    train(config.model_copy(update=other), tmp_path / "run", resume=True)
    said = capsys.readouterr().out
    assert "belongs to another configuration, seed or data; training starts at the beginning" in said
    assert metrics_of(tmp_path / "run")["epochs"] == 4


def test_threads_auto_measures_and_records_what_it_took(config, tmp_path):
    train(config, tmp_path / "run", threads=None)
    assert metrics_of(tmp_path / "run")["threads"] >= 1


def test_half_precision_trains_and_is_recorded(config, tmp_path):
    half = config.training.model_copy(update={"precision": "bf16", "accumulation_steps": 2})
    train(config.model_copy(update={"training": half}), tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert metrics["precision"] == "bf16"
    assert 0 < metrics["val_mse"] < 2


def test_fp16_is_refused_where_there_is_no_cuda_device(config, tmp_path):
    half = config.training.model_copy(update={"precision": "fp16"})
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        train(config.model_copy(update={"training": half}), tmp_path / "run")


@pytest.mark.gpu
def test_the_large_informer_trains_on_a_gpu(tmp_path, ett_dir):
    from nas_system.config_io.config_file import named_config

    config = named_config("informer_256")
    train(config, tmp_path / "run", device="cuda:0", data_dir=ett_dir)
    assert metrics_of(tmp_path / "run")["device"] == "cuda:0"


def test_a_long_epoch_says_how_far_it_is(config, tmp_path, capsys):
    train(config, tmp_path / "quiet")
    assert "step" not in capsys.readouterr().out
    train(config, tmp_path / "talking", log_interval_s=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert "epoch 1, step 1" in lines
    steps = metrics_of(tmp_path / "talking")["steps"] // 4
    assert f"epoch 4, step {steps}" in lines, "steps are counted again in every epoch"
    assert f"epoch 4, step {steps + 1}" not in lines
