"""Optimizers and schedules by name: what is decayed, and what the rate is at every epoch."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from nas_system.training import GradientAccumulator, get_optimizer, get_scheduler


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def rates(scheduler_type, epochs, lr=0.1, **options):
    optimizer = get_optimizer(nn.Linear(2, 1), "sgd", lr=lr)
    scheduler = get_scheduler(optimizer, scheduler_type, epochs, **options)
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_only_matrices_are_decayed(kind):
    model = network()
    model[0].weight.requires_grad_(False)
    decayed, spared = get_optimizer(model, kind, lr=1e-3, weight_decay=0.5).param_groups
    assert [id(p) for p in decayed["params"]] == [id(model[2].weight)]
    assert {id(p) for p in spared["params"]} == {
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    }
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)


def test_a_decayed_matrix_shrinks_and_a_bias_does_not():
    model = nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = get_optimizer(model, "adamw", lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(model.weight, before[0] * 0.95)
    assert torch.equal(model.bias, before[1])


def test_an_unknown_optimizer_and_a_frozen_model_are_refused():
    with pytest.raises(ValueError, match="adam, adamw, sgd"):
        get_optimizer(network(), "adamW")
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        get_optimizer(network().requires_grad_(False))


def test_cosine_warmup_rises_in_a_line_and_falls_to_the_lowest_rate():
    seen = rates("cosine_warmup", 30, warmup_epochs=4, min_lr=0.01)
    assert seen[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    middle = 4 + (30 - 4) // 2
    assert seen[middle] == pytest.approx((0.1 + 0.01) / 2)
    last = 0.01 + 0.09 * (1 + math.cos(math.pi * 25 / 26)) / 2
    assert seen[-1] == pytest.approx(last)
    assert all(a > b for a, b in pairwise(seen[4:]))


def test_the_warmup_is_a_tenth_of_the_epochs_unless_said():
    assert rates("cosine_warmup", 20)[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert rates("cosine_warmup", 2)[0] == pytest.approx(0.1)


def test_step_and_cosine_and_onecycle():
    assert rates("step", 5, step_size=2, gamma=0.5) == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    assert rates("cosine", 4, min_lr=0.0)[2] == pytest.approx(0.05)
    cycle = rates("onecycle", 100, steps_per_epoch=1)
    assert max(cycle) == pytest.approx(0.1)
    assert cycle[0] < 0.01
    assert cycle[-1] < 1e-4


def test_plateau_follows_its_direction():
    optimizer = get_optimizer(nn.Linear(2, 1), "sgd", lr=0.1)
    scheduler = get_scheduler(optimizer, "plateau", mode="max", patience=0, gamma=0.5)
    for value in (0.5, 0.6, 0.6):
        scheduler.step(value)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_none_is_a_constant_rate():
    assert get_scheduler(get_optimizer(nn.Linear(2, 1)), "none") is None


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("cosin", {}, "cosine_warmup"),
        ("cosine_warmup", {"warmup_epochs": 100}, "warmup_epochs=100"),
        ("onecycle", {}, "steps_per_epoch"),
        ("plateau", {"mode": "lower"}, "min, max"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, told):
    with pytest.raises(ValueError, match=told):
        get_scheduler(get_optimizer(nn.Linear(2, 1)), name, 100, **options)


def test_accumulated_gradients_are_those_of_the_large_batch_also_in_the_last_group():
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    by_hand, accumulated = nn.Linear(3, 1), nn.Linear(3, 1)
    accumulated.load_state_dict(by_hand.state_dict())

    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for chosen in (slice(0, 12), slice(12, 20)):
        optimizer.zero_grad()
        (by_hand(x[chosen]) - y[chosen]).square().mean().backward()
        optimizer.step()

    optimizer = torch.optim.SGD(accumulated.parameters(), lr=0.1)
    accumulator = GradientAccumulator(accumulation_steps=3)
    stepped = []
    for part, target in zip(x.split(4), y.split(4), strict=True):
        (accumulated(part) - target).square().mean().backward()
        stepped.append(accumulator.step(optimizer))
    assert stepped == [False, False, True, False, False]
    assert accumulator.flush(optimizer)
    assert not accumulator.flush(optimizer)
    assert torch.allclose(by_hand.weight, accumulated.weight, atol=1e-7)
