"""Schedules of a training configuration: what the rate is at every step, and that a resume continues it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from builders import write_hourly
from torch import nn
from torch.optim import lr_scheduler

from nas_system.errors import ConfigError, StoppedOnRequest
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import ForecastingTask, RunConfig, TrainingConfig, family_default
from nas_system.training.acceleration.eager import step_eagerly
from nas_system.training.optimizer import build_optimizer
from nas_system.training.scheduler import advances_per_step, build_scheduler, get_scheduler, optimizer_steps
from nas_system.training_job import JobOptions, prepare, run_training

CPU = torch.device("cpu")


def training(**fields):
    return TrainingConfig.model_validate({"scheduler": "onecycle", "lr": 0.1} | fields)


def cycle(config, steps_per_epoch):
    """Rate and group of every step."""
    optimizer = build_optimizer(nn.Linear(2, 1), config, CPU)
    scheduler = build_scheduler(optimizer, config, steps_per_epoch=steps_per_epoch)
    assert advances_per_step(scheduler)
    groups = []
    for _ in range(config.max_epochs * steps_per_epoch):
        groups.append(dict(optimizer.param_groups[0]))
        optimizer.step()
        scheduler.step()
    return [group["lr"] for group in groups], groups


def test_one_cycle_is_smith_and_topins_curve_over_all_steps_of_all_epochs():
    rates, groups = cycle(training(max_epochs=5, warmup_share=0.4), 20)
    top = 0.4 * 100 - 1

    def between(start, end, share):
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    expected = [
        between(0.1 / 25, 0.1, step / top) if step <= top
        else between(0.1, 0.1 / 25 / 1e4, (step - top) / (99 - top))
        for step in range(100)
    ]  # fmt: skip
    assert rates == pytest.approx(expected)
    beta1 = [group["betas"][0] for group in groups]
    assert beta1[0] == pytest.approx(0.95)
    assert min(beta1) == beta1[39] == pytest.approx(0.85)


@pytest.mark.parametrize("share", [0.01, 0.1, 1 / 3, 0.9])
def test_a_cycle_of_any_length_rises_to_the_rate_and_falls(share):
    for steps in range(3, 40):
        rates, _ = cycle(training(max_epochs=steps, warmup_share=share), 1)
        assert rates[0] == pytest.approx(0.004)
        # The highest rate may fall between two steps; a coarse cycle then just passes it.
        assert (0.06 if steps < 10 else 0.09) < max(rates) <= 0.1
        assert rates[-1] < 1e-6


def test_two_steps_are_no_cycle():
    with pytest.raises(ConfigError, match="over 2 optimizer steps has no room"):
        cycle(training(max_epochs=2), 1)
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        build_scheduler(torch.optim.SGD(nn.Linear(1, 1).parameters()), training())


def test_the_momentum_that_was_asked_for_stays_with_sgd():
    _, groups = cycle(training(optimizer="sgd", momentum=0.5), 3)
    assert {group["momentum"] for group in groups} == {0.5}


def test_the_shortcut_around_torchs_own_step_follows_rate_and_momentum():
    """Against torch's own loop: the same weights after every step of a cycle."""
    weights = []
    for eager in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = build_optimizer(model, training(), CPU)
        if eager:
            step_eagerly(optimizer)
            scheduler = build_scheduler(optimizer, training(max_epochs=4), steps_per_epoch=5)
        else:
            scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
        assert scheduler is not None
        for step in range(20):
            model.zero_grad()
            model.weight.grad = torch.full((1, 3), math.sin(step))
            model.bias.grad = torch.ones(1)
            optimizer.step()
            scheduler.step()  # pyright: ignore[reportCallIssue]
        weights.append(model.weight.detach().clone())
    assert torch.equal(*weights)


def test_get_scheduler_takes_the_share_of_rising_steps():
    def step_of_the_highest_rate(**options):
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        scheduler = get_scheduler(optimizer, "onecycle", 10, steps_per_epoch=10, **options)
        rates = []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates.index(max(rates))

    assert step_of_the_highest_rate() == 29
    assert step_of_the_highest_rate(warmup_share=0.5) == 49


def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left():
    assert [optimizer_steps(batches, 4) for batches in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert optimizer_steps(7) == 7


@pytest.fixture
def config(tmp_path) -> RunConfig:
    load, heat = (lambda hour: 10 + hour % 24 + (hour * 37) % 11), (lambda hour: hour % 7)
    path = write_hourly(tmp_path / "series.csv", 600, load=load, heat=heat)
    task = ForecastingTask(dataset=str(path), targets=("load",), pred_len=4)
    base = family_default("linear")
    update = {
        "max_epochs": 4,
        "max_steps": None,
        "patience": 4,
        "scheduler": "onecycle",
        "accumulation_steps": 4,
    }
    return base.model_copy(
        update={
            "task": task,
            "data": base.data.model_copy(update={"seq_len": 24, "batch_size": 64}),
            "training": base.training.model_copy(update=update),
        }
    )


def options(**given):
    usual = {
        "tag": "run",
        "device": "cpu",
        "threads": 1,
        "time_limit_s": None,
        "resume": False,
        "facts": None,
        "data_dir": None,
        "stop": lambda: None,
    }
    return JobOptions(**(usual | given))


class StopAfter:
    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise StoppedOnRequest("asked to")


def test_a_training_run_ends_its_cycle_with_its_last_step(config, tmp_path):
    (tmp_path / "run").mkdir()
    run = prepare(config, RunPaths(tmp_path / "run"), options())
    assert run.engine.generator is not None
    batches = len(run.problem.training_batches(run.engine.generator))
    assert batches % 4, "the case of an incomplete group is wanted"
    assert run.fit() == "completed"
    scheduler = run.engine.scheduler
    assert isinstance(scheduler, lr_scheduler.OneCycleLR)
    assert run.engine.steps == scheduler.total_steps == 4 * -(-batches // 4)
    assert scheduler.last_epoch == run.engine.steps, "advanced with every step"
    rates = [record.lr for record in run.engine.history]
    assert rates[0] == pytest.approx(config.training.lr / 25)
    assert max(rates) > 10 * rates[0]


@pytest.mark.parametrize("augmentation", ["none", "time_warp"])
def test_a_stopped_and_resumed_cycle_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path, augmentation):
    varied = config.training.model_copy(update={"augmentation": augmentation})
    config = config.model_copy(update={"training": varied})
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    run_training(config, RunPaths(tmp_path / "whole"), options())
    with pytest.raises(StoppedOnRequest):
        run_training(config, RunPaths(tmp_path / "cut"), options(stop=StopAfter(3)))
    run_training(config, RunPaths(tmp_path / "cut"), options(resume=True))
    whole, cut = (
        json.loads((tmp_path / name / "history.json").read_text())["epochs"] for name in ("whole", "cut")
    )
    for first, second in zip(whole, cut, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
