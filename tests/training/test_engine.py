"""The engine: right gradients, weighted means, exact resume, one exit for every end."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from nas_system.errors import Diverged, StateError, StoppedOnRequest
from nas_system.space import TrainingConfig
from nas_system.training.batches import unpack
from nas_system.training.callbacks import BestCheckpoint, LastCheckpoint, TimeBudget
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint
from nas_system.training.eager import skip_compiler_import, step_eagerly
from nas_system.training.engine import Engine
from nas_system.training.loops import evaluate
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.progress import Progress
from nas_system.training.scheduler import build_scheduler

CPU = torch.device("cpu")


class Shuffled:
    """A loader over tensors whose order comes from a generator."""

    def __init__(self, x, y, batch_size, generator=None):
        self.x, self.y, self.batch_size, self.generator = x, y, batch_size, generator

    def __iter__(self):
        n = len(self.x)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        for chosen in order.split(self.batch_size):
            yield self.x[chosen], self.y[chosen]


def problem(seed=0, n=70):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def build(seed=3, patience=None, lr=0.01, scheduler="cosine", max_epochs=6, dropout=0.2, **training):
    torch.manual_seed(seed)
    config = TrainingConfig(lr=lr, scheduler=scheduler, max_epochs=max_epochs, **training)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 1))
    skip_compiler_import()
    optimizer = step_eagerly(build_optimizer(model, config, CPU))
    generator = torch.Generator().manual_seed(seed)
    engine = Engine(
        model,
        optimizer,
        Forecasting(config.loss),
        CPU,
        Progress(patience=patience),
        scheduler=build_scheduler(optimizer, config),
        generator=generator,
    )
    x, y = problem()
    return engine, Shuffled(x[:50], y[:50], 8, generator), Shuffled(x[50:], y[50:], 7)


def test_training_lowers_the_loss_and_ends_as_completed():
    engine, train, val = build(max_epochs=30, lr=0.05, dropout=0.0)
    assert engine.fit(train, val, 30) == "completed"
    first, last = engine.history[0], engine.history[-1]
    assert last.val["mse"] < 0.05 * first.val["mse"]
    assert engine.steps == 30 * math.ceil(50 / 8)


def test_epoch_means_are_weighted_by_batch_size():
    engine, _, val = build()
    x, y = val.x, val.y
    figures = evaluate(engine.model, val, engine.objective, CPU)
    with torch.no_grad():
        error = engine.model.eval()(x) - y
    assert figures["mse"] == pytest.approx(error.square().mean().item(), rel=1e-6)
    assert figures["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-6)


@pytest.mark.parametrize("scheduler", ["none", "cosine", "step", "plateau"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path, scheduler):
    whole, train, val = build(scheduler=scheduler)
    whole.fit(train, val, 6)

    begun, train, val = build(scheduler=scheduler)
    last = LastCheckpoint(tmp_path / "last.pth", "key")

    class Crash:
        def epoch_ended(self, engine, record):
            if record.epoch == 2:
                raise StoppedOnRequest("kill")

        def fit_ended(self, engine, reason):
            self.reason = reason

    crash = Crash()
    with pytest.raises(StoppedOnRequest):
        begun.fit(train, val, 6, [last, crash])
    assert crash.reason == "stopped"

    resumed, train, val = build(seed=99, scheduler=scheduler)
    resumed.load_state_dict(load_checkpoint(tmp_path / "last.pth"))
    resumed.fit(train, val, 6, [last])
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert [r.val for r in whole.history] == [r.val for r in resumed.history]
    assert [r.lr for r in whole.history] == [r.lr for r in resumed.history]
    assert not (tmp_path / "last.pth").exists()


def test_early_stopping_keeps_the_best_weights(tmp_path):
    engine, train, val = build(patience=2, lr=0.05, max_epochs=200, dropout=0.5)
    best = BestCheckpoint(tmp_path / "best.pth", {})
    assert engine.fit(train, val, 200, [best]) == "early_stopping"
    assert len(engine.history) == engine.progress.best_epoch + 3
    engine.model.load_state_dict(load_checkpoint(tmp_path / "best.pth", sha256=best.sha256)["model"])
    assert evaluate(engine.model, val, engine.objective, CPU)["mse"] == engine.progress.best


def test_a_diverging_training_says_so_and_where():
    engine, train, val = build(lr=0.1, optimizer="sgd", momentum=0.999, max_epochs=50, dropout=0.0)
    for group in engine.optimizer.param_groups:
        group["lr"] = 1e6
    told = []

    class Witness:
        def epoch_ended(self, engine, record):
            return None

        def fit_ended(self, engine, reason):
            told.append(reason)

    with pytest.raises(Diverged, match=r"no longer finite after step 7|validation score is"):
        engine.fit(train, val, 50, [Witness()])
    assert told == ["diverged"]


def test_the_time_budget_ends_a_training_after_an_epoch():
    engine, train, val = build()
    assert engine.fit(train, val, 6, [TimeBudget(0.0, started=0.0)]) == "time_budget"
    assert len(engine.history) == 1


def test_gradient_clipping_bounds_the_step():
    engine, train, val = build(optimizer="sgd", momentum=0.0, lr=0.1, scheduler="none", dropout=0.0)
    engine.grad_clip = 1e-3
    before = [p.detach().clone() for p in engine.model.parameters()]
    first = next(iter(train))
    engine.fit([first], val, 1)
    moved = sum((a - b.detach()).square().sum() for a, b in zip(before, engine.model.parameters(), strict=True)).sqrt().item()
    assert moved == pytest.approx(0.1 * 1e-3, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_short_cut_step_equals_the_optimizers_own(optimizer):
    def train_some(short_cut):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        built = build_optimizer(model, TrainingConfig(optimizer=optimizer, weight_decay=0.01), CPU)
        if short_cut:
            built = step_eagerly(built)
        x, y = problem()
        for _ in range(5):
            built.zero_grad()
            (model(x) - y).square().mean().backward()
            built.step()
        return model.weight.detach()

    assert torch.equal(train_some(True), train_some(False))


def test_an_eager_training_does_not_import_the_compiler():
    code = (
        "import sys, torch\n"
        "from nas_system.space import TrainingConfig\n"
        "from nas_system.training.eager import skip_compiler_import, step_eagerly\n"
        "from nas_system.training.optimizer import build_optimizer\n"
        "from nas_system.training.scheduler import build_scheduler\n"
        "skip_compiler_import()\n"
        "model = torch.nn.Linear(2, 1)\n"
        "config = TrainingConfig()\n"
        "optimizer = step_eagerly(build_optimizer(model, config, torch.device('cpu')))\n"
        "scheduler = build_scheduler(optimizer, config)\n"
        "model(torch.ones(1, 2)).sum().backward()\n"
        "optimizer.step(); optimizer.zero_grad(); scheduler.step(); optimizer.state_dict()\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_batches_are_unpacked_by_their_type():
    x, y, w = torch.ones(3, 2), torch.zeros(3, 1), torch.full((3,), 2.0)
    assert unpack((x, y), CPU).n == 3
    assert len(unpack(([x, x], y), CPU).args) == 2
    assert torch.equal(unpack((x, w, y), CPU).weight, w)
    assert torch.equal(unpack({"X": x, "y": y}, CPU).target, y)
    with pytest.raises(TypeError, match="cannot train on a batch of type str"):
        unpack("text", CPU)


class TestCheckpoint:
    def test_a_pickle_bomb_is_refused_and_nothing_runs(self, tmp_path):
        canary = tmp_path / "canary"

        class Bomb:
            def __reduce__(self):
                return (open, (str(canary), "w"))

        torch.save({"schema_version": 1, "model": Bomb()}, tmp_path / "bomb.pth")
        with pytest.raises(StateError, match="refused"):
            load_checkpoint(tmp_path / "bomb.pth")
        assert not canary.exists()

    @pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04" + b"\0" * 100])
    def test_what_is_no_checkpoint_is_named(self, tmp_path, content):
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(StateError, match="x.pth"):
            load_checkpoint(path)

    def test_a_truncated_and_a_flipped_file_are_refused(self, tmp_path):
        path = tmp_path / "x.pth"
        checksum = save_checkpoint(path, {"model": {"w": torch.ones(100)}})
        assert torch.equal(load_checkpoint(path, sha256=checksum)["model"]["w"], torch.ones(100))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(StateError, match="changed or damaged"):
            load_checkpoint(path, sha256=checksum)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(StateError, match="not a readable checkpoint"):
            load_checkpoint(path)

    def test_a_newer_schema_is_refused(self, tmp_path):
        torch.save({"schema_version": 99}, tmp_path / "x.pth")
        with pytest.raises(StateError, match="newer"):
            load_checkpoint(tmp_path / "x.pth")
