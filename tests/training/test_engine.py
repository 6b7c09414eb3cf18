"""The engine: right gradients, weighted means, exact resume, one exit for every end."""

import json
import math
import random
import time

import numpy as np
import pytest
import torch
from python_server import run_python
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas_system.errors import Diverged, StateError, StoppedOnRequest
from nas_system.space import TrainingConfig
from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.batches import unpack
from nas_system.training.callbacks import (
    MOST_WAITING_BYTES,
    BestCheckpoint,
    DelayedWrites,
    HistoryFile,
    LastCheckpoint,
    StopFile,
    TimeBudget,
)
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.loops import evaluate
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.reproducibility import set_seed
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
        EarlyStoppingState(patience=patience),
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


def test_files_of_short_epochs_are_written_once_in_a_while_and_at_the_end(tmp_path):
    """Stopped between two writes, a training has lost nothing."""
    whole, train, val = build()
    whole.fit(train, val, 6)
    paths = {name: tmp_path / name for name in ("best.pth", "history.json", "last.pth")}
    times, seen = iter([0.0, 0.0, 0.4, 0.8, 1.5, 1.5, 2.0, 2.0]), []

    class Watch:
        def epoch_ended(self, engine, record):
            if paths["last.pth"].exists():
                seen.append((record.epoch, len(load_checkpoint(paths["last.pth"])["history"])))
                assert len(json.loads(paths["history.json"].read_text())["epochs"]) == seen[-1][1]
                saved = load_checkpoint(paths["best.pth"])["epoch"]
                assert saved == min(engine.history[: seen[-1][1]], key=lambda r: r.val["mse"]).epoch
            if record.epoch == 4:
                raise StoppedOnRequest("between two writes")

        def fit_ended(self, engine, reason):
            pass

    def callbacks(writes):
        return [
            BestCheckpoint(paths["best.pth"], {}, writes),
            HistoryFile(
                paths["history.json"], lambda h: paths["history.json"].write_text(json.dumps(h)), writes
            ),
            LastCheckpoint(paths["last.pth"], "key", writes),
            writes,
        ]

    begun, train, val = build()
    with pytest.raises(StoppedOnRequest):
        begun.fit(train, val, 6, [*callbacks(DelayedWrites(clock=lambda: next(times))), Watch()])
    # After the epochs at 0.0 and 1.5 seconds.
    assert seen == [(0, 1), (1, 1), (2, 1), (3, 4), (4, 4)]

    resumed, train, val = build(seed=99)
    resumed.load_state_dict(load_checkpoint(paths["last.pth"]))
    assert len(resumed.history) == 5
    best = callbacks(DelayedWrites())
    best[0].resume()
    resumed.fit(train, val, 6, best)
    assert [r.val for r in whole.history] == [r.val for r in resumed.history]
    assert not paths["last.pth"].exists()
    assert load_checkpoint(paths["best.pth"], sha256=best[0].sha256)["epoch"] == whole.progress.best_epoch
    assert len(json.loads(paths["history.json"].read_text())["epochs"]) == 6


def test_large_files_do_not_wait_in_memory(tmp_path):
    written, writes = [], DelayedWrites(clock=lambda: 0.0)
    for epoch in range(3):
        writes.put(tmp_path, lambda epoch=epoch: written.append(epoch), MOST_WAITING_BYTES + 1)
        writes.epoch_ended(None, None)
    assert written == [0, 1, 2]


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
    pairs = zip(before, engine.model.parameters(), strict=True)
    moved = sum((a - b.detach()).square().sum() for a, b in pairs).sqrt().item()
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
        "from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly\n"
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
    done = run_python(["-c", code])
    assert done.stdout.strip() == "False"


def test_batches_are_unpacked_by_their_type():
    x, y, w = torch.ones(3, 2), torch.zeros(3, 1), torch.full((3,), 2.0)
    assert unpack((x, y), CPU).n == 3
    assert len(unpack(([x, x], y), CPU).args) == 2
    assert torch.equal(unpack((x, w, y), CPU).weight, w)
    assert torch.equal(unpack({"X": x, "y": y}, CPU).target, y)
    with pytest.raises(TypeError, match="cannot train on a batch of type str"):
        unpack("text", CPU)


class Witness:
    """Notes what it is told; fails where it is asked to."""

    def __init__(self, reason=None, fails_in=()):
        self.reason, self.fails_in, self.epochs, self.told = reason, fails_in, 0, []

    def epoch_ended(self, engine, record):
        self.epochs += 1
        if "epoch_ended" in self.fails_in:
            raise OSError("disk full")
        return self.reason

    def fit_ended(self, engine, reason):
        self.told.append(reason)
        if "fit_ended" in self.fails_in:
            raise OSError("disk still full")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (Diverged("x"), "diverged"),
        (StoppedOnRequest("x"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (OSError(), "error"),
    ],
)
def test_whatever_ends_a_training_every_callback_hears_it_once(raised, told):
    engine, train, val = build()
    witnesses = [Witness(), Witness()]

    def after_step():
        if engine.steps == 10:
            raise raised

    with pytest.raises(type(raised)):
        engine.fit(train, val, 6, witnesses, after_step=after_step)
    assert [witness.told for witness in witnesses] == [[told], [told]]
    assert engine.steps == 10


@pytest.mark.parametrize("fails_in", [("epoch_ended",), ("fit_ended",), ("epoch_ended", "fit_ended")])
def test_a_callback_that_fails_keeps_the_others_informed(fails_in):
    engine, train, val = build()
    first, failing, last = Witness(), Witness(fails_in=fails_in), Witness()
    with pytest.raises(OSError, match="disk"):
        engine.fit(train, val, 1, [first, failing, last])
    told = ["error"] if "epoch_ended" in fails_in else ["completed"]
    assert (first.told, failing.told, last.told) == (told, told, told)


def test_the_first_callback_with_a_reason_names_the_end():
    engine, train, val = build()
    witnesses = [Witness(), Witness("time_budget"), Witness("stop_file")]
    assert engine.fit(train, val, 6, witnesses) == "time_budget"
    assert [(witness.epochs, witness.told) for witness in witnesses] == [(1, ["time_budget"])] * 3


def test_a_stop_file_ends_after_the_epoch_and_is_removed(tmp_path):
    engine, train, val = build()
    path = tmp_path / "stop"

    def after_step():
        if engine.steps == 10:
            path.touch()

    assert engine.fit(train, val, 6, [StopFile(path)], after_step=after_step) == "stop_file"
    assert len(engine.history) == 2
    assert not path.exists()


class Counter(Witness):
    """A callback with state."""

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


def test_callbacks_and_all_random_states_survive_a_resume(tmp_path):
    def fit(engine, epochs, callbacks, train, val):
        drawn = []

        def draw():
            drawn.append((random.random(), float(np.random.rand()), torch.rand(1).item()))

        engine.fit(train, val, epochs, callbacks, after_step=draw)
        return drawn

    set_seed(3)
    whole, train, val = build()
    expected = fit(whole, 4, [], train, val)

    set_seed(3)
    begun, train, val = build()
    # Before the counters in the list, and yet it holds what they learnt of the same epoch.
    fit(begun, 2, [Keep(tmp_path / "kept.pth", after=2), Counter(), Counter()], train, val)

    set_seed(99)
    resumed, train, val = build(seed=99)
    resumed.load_state_dict(load_checkpoint(tmp_path / "kept.pth"))
    counters = [Counter(), Counter()]
    random.random(), np.random.rand(), torch.rand(5)
    drawn = fit(resumed, 4, counters, train, val)
    assert drawn == expected[14:]
    assert [counter.epochs for counter in counters] == [4, 4]
    assert [r.val for r in resumed.history] == [r.val for r in whole.history]


class Keep:
    """Writes the engine's state after so many epochs."""

    def __init__(self, path, after):
        self.path, self.after = path, after

    def epoch_ended(self, engine, record):
        if record.epoch + 1 == self.after:
            save_checkpoint(self.path, engine.state_dict())

    def fit_ended(self, engine, reason):
        pass


def freeze(engine):
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0


def test_a_training_that_had_lost_its_patience_does_not_go_on_after_a_resume():
    engine, train, val = build(patience=1, dropout=0.0, scheduler="none")
    freeze(engine)
    assert engine.fit(train, val, 9) == "early_stopping"
    epochs = len(engine.history)
    resumed, train, val = build(patience=1)
    resumed.load_state_dict(engine.state_dict())
    assert resumed.fit(train, val, 9) == "early_stopping"
    assert len(resumed.history) == epochs


@pytest.mark.parametrize("grad_clip", [0.0, 0.05])
def test_accumulated_batches_step_like_one_large_batch_also_in_the_last_group(grad_clip):
    def trained(batch_size, accumulation_steps):
        engine, _, val = build(optimizer="sgd", lr=0.1, dropout=0.0, scheduler="none")
        engine.accumulation_steps, engine.grad_clip = accumulation_steps, grad_clip
        x, y = problem()
        engine.fit(Shuffled(x[:50], y[:50], batch_size), val, 2)
        return engine

    # 50 rows: 24, 24, 2 against groups of three batches of 8, the last of one batch of 2; then 20, 20, 10.
    for large, small in ((24, 8), (20, 4)):
        whole, parts = trained(large, 1), trained(small, large // small)
        assert parts.steps == whole.steps == 2 * 3
        for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        assert parts.history[1].train == pytest.approx(whole.history[1].train, rel=1e-4)


def test_small_batches_judged_together_give_the_mean_over_samples():
    engine, _, _ = build(dropout=0.0, scheduler="none")
    freeze(engine)
    x, y = problem(n=403)
    figures = engine.train_epoch(Shuffled(x, y, 3))
    with torch.no_grad():
        error = engine.model(x) - y
    assert figures["mse"] == pytest.approx(error.square().mean().item(), rel=1e-5)
    assert figures["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)


def test_a_schedule_may_advance_with_every_step():
    engine, train, val = build(scheduler="none")
    engine.scheduler = torch.optim.lr_scheduler.OneCycleLR(engine.optimizer, max_lr=0.1, total_steps=2 * 7)
    engine.scheduler_per_step = True
    seen = []
    engine.fit(train, val, 2, after_step=lambda: seen.append(engine.scheduler.get_last_lr()[0]))
    assert len(set(seen)) == 14
    assert max(seen) == pytest.approx(0.1, rel=0.02)


def test_without_a_validation_part_the_training_figures_decide():
    engine, train, _ = build()
    engine.fit(train, None, 3)
    assert all(record.val == {} for record in engine.history)
    assert engine.progress.best == min(record.train["mse"] for record in engine.history)


def test_the_time_is_split_without_a_gap():
    engine, train, val = build()
    engine.fit(train, val, 6)
    timing = engine.timing
    parts = [timing[f"{part}_sec"] for part in ("data", "forward", "backward", "optimizer", "evaluation")]
    assert all(seconds > 0 for seconds in parts)
    # The epochs' own clock, started before the first lap and stopped after the last, bounds them.
    assert sum(parts) <= sum(record.seconds for record in engine.history) + 1e-3
    assert timing["steps_per_sec"] == pytest.approx(engine.steps / sum(parts[:4]), rel=0.05)


def test_waiting_for_data_counts_as_data():
    engine, _, _ = build()

    class Slow(Shuffled):
        def __iter__(self):
            for batch in super().__iter__():
                time.sleep(0.01)
                yield batch

    x, y = problem()
    engine.train_epoch(Slow(x, y, 10))
    assert 0.07 <= engine.timing["data_sec"] < 0.2
    assert engine.timing["data_sec"] > 3 * engine.timing["forward_sec"]


class Reads(TorchDispatchMode):
    """Counts the operations that make the host wait for a value."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_no_step_waits_for_the_device_but_every_hundredth(accumulation_steps):
    def reads(rows):
        engine, _, _ = build(scheduler="none")
        engine.grad_clip, engine.accumulation_steps = 1.0, accumulation_steps
        x, y = problem(n=rows)
        with Reads() as counted:
            engine.train_epoch(Shuffled(x, y, 1))
        return counted.count

    steps = 99 * accumulation_steps
    at_the_end = reads(2)
    assert reads(steps) == at_the_end
    assert reads(2 * steps + 10 * accumulation_steps) == at_the_end + 2


def test_a_compiled_training_equals_an_eager_one_and_keeps_its_names():
    def trained(compile):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        engine = Engine(model, optimizer, Forecasting(), CPU, EarlyStoppingState(), compile=compile)
        x, y = problem()
        engine.fit(Shuffled(x, y, 10), Shuffled(x, y, 10), 2)
        return engine

    eager, compiled = trained(False), trained("eager")
    assert compiled._network is not compiled.model
    assert list(compiled.state_dict()["model"]) == ["weight", "bias"]
    assert torch.equal(eager.model.weight, compiled.model.weight)
    assert [r.val for r in eager.history] == [r.val for r in compiled.history]


def test_an_impossible_accumulation_is_refused():
    with pytest.raises(ValueError, match="accumulation_steps=0"):
        Engine(nn.Linear(1, 1), None, Forecasting(), CPU, EarlyStoppingState(), accumulation_steps=0)


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
        with pytest.raises(StateError, match=r"x\.pth"):
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
