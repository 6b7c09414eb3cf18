"""What Trainer and PytorchTrainer say of data, optimizers and loaders that cannot work: which, and why."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from nas_system.errors import ConfigError, Diverged
from nas_system.toolkit.pytorch_datasets import build_loader
from nas_system.toolkit.pytorch_trainer import PytorchTrainer
from nas_system.training import Trainer, get_loss_fn, get_optimizer, set_seed


@pytest.fixture(autouse=True)
def own_folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield


class Items(Dataset):
    """A data set over what it is given: (inputs, targets) or (inputs, weights, targets)."""

    def __init__(self, *parts: Any, **attributes: Any) -> None:
        self.parts = parts
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(part[index] for part in self.parts)


def line(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return x, 2 * x[:, :1] + 1


def of_classes(n: int = 40, **strange: int) -> tuple[Tensor, Tensor]:
    """Inputs and three classes; `at_13=3` makes that of item 13 a 3."""
    labels = torch.arange(n) % 3
    for place, label in strange.items():
        labels[int(place[3:])] = label
    return line(n)[0], labels


def batches(*tensors: Tensor, batch_size: int = 8, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size, **options)


def fit(
    train: Any, val: Any = None, model: nn.Module | None = None, **options: Any
) -> dict[str, list[float]]:
    set_seed(0)
    model = model or nn.Linear(3, 1)
    settings = {"epochs": 2, "metric_for_best": "loss"}
    settings |= {name: options.pop(name) for name in [*settings] if name in options}
    optimizer = options.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=0.01)
    return Trainer(model, optimizer, device="cpu", **options).fit(train, val, **settings)


def train(net_builder: Any, dataset: Any, **options: Any) -> PytorchTrainer:
    set_seed(0)
    trainer = PytorchTrainer(net_builder, [], device="cpu")
    settings = {"batch_size": 16, "n_epochs": 2, "verbose": False}
    trainer.train(dataset, "net", **(settings | options))
    return trainer


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def spoilt(part: str, value: float, *, wide: bool = False) -> tuple[Tensor, ...]:
    """Inputs, weights and targets of a line; in one of them item 13 holds `value`."""
    x, y = line()
    kind = torch.float64 if wide else torch.float32
    parts = {"input": x, "weight": torch.ones(40), "target": y.to(kind)}
    parts[part][13] = value
    return tuple(parts.values()) if part == "weight" else (parts["input"], parts["target"])


NONE = (float("nan"), float("inf"))
BAD = [
    *((part, value) for part in ("input", "weight", "target") for value in NONE),
    ("input", 1e30),
    ("target", 1e30),
    ("target", 1e200),
]


# --- numbers that are none ------------------------------------------------------------------


@pytest.mark.parametrize(("part", "value"), BAD)
def test_a_trainer_blames_the_item_and_not_the_learning_rate(part, value):
    bad = spoilt(part, value, wide=value == 1e200)
    good = list(spoilt("weight", 1.0)) if len(bad) == 3 else line(10)
    said = rf"epoch 1; the learning rate is not to blame: the {part} of {{}} item 13 is {value:g}"
    for train_loader, val_loader, where in (
        (batches(*bad, shuffle=True), batches(*good), "training"),
        (batches(*good), batches(*bad), "validation"),
    ):
        with pytest.raises(Diverged, match=said.format(where).replace("+", r"\+")) as caught:
            fit(train_loader, val_loader)
        assert "lower" not in str(caught.value)
        assert caught.value.numbers


@pytest.mark.parametrize(("part", "value"), BAD)
def test_a_pytorch_trainer_blames_the_item_too(part, value):
    bad = Items(*spoilt(part, value, wide=value == 1e200), scale=[0, 1], regression_flags=[1])
    said = rf"not to blame: the {part} of {{}} item 13 is {value:g}.*nothing was saved".replace("+", r"\+")
    for train_prop, where in ((0.9, "training"), (0.3, "validation")):
        with pytest.raises(Diverged, match=said.format(where)) as caught:
            train(linear, bad, train_prop=train_prop, shuffle=False)
        assert "lower" not in str(caught.value)


def test_the_item_is_found_in_any_kind_of_batch():
    x, y = spoilt("target", float("nan"))
    mappings = [{"X": one, "y": two} for one, two in zip(x.split(8), y.split(8), strict=True)]
    with pytest.raises(Diverged, match=r"the target of training batch 1 is nan at \[5, 0\]"):
        fit(mappings)
    with pytest.raises(Diverged, match="the target of training item 13 is nan"):
        fit(DataLoader(Subset(TensorDataset(x, y), [30, 13, 2, 7]), 2))
    lists = [([one[:, :1], one[:, 1:]], two) for one, two in zip(x.split(8), y.split(8), strict=True)]
    two_inputs = nn.Bilinear(1, 2, 1)
    with pytest.raises(Diverged, match="the target of training batch 1"):
        fit(lists, model=two_inputs)


def test_a_learning_rate_that_is_too_high_is_still_blamed():
    data, val = batches(*line()), batches(*line(10))
    model = linear()
    high = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(Diverged, match=r"in epoch 1; lower the learning rate of the optimizer \(1e\+30\)"):
        fit(data, val, model, optimizer=high)
    again = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(Diverged, match=r"or set grad_clip$"):
        fit(data, val, model, optimizer=again, grad_clip=None)
    with pytest.raises(Diverged, match=r"epoch 1; lower learning_rate \(1e\+30\)\. No epoch was good"):
        train(linear, Items(*line()), learning_rate=1e30)


class Masked(nn.Module):
    """Reads NaN as 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.nan_to_num(0.0))


def test_nan_that_a_network_expects_is_not_the_only_suspect():
    model = Masked()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    steep = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1e35**epoch)
    data = batches(*spoilt("input", float("nan")))
    with pytest.raises(
        Diverged, match=r"in epoch 2; the input of .* or if the network expects it, lower the"
    ):
        fit(data, batches(*line(10)), model, optimizer=optimizer, scheduler=steep)


def test_an_iterator_cannot_be_looked_through_again():
    with pytest.raises(
        Diverged, match="look for NaN and huge values in the data, which cannot be read again"
    ):
        fit(iter([*batches(*spoilt("input", float("nan")))]))


def test_a_metric_without_a_value_is_not_divergence_of_the_training():
    x, labels = of_classes()
    one_class = batches(x, torch.zeros(40, dtype=torch.long))
    model = nn.Linear(3, 2)
    with pytest.raises(Diverged, match="roc_auc has no value on the validation data, where the loss has one"):
        fit(
            batches(x, labels % 2),
            one_class,
            model,
            task_type="classification",
            num_classes=2,
            metric_for_best="roc_auc",
        )


class Noisy(Items):
    """Items that draw from the global random state."""

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        x, y = super().__getitem__(index)
        return x + torch.rand(3), y


def test_looking_for_the_item_draws_no_random_number():
    """After the error random numbers go on as they do after the engine's own."""
    huge = DataLoader(Noisy(line()[0] * 1e25, line()[1]), 8)
    set_seed(0)
    model = linear()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.01), device="cpu")
    with pytest.raises(Diverged, match="no longer finite"):
        trainer.engine.train_epoch(huge)
    expected = torch.rand(3)
    with pytest.raises(Diverged, match="the input of training item 0 is"):
        fit(huge)
    assert torch.equal(torch.rand(3), expected)


def test_numbers_of_another_precision_are_named():
    """numpy's floats are of double precision, and a number of 1e200 needs it."""
    x, y = line()
    wide = x.double()
    wide[13] = 1e200
    said = r"the input of {} item 0 is torch\.float64, and the network computes in torch\.float32.*convert"
    with pytest.raises(ConfigError, match=said.format("training")):
        fit(batches(wide, y), batches(x, y))
    with pytest.raises(ConfigError, match=said.format("validation")):
        fit(batches(x, y), batches(wide, y))
    with pytest.raises(ConfigError, match=said.format("training")):
        train(linear, Items(wide, y), shuffle=False)
    with pytest.raises(
        Diverged, match="the learning rate is not to blame: the input of training item 13 is inf"
    ):
        fit(batches(wide.float(), y))


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_targets_in_a_unit_whose_square_is_no_number_are_refused(unit):
    x, y = line()
    said = (
        "column 0 .* of the targets spreads by about .*the square of that is no number; look for huge values"
    )
    with pytest.raises(ConfigError, match=said):
        train(linear, Items(x, y.double() * unit))
    with pytest.raises(ConfigError, match=said):
        train(linear, Items(x, y, scale=[0, unit], regression_flags=[1]))


def test_one_huge_target_in_double_precision_is_noticed_before_training():
    x, y = line()
    one = torch.stack([y[:, 0], y[:, 0]], dim=1).double()
    one[13, 1] = 1e200
    with pytest.raises(
        ConfigError, match=r"column 1 .* spreads by about inf around 2e\+198.*look for huge values"
    ):
        train(lambda: nn.Linear(3, 2), Items(x, one))


def test_a_tiny_number_among_others_is_a_zero():
    x, y = line()
    y = y.double()
    y[13] = 1e-200
    zero = y.clone()
    zero[13] = 0
    losses = [train(linear, Items(x, targets)).history[-1].val for targets in (y, zero)]
    assert losses[0] == losses[1]


# --- classes --------------------------------------------------------------------------------


class CrossEntropy:
    """A criterion of one's own."""

    def __init__(self, dataset: Any) -> None:
        pass

    def __call__(self, output: Tensor, target: Tensor, weights: Any = None, unscaled: bool = False) -> Tensor:
        return F.cross_entropy(output, target)

    def postproc(self, pred: Tensor) -> Tensor:
        return pred


@pytest.mark.parametrize("label", [3, -1])
def test_a_class_out_of_range_is_named_with_its_item(label):
    bad, good = of_classes(at_13=label), of_classes()
    classes = {"task_type": "classification", "num_classes": 3}
    said = f"the target of {{}} item 13 is {label}, but 3 classes are numbered from 0 to 2"
    with pytest.raises(ConfigError, match=said.format("training")):
        fit(batches(*bad, shuffle=True), batches(*good), nn.Linear(3, 3), **classes)
    with pytest.raises(ConfigError, match=said.format("validation")):
        fit(batches(*good), batches(*bad), nn.Linear(3, 3), **classes)
    said = f"the target of training item 13 is {label}, which the network has no output for"
    own = {"loss_fn": nn.CrossEntropyLoss(), "metrics": {}}
    with pytest.raises(ConfigError, match=said):
        fit(batches(*bad), batches(*good), nn.Linear(3, 3), **own)
    with pytest.raises(ConfigError, match=said):
        train(lambda: nn.Linear(3, 3), Items(*bad), criterion=CrossEntropy)


def test_yes_and_no_are_the_only_answers():
    x, labels = of_classes()
    loss = get_loss_fn("classification", "bce_logits", 2)
    with pytest.raises(ConfigError, match="the target of training item 2 is 2, but 2 classes are numbered"):
        fit(batches(x, labels), model=linear(), task_type="classification", num_classes=2, loss_fn=loss)
    yes = Items(x, labels.float()[:, None], regression_flags=[0])
    with pytest.raises(ConfigError, match="item 2 holds a class that is neither 0 nor 1 in a yes-no column"):
        train(linear, yes)
    both = torch.stack([line()[1][:, 0], labels.float()], dim=1)
    with pytest.raises(ConfigError, match=r"item 2 .* yes-no column \(1, counted from 0\)"):
        train(lambda: nn.Linear(3, 2), Items(x, both, regression_flags=[1, 0], scale=[0, 1]))
    shares = Items(x, (labels.float() / 2)[:, None], regression_flags=[0])
    assert train(linear, shares).history


# --- batch normalization --------------------------------------------------------------------


def test_a_last_batch_of_one_item_joins_the_one_before():
    x, y = line(37)
    dataset = Items(x, y)
    first, second = (train(normalized, dataset, train_prop=33 / 37) for _ in range(2))
    assert [record.train for record in first.history] == [record.train for record in second.history]
    by_hand = build_loader(dataset, range(33), batch_size=16, device=torch.device("cpu"), merges_last=True)
    assert [len(batch[0]) for batch in by_hand] == [16, 17]
    assert len(by_hand) == 2
    shuffled = build_loader(
        dataset, range(33), batch_size=16, device=torch.device("cpu"), shuffle=True, merges_last=True
    )
    seen = torch.cat([batch[0] for batch in shuffled])
    assert sorted(seen[:, 0].tolist()) == sorted(x[:33, 0].tolist()) != seen[:, 0].tolist()


class Seen(nn.Module):
    """Notes the sizes of its training batches."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(x))
        return self.network(x)


class Picture(nn.Module):
    """Batch normalization over positions: one item has many values of a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(1), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x[:, None])[:, 0])


@pytest.mark.parametrize(
    ("net_builder", "items", "sizes"),
    [
        (normalized, 33, [16, 17]),
        (normalized, 34, [16, 16, 2]),
        (normalized, 32, [16, 16]),
        (linear, 33, [16, 16, 1]),
        (lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 1)), 33, [16, 16, 1]),
        (Picture, 33, [16, 16, 1]),
    ],
)
def test_batches_are_merged_only_where_training_was_impossible(net_builder, items, sizes):
    dataset = Items(*line(items + 4))
    trainer = train(lambda: Seen(net_builder()), dataset, train_prop=items / (items + 4), n_epochs=1)
    assert trainer.net.sizes == sizes  # pyright: ignore[reportAttributeAccessIssue]


class Idle(nn.BatchNorm1d):
    """A batch normalization by its class alone."""

    def forward(self, input: Tensor) -> Tensor:
        return input


def test_trying_one_item_changes_nothing():
    """The losses are those of a network that has the same layers, of a kind that is not tried."""

    plain = train(
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1)), Items(*line(37)), train_prop=33 / 37
    )
    tried = train(
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1), Idle(1, affine=False)),
        Items(*line(37)),
        train_prop=33 / 37,
    )
    assert [record.train for record in tried.history] == [record.train for record in plain.history]


def test_where_there_is_nothing_to_join_batch_normalization_is_named():
    with pytest.raises(ConfigError, match=r"^batch_size=1, and the network's batch normalization needs two"):
        train(normalized, Items(*line()), batch_size=1)
    with pytest.raises(ConfigError, match=r"^there is one item to train on"):
        train(normalized, Items(*line(2)))
    assert train(linear, Items(*line(2)), batch_size=1).history
    with pytest.raises(
        ConfigError, match=r"a training batch has one item, and batch normalization.*drop_last=True"
    ):
        fit(batches(*line(17)), batches(*line(10)), normalized())


# --- optimizers and loaders -----------------------------------------------------------------


def test_an_optimizer_of_another_model_is_refused():
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    said = r"holds 2 parameters, and none of them is the model's \(Linear\): it would train another one"
    with pytest.raises(ConfigError, match=said):
        Trainer(model, get_optimizer(other), device="cpu")
    both = torch.optim.SGD([*model.parameters(), *other.parameters()])
    head = torch.optim.SGD([model.bias])
    for optimizer in (get_optimizer(model), both, head):
        fit(batches(*line()), batches(*line(10)), model, optimizer=optimizer)


class WithScale(nn.Module):
    """A loss that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.scale * (output - target)).square().mean() - self.scale.log()


def test_an_optimizer_may_hold_a_loss_that_learns():
    loss = WithScale()
    fit(
        batches(*line()),
        model=linear(),
        loss_fn=loss,
        optimizer=torch.optim.SGD(loss.parameters()),
        metrics={},
    )
    assert loss.scale.item() != 1


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*line(5), strict=True)


def test_an_empty_loader_is_named_with_the_reason():
    full, few = batches(*line()), {"drop_last": True}
    drops = "returned no batch: its 5 items fill no batch of 8, and drop_last=True leaves out the rest; lower"
    with pytest.raises(ConfigError, match=f"the training loader {drops}"):
        fit(batches(*line(5), **few), full)
    with pytest.raises(ConfigError, match=f"the validation loader {drops}"):
        fit(full, batches(*line(5), **few))
    with pytest.raises(ConfigError, match="the training loader returned no batch: it has no items"):
        fit([], full)
    with pytest.raises(
        ConfigError, match="validation loader returned no batch in pass 2: an iterator is read once"
    ):
        fit(full, iter([*full]))
    with pytest.raises(
        ConfigError, match="training loader returned no batch in pass 2: an iterator is read once"
    ):
        fit(iter([*full]), full)
    assert fit(iter([*full]), full, epochs=1)
    model = linear()
    trainer = Trainer(model, get_optimizer(model), device="cpu")
    for use, part in (
        (trainer.train_epoch, "training"),
        (trainer.eval_epoch, "validation"),
        (trainer.predict, "prediction"),
    ):
        with pytest.raises(ConfigError, match=f"the {part} loader returned no batch"):
            use([])


def test_a_data_set_that_cannot_be_split_is_named():
    for n in (0, 1):
        with pytest.raises(
            ConfigError, match=f"the dataset has {n} items; training and validation need one each"
        ):
            train(linear, Items(*line(n)))
    with pytest.raises(ConfigError, match=r"the dataset \(Stream\) has no length"):
        train(linear, Stream())


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(batches(*line()), model=nn.Linear(4, 1))
    with pytest.raises(ZeroDivisionError):
        train(linear, Items(*line()), epoch_hook=lambda trainer: 1 / 0)
