"""Captured steps: refused where they cannot work, equal to plain ones where they can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_system.errors import ConfigError
from nas_system.space import TrainingConfig
from nas_system.training.acceleration.cuda_graph import CapturedStep
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.scheduler import build_scheduler

CPU = torch.device("cpu")


def engine_on(device, *, cuda_graph, optimizer=None):
    torch.manual_seed(0)
    config = TrainingConfig(lr=0.01, max_epochs=3)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)
    optimizer = optimizer or build_optimizer(model, config, device, capturable=cuda_graph)
    schedule = build_scheduler(optimizer, config)
    return Engine(
        model, optimizer, Forecasting(), device, EarlyStoppingState(), schedule, cuda_graph=cuda_graph
    )


def test_a_cpu_captures_nothing_and_says_so():
    model = nn.Linear(4, 1)
    optimizer = build_optimizer(model, TrainingConfig(), CPU)
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        engine_on(CPU, cuda_graph=True, optimizer=optimizer)


def test_an_optimizer_that_keeps_its_rate_on_the_host_is_refused():
    optimizer = build_optimizer(nn.Linear(4, 1), TrainingConfig(), CPU)
    with pytest.raises(ConfigError, match="capturable=True"):
        CapturedStep(lambda batch: (batch.target, batch.target), optimizer)


def test_sgd_has_no_capturable_form():
    with pytest.raises(ValueError, match="sgd cannot be captured"):
        build_optimizer(nn.Linear(4, 1), TrainingConfig(optimizer="sgd"), CPU, capturable=True)


@pytest.mark.gpu
def test_captured_steps_equal_plain_ones_and_the_short_last_batch_is_trained_too():
    device = torch.device("cuda:0")
    x = torch.randn(70, 4, device=device)
    y = x.sum(dim=1, keepdim=True)
    batches = list(zip(x.split(8), y.split(8), strict=True))
    plain, captured = (engine_on(device, cuda_graph=flag) for flag in (False, True))
    for engine in (plain, captured):
        engine.fit(batches, batches, 3)
        assert engine.steps == 27
    for name, tensor in plain.model.state_dict().items():
        assert torch.allclose(tensor, captured.model.state_dict()[name], atol=1e-5), name
    assert [record.lr for record in captured.history] == pytest.approx([r.lr for r in plain.history])
