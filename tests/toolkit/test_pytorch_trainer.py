"""PytorchTrainer: its countdowns, restarts, averages and ends."""

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from nas_system.errors import ConfigError, Diverged
from nas_system.toolkit.lookahead import RAdamLookahead
from nas_system.toolkit.pytorch_callbacks import (
    GoldenSectionRate,
    average_states,
    early_stopping_limit,
    restart_limit,
)
from nas_system.toolkit.pytorch_trainer import PytorchTrainer
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.early_stopping import EarlyStoppingState


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


class Pairs(Dataset):
    """A data set over what it is given: (inputs, targets) or (inputs, weights, targets)."""

    def __init__(self, *parts, **attributes):
        self.parts = parts
        vars(self).update(attributes)

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, index):
        return tuple(part[index] for part in self.parts)


class Scripted:
    """Judges the network by a script: one given loss for every epoch. Validation targets are 1, others 0."""

    def __init__(self, script):
        self.script = iter(script)

    def __call__(self, output, target, weights=None, unscaled=False):
        if unscaled and target.max() == 1:
            return torch.tensor(next(self.script), dtype=torch.float32)
        return (output - 1).square().mean()

    def postproc(self, pred):
        return pred


def train_by_script(script, n_epochs, net=None, **settings):
    """Four training items, one validation item, and the losses of `script`."""
    targets = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]])
    dataset = Pairs(torch.randn(5, 1, generator=torch.Generator().manual_seed(0)), targets)
    torch.manual_seed(0)
    net = net or nn.Linear(1, 1)
    trainer = PytorchTrainer(lambda: net, [], device="cpu")
    fixed = {"train_prop": 0.8, "shuffle": False, "batch_size": 4, "name": "net"}
    settings = fixed | {"verbose": False} | settings
    reason = trainer.train(dataset, criterion=Scripted(script), n_epochs=n_epochs, **settings)
    return trainer, reason


def rates(trainer, start=1e-3):
    """How many times the learning rate of every epoch is reduced."""
    return [round(math.log(record.lr / start, 0.618), 6) for record in trainer.history]


# --- countdowns -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_epochs", "restart", "stop"),
    [(1, 1, 1), (6, 1, 1), (7, 1, 2), (10, 1, 2), (20, 1, 3), (50, 2, 8), (100, 3, 15), (200, 6, 30)],
)
def test_the_limits_are_shares_rounded_up(n_epochs, restart, stop):
    assert (restart_limit(n_epochs), early_stopping_limit(n_epochs)) == (restart, stop)


@pytest.mark.parametrize(
    ("n_epochs", "with_restarts", "reductions"),
    [
        (10, True, [0] * 3),
        (50, True, [0] * 6 + [1] * 3),  # restart after 2, reduction 3 epochs later, stop after 8
        (50, False, [0] * 4 + [1] * 3 + [2] * 2),
        (100, True, [0] * 7 + [1] * 3 + [2] * 3 + [3] * 3),  # restart where a reduction was due
        (100, False, [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3),
        (120, True, [0] * 4 + [1] + [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 2),  # lr back to the start
    ],
)
def test_without_progress_the_rate_falls_restarts_once_and_the_training_stops(
    n_epochs, with_restarts, reductions, capsys
):
    trainer, reason = train_by_script([1.0] * n_epochs, n_epochs, with_restarts=with_restarts, verbose=True)
    assert reason == "early_stopping"
    assert rates(trainer) == reductions
    assert len(reductions) == 1 + early_stopping_limit(n_epochs)
    assert capsys.readouterr().out.count("optimizer restarted") == with_restarts


def test_progress_allows_the_next_restart(capsys):
    trainer, _ = train_by_script([1.0, 1.0, 0.9, 0.9, 0.9, 0.9], 10, verbose=True)
    assert len(trainer.history) == 5
    assert capsys.readouterr().out.count("optimizer restarted") == 2


def test_a_restart_forgets_moments_and_slow_weights():
    p = nn.Parameter(torch.ones(1))
    engine = SimpleNamespace(optimizer=RAdamLookahead([p], lr=0.2), progress=EarlyStoppingState(patience=9))
    p.grad = torch.ones(1)
    engine.optimizer.step()
    engine.optimizer.param_groups[0]["lr"] = 0.05
    callback = GoldenSectionRate(0.2, 2, lambda line: None)
    for bad_epochs, expected in [(1, 0.05), (2, 0.2), (3, 0.2), (4, 0.2), (5, 0.2 * 0.618)]:
        engine.progress.bad_epochs = bad_epochs
        callback.epoch_ended(engine, None)
        assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        assert (p in engine.optimizer.state) == (bad_epochs < 2)


@pytest.mark.parametrize(
    ("script", "epochs"),
    [
        ([200.0, 199.0, 199.5, 199.5, 0.0], 4),  # half a percent is progress
        ([200.0, 199.1, 199.1, 0.0], 3),  # less is not
        ([200.0, 199.5, 198.9, 198.9, 198.9, 0.0], 5),  # the reference is the value recorded last
        ([-200.0, -200.5, -200.9, -300.0], 3),  # below zero as well
        ([-200.0, -201.1, -201.0, -201.0, -300.0], 4),
        ([0.0, 0.0, 0.0, 0.0], 3),
    ],
)
def test_progress_is_half_a_percent_below_the_recorded_minimum(script, epochs):
    trainer, reason = train_by_script(script, 10)
    assert (len(trainer.history), reason) == (epochs, "early_stopping")


def test_even_a_tiny_minimum_is_saved(folder):
    states = []
    train_by_script([2.0, 1.9999, 1.99991], 10, epoch_hook=lambda trainer: states.append(snapshot(trainer)))
    saved = load_checkpoint(folder / "net.pt")
    assert saved["epoch"] == 1
    assert torch.equal(saved["model"]["weight"], states[1]["weight"])
    assert not torch.equal(states[1]["weight"], states[2]["weight"])


# --- averaging ------------------------------------------------------------------------------


def snapshot(trainer):
    return {key: value.clone() for key, value in trainer.net.state_dict().items()}


@pytest.mark.parametrize(
    ("script", "n_best_nets", "averaged"),
    [
        ([1.0, 1.2, 1.09, 1.05], 2, [0, 3]),
        ([1.0, 1.2, 1.09, 1.05], 4, [0, 3, 2]),  # 1.2 is too far from 1.0
        ([2.0, 1.0, 0.5, 0.52], 4, [2, 3]),  # measured from the last minimum, not from the first
        ([-1.0, -0.8, -0.92, -0.95], 4, [0, 3, 2]),
        ([-0.8, -0.92, -1.0, -0.95], 3, [2, 3, 1]),
        ([0.0, 0.1, 0.0, 0.2], 3, [0, 2]),
    ],
)
def test_the_average_is_the_mean_of_the_best_within_ten_percent(script, n_best_nets, averaged, folder):
    states = []
    net = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    trainer, _ = train_by_script(
        script + [9.0] * 20,
        40,
        net=net,
        learning_rate=0.1,
        n_best_nets=n_best_nets,
        epoch_hook=lambda trainer: states.append(snapshot(trainer)),
    )
    chosen = [states[epoch] for epoch in averaged]
    saved = load_checkpoint(folder / "net_avg.pt")
    assert saved["averaged_epochs"] == averaged
    for key, value in saved["model"].items():
        if key.endswith("num_batches_tracked"):
            assert torch.equal(value, chosen[0][key])
        else:
            by_hand = sum(state[key].double() for state in chosen) / len(chosen)
            torch.testing.assert_close(value, by_hand.float(), rtol=1e-6, atol=1e-7)
        assert torch.equal(trainer.net.state_dict()[key], value), "the average is what memory holds"
    best = load_checkpoint(folder / "net.pt")
    assert torch.equal(best["model"]["0.weight"], chosen[0]["0.weight"])


def test_an_average_keeps_its_types():
    states = [{"w": torch.tensor([1.0], dtype=torch.float16), "n": torch.tensor(i)} for i in (3, 4, 5)]
    states[2]["w"] = torch.tensor([4.0], dtype=torch.float16)
    mean = average_states(states)
    assert (mean["w"].dtype, mean["w"].item(), mean["n"].item()) == (torch.float16, 2.0, 3)


def test_without_averaging_memory_holds_the_last_network(folder):
    states = []
    trainer, _ = train_by_script(
        [1.0, 2.0, 3.0], 10, epoch_hook=lambda trainer: states.append(snapshot(trainer))
    )
    assert torch.equal(trainer.net.weight, states[-1]["weight"])
    assert not (folder / "net_avg.pt").exists()
    trainer.load("net")
    assert torch.equal(trainer.net.weight, states[0]["weight"])


# --- ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net", "deep/er/net"])
def test_a_stop_file_ends_the_training_after_the_epoch_and_is_removed(name, folder):
    def hook(trainer):
        if len(trainer.history) == 2:
            (folder / "stop_net").touch()

    trainer, reason = train_by_script([1.0, 0.9, 0.8, 0.7], 20, epoch_hook=hook, n_best_nets=2, name=name)
    assert (reason, len(trainer.history)) == ("stop_file", 2)
    assert not (folder / "stop_net").exists()
    assert (folder / f"{name}.pt").exists() and (folder / f"{name}_avg.pt").exists()


def test_the_stop_file_of_another_training_is_left_alone(folder):
    (folder / "stop_other").touch()
    assert train_by_script([1.0] * 5, 10)[1] == "early_stopping"
    assert (folder / "stop_other").exists()


@pytest.mark.parametrize("n_best_nets", [1, 2])
def test_a_nan_ends_with_an_error_and_the_best_network_is_kept(n_best_nets, folder):
    states = []
    trainer = PytorchTrainer(nn.Linear, [1, 1], device="cpu")
    dataset = Pairs(torch.randn(5, 1), torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]]))
    with pytest.raises(Diverged, match=r"epoch 4; lower learning_rate.*loss 0.9.*kept in .*net.pt"):
        trainer.train(
            dataset,
            "net",
            criterion=Scripted([1.0, 0.9, 2.0, math.nan]),
            n_epochs=50,
            train_prop=0.8,
            shuffle=False,
            verbose=False,
            n_best_nets=n_best_nets,
            epoch_hook=lambda trainer: states.append(snapshot(trainer)),
        )
    assert len(trainer.history) == 3
    assert (folder / "net_avg.pt").exists() == (n_best_nets == 2)
    assert torch.equal(trainer.net.weight, states[1]["weight"])


def test_a_nan_in_the_data_is_an_error_at_once(folder):
    inputs = torch.randn(20, 1)
    inputs[7] = math.nan
    trainer = PytorchTrainer(nn.Linear, [1, 1], device="cpu")
    with pytest.raises(Diverged, match=r"epoch 1;.*nothing was saved"):
        trainer.train(Pairs(inputs, torch.randn(20, 1)), "net", verbose=False)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_prop": 1.0}, "train_prop=1.0"),
        ({"n_epochs": 0}, "n_epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"repeat_valid": 0}, "repeat_valid=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"name": "folder/"}, "must end in the name of a file"),
        ({"criterion": "mse"}, "criterion='mse' is not known"),
        ({"criterion": nn.MSELoss()}, "a criterion needs"),
    ],
)
def test_arguments_that_cannot_work_are_named(settings, message):
    trainer = PytorchTrainer(nn.Linear, [1, 1], device="cpu")
    with pytest.raises(ConfigError, match=message):
        trainer.train(Pairs(torch.randn(9, 1), torch.randn(9, 1)), verbose=False, **settings)


def test_builders_and_devices_that_cannot_work_are_named():
    with pytest.raises(ConfigError, match="pass a function that returns it"):
        PytorchTrainer(nn.Linear(1, 1), [], device="cpu")
    with pytest.raises(ConfigError, match="returned list"):
        PytorchTrainer(lambda: [], [], device="cpu")
    with pytest.raises(ConfigError, match="train or load first"):
        PytorchTrainer(nn.Linear, [1, 1], device="cpu").predict(torch.zeros(1, 1))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' was asked for"):
            PytorchTrainer(nn.Linear, [1, 1])
