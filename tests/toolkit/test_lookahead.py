"""RAdam + Lookahead: equal to the paper's algorithm, and with a state that can be saved."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import RAdam

from nas_system.toolkit.lookahead import RAdamLookahead
from nas_system.training.acceleration.eager import step_eagerly


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def train(net, optimizer, steps, first=0):
    for step in range(first, first + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("sync_every", "slow_step"), [(5, 0.5), (3, 0.25)])
def test_it_is_the_papers_algorithm_around_plain_radam(sync_every, slow_step):
    net, reference = build(), build()
    train(net, RAdamLookahead(net.parameters(), lr=0.05, sync_every=sync_every, slow_step=slow_step), 17)

    inner, slow = RAdam(reference.parameters(), lr=0.05), weights(reference)
    for step in range(17):
        train(reference, inner, 1, first=step)
        if (step + 1) % sync_every == 0:
            with torch.no_grad():
                for phi, theta in zip(slow, reference.parameters(), strict=True):
                    phi += slow_step * (theta - phi)
                    theta.copy_(phi)
    for a, b in zip(weights(net), weights(reference), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_between_two_synchronisations_it_is_plain_radam():
    net, reference = build(), build()
    train(net, RAdamLookahead(net.parameters(), lr=0.05), 4)
    train(reference, RAdam(reference.parameters(), lr=0.05), 4)
    assert_equal(weights(net), weights(reference))


def test_a_saved_state_continues_bit_for_bit(tmp_path):
    whole, begun = build(), build()
    train(whole, RAdamLookahead(whole.parameters(), lr=0.05, sync_every=4), 13)

    optimizer = RAdamLookahead(begun.parameters(), lr=0.05, sync_every=4)
    train(begun, optimizer, 6)
    torch.save([begun.state_dict(), optimizer.state_dict()], tmp_path / "state.pth")
    model_state, optimizer_state = torch.load(tmp_path / "state.pth", weights_only=True)
    resumed = build(seed=9)
    resumed.load_state_dict(model_state)
    # The saved `sync_every` wins over the default, as everywhere in torch.optim.
    optimizer = RAdamLookahead(resumed.parameters(), lr=0.1)
    optimizer.load_state_dict(optimizer_state)
    train(resumed, optimizer, 7, first=6)
    assert_equal(weights(whole), weights(resumed))


def test_a_copied_optimizer_keeps_its_settings():
    net = build()
    copied = copy.deepcopy(RAdamLookahead(net.parameters(), sync_every=7))
    copied.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert [group["sync_every"] for group in copied.param_groups] == [7, 7]


def test_parameters_without_a_gradient_stay_and_may_join_later():
    used, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RAdamLookahead([used, idle], lr=0.1)
    for step in range(12):
        used.grad = torch.ones(2)
        if step == 7:
            idle.grad = torch.ones(2)
        optimizer.step()
        if step < 7:
            assert torch.equal(idle, torch.ones(2))
    assert not torch.equal(idle, torch.ones(2))
    assert int(optimizer.state[idle]["step"]) == 5


def test_the_short_cut_step_and_a_closure_change_nothing():
    net, short = build(), build()
    train(net, RAdamLookahead(net.parameters(), lr=0.05), 11)
    train(short, step_eagerly(RAdamLookahead(short.parameters(), lr=0.05)), 11)
    assert_equal(weights(net), weights(short))

    p = nn.Parameter(torch.ones(2))
    optimizer = RAdamLookahead([p])

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (p < 1).all()
