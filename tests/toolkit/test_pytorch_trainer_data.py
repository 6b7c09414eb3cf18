"""PytorchTrainer and its data sets: split, batches, weights, criteria, and the template as it is written."""

import contextlib
from itertools import chain

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from nas_system.errors import ConfigError
from nas_system.toolkit.pytorch_datasets import LoggedLoader, build_loader, split_indices
from nas_system.toolkit.pytorch_trainer import PytorchTrainer, set_seed


@pytest.fixture(autouse=True)
def own_folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield


class Pairs(Dataset):
    """A data set over what it is given: (inputs, targets) or (inputs, weights, targets)."""

    def __init__(self, *parts, **attributes):
        self.parts = parts
        vars(self).update(attributes)

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, index):
        return tuple(part[index] for part in self.parts)


class Spy(nn.Module):
    """Keeps the batches it sees, apart by training and evaluation."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = {True: [], False: []}

    def forward(self, x):
        self.seen[self.training].append(x.flatten().tolist())
        return self.layer(x.reshape(len(x), -1)[:, :1])


def test_the_split_is_random_and_always_the_same():
    set_seed(1)
    training, validation = split_indices(101, 0.9, shuffle=True)
    set_seed(2)
    assert split_indices(101, 0.9, shuffle=True) == (training, validation)
    assert (len(training), len(validation)) == (91, 10)
    assert sorted(training + validation) == list(range(101))
    assert training != sorted(training) and validation != list(range(91, 101))
    assert split_indices(10, 0.7, shuffle=False) == (list(range(7)), [7, 8, 9])
    assert [len(part) for part in split_indices(2, 0.9, shuffle=True)] == [1, 1]
    with pytest.raises(ConfigError, match="has 1 items"):
        split_indices(1, 0.9, shuffle=True)


def test_a_second_training_meets_the_same_validation_items_and_training_is_shuffled():
    dataset = Pairs(torch.arange(40.0).reshape(40, 1), torch.rand(40, 1))
    spies = []
    for seed in (1, 2):
        set_seed(seed)
        trainer = PytorchTrainer(Spy, [], device="cpu")
        repeats = {"repeat_train": 2, "repeat_valid": 3}
        trainer.train(dataset, "net", 4, n_epochs=2, train_prop=0.75, verbose=False, **repeats)
        spies.append(trainer.net.seen)
    first, second = ({mode: sorted(chain(*seen[mode])) for mode in seen} for seen in spies)
    assert first == second
    assert spies[0][True] != spies[1][True]
    assert len(first[True]) == 2 * 2 * 30 and len(set(first[True])) == 30
    assert len(first[False]) == 2 * 3 * 10 and set(first[False]).isdisjoint(first[True])


class Switching(Pairs):
    """Every batch belongs to the next state."""

    state = 0

    def switch_state(self):
        self.state += 1

    def __getitem__(self, index):
        return torch.tensor([float(self.state)]), torch.rand(1)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_the_data_set_is_told_of_each_batch_where_the_batch_is_made(n_workers):
    dataset = Switching(torch.zeros(20), scale=[0, 1], regression_flags=[1])
    trainer = PytorchTrainer(Spy, [], device="cpu")
    trainer.train(dataset, "net", 4, n_epochs=1, n_workers=n_workers, verbose=False)
    batches = trainer.net.seen[True]
    assert batches == [[float(i)] * len(batch) for i, batch in enumerate(batches, start=1)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 2]


class Ragged(Pairs):
    def __getitem__(self, index):
        return torch.full((1 + index % 3,), float(index)), torch.tensor([float(index)])

    @staticmethod
    def collate_fn(items):
        inputs = nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
        return inputs, torch.stack([y for _, y in items])


def test_the_data_sets_own_collate_fn_is_used():
    dataset = Ragged(range(12))
    trainer = PytorchTrainer(Spy, [], device="cpu")
    trainer.train(dataset, "net", n_epochs=1, verbose=False)
    assert trainer.predict_dataset(dataset, batch_size=5, verbose=False).shape == (12, 1)


def test_a_long_epoch_says_how_far_it_is():
    dataset = Pairs(torch.zeros(5, 1), torch.zeros(5, 1))
    loader = build_loader(dataset, range(5), batch_size=2, device=torch.device("cpu"))
    lines = []
    assert len(list(LoggedLoader(loader, "training", lines.append, every_s=0.0))) == 3
    assert lines == [f"  training: {done} of 3 batches" for done in (1, 2, 3)]
    list(LoggedLoader(loader, "training", lines.append))
    assert len(lines) == 3


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(3, 1)

    def forward(self, x1, x2):
        return self.a(x1) + self.b(x2)


def test_a_list_as_input_becomes_several_arguments():
    x1, x2 = torch.randn(12, 2), torch.randn(12, 3)
    dataset = Pairs([[a, b] for a, b in zip(x1, x2, strict=True)], torch.randn(12, 1))
    trainer = PytorchTrainer(TwoInputs, [], device="cpu")
    trainer.train(dataset, "net", n_epochs=1, verbose=False)
    by_item = trainer.predict_dataset(dataset, verbose=False)
    torch.testing.assert_close(trainer.predict(x1, x2), by_item)
    torch.testing.assert_close(trainer.predict(x1.numpy(), x2.numpy()), by_item)
    torch.testing.assert_close(trainer.predict([x1, x2]), by_item)


def test_weights_of_one_train_the_same_network_and_others_do_not():
    x, y = torch.randn(30, 2), torch.randn(30, 2)
    vectors = torch.tensor([[1.0, 5.0]]).expand(30, 2)

    def train(*parts):
        set_seed(3)
        trainer = PytorchTrainer(nn.Linear, [2, 2], device="cpu")
        trainer.train(Pairs(*parts), "net", n_epochs=3, verbose=False)
        return trainer

    plain = train(x, y)
    for ones in ([1.0] * 30, [1] * 30, torch.ones(30, 2)):
        weighted = train(x, ones, y)
        assert torch.equal(weighted.net.weight, plain.net.weight)
        assert [r.val for r in weighted.history] == [r.val for r in plain.history]
    assert train(x, [2.0] * 30, y).history[0].val["loss"] > 1.9 * plain.history[0].val["loss"]
    assert not torch.equal(train(x, vectors, y).net.weight, plain.net.weight)


def test_the_decision_is_in_the_targets_own_units():
    x = torch.randn(60, 2)
    dataset = Pairs(x, 500 + 100 * x)
    trainer = PytorchTrainer(nn.Linear, [2, 2], device="cpu")
    trainer.train(dataset, "net", n_epochs=2, verbose=False, shuffle=False)
    error = trainer.predict(x[54:]) - dataset.parts[1][54:]
    assert trainer.history[-1].val["loss"] == pytest.approx(error.square().mean().item(), rel=1e-5)


class OwnCriterion:
    """Mean absolute error; keeps what it was built with."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __call__(self, output, target, weights=None, unscaled=False):
        return (output - target).abs().mean()

    def postproc(self, pred):
        return pred + 1000


def test_a_criterion_of_ones_own_is_built_with_the_data_set_or_given_ready():
    dataset = Pairs(torch.randn(9, 1), torch.randn(9, 1))
    trainer = PytorchTrainer(nn.Linear, [1, 1], device="cpu")
    trainer.train(dataset, "net", criterion=OwnCriterion, n_epochs=1, verbose=False)
    assert trainer.criterion.dataset is dataset
    ready = OwnCriterion(None)
    trainer.train(dataset, "net", criterion=ready, n_epochs=1, verbose=False)
    assert trainer.criterion is ready
    assert (trainer.predict(torch.zeros(2, 1)) > 900).all()


# --- the whole ------------------------------------------------------------------------------


def net_builder():
    return nn.Sequential(nn.Linear(3, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))


def price_and_sale(n=300):
    """A price around 5,000 and a yes or no, both learnable."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return Pairs(x, torch.stack([5000 + 300 * x[:, 0] + 100 * x[:, 1] ** 2, (x[:, 2] > 0).float()], dim=1))


def test_the_template_runs_as_written_and_learns(capsys):
    set_seed(0)
    dataset = price_and_sale()
    model = PytorchTrainer(net_builder, [], device="cpu")
    model.train(dataset, name="model_name", batch_size=16, n_epochs=10, learning_rate=0.02)
    model.load("model_name")
    predicted = model.predict_dataset(dataset)
    target = dataset.parts[1]
    assert (predicted[:, 0] - target[:, 0]).square().mean() < 0.2 * target[:, 0].var()
    assert ((predicted[:, 1] > 0.5) == target[:, 1].bool()).float().mean() > 0.9
    assert predicted[:, 1].min() >= 0 and predicted[:, 1].max() <= 1
    torch.testing.assert_close(model.predict_dataset(dataset, 64), predicted, rtol=1e-5, atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training model_name: 270 items, 30 for validation, on cpu"
    assert sum(line.startswith("epoch ") for line in lines) == len(model.history)
    assert "epoch 1/10: train " in lines[1]


def test_set_seed_repeats_a_training_and_a_quiet_one_says_nothing(capsys):
    def losses():
        set_seed(5)
        trainer = PytorchTrainer(net_builder, [], device="cpu")
        trainer.train(price_and_sale(60), "net", n_epochs=3, verbose=False)
        trainer.predict_dataset(price_and_sale(60), verbose=False)
        return [record.train["loss"] for record in trainer.history]

    assert losses() == losses()
    assert capsys.readouterr().out == ""


def test_a_second_training_goes_on_with_the_network_in_memory():
    dataset = price_and_sale(100)
    trainer = PytorchTrainer(net_builder, [], device="cpu")
    trainer.train(dataset, "net", n_epochs=6, learning_rate=0.02, verbose=False)
    before = trainer.history[-1].train["loss"]
    trainer.train(dataset, "net", n_epochs=1, learning_rate=0.02, verbose=False)
    assert len(trainer.history) == 1
    assert trainer.history[0].train["loss"] < 1.5 * before
