"""The `Trainer` as people use it: one import, fit, checkpoints, hooks, graph batches."""

import math
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from python_server import run_python
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas_system.errors import ConfigError, Diverged, StateError
from nas_system.training import (
    EarlyStopping,
    ReproducibilityContext,
    Trainer,
    get_device,
    get_loss_fn,
    get_metrics,
    get_optimizer,
    get_scheduler,
    log_model_info,
    set_seed,
)
from nas_system.training.batches import unpack
from nas_system.training.extras import import_extra
from nas_system.training.loops import DryRunStep
from nas_system.training.reproducibility import fastest_threads


def data(n=70, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]]))


def build(seed=1, scheduler="cosine_warmup", own_generator=False, dropout=0.2, **options):
    set_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 1))
    optimizer = get_optimizer(model, "adamw", lr=0.01)
    trainer = Trainer(
        model,
        optimizer,
        get_scheduler(optimizer, scheduler, 6, steps_per_epoch=9, patience=0),
        device="cpu",
        **options,
    )
    generator = torch.Generator().manual_seed(5) if own_generator else None
    train = DataLoader(data(), batch_size=8, shuffle=True, generator=generator)
    return trainer, train, DataLoader(data(33, seed=9), batch_size=8)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_fit_learns_and_returns_a_history_of_every_figure():
    trainer, train, val = build(dropout=0.0)
    history = trainer.fit(train, val, epochs=6)
    assert trainer.stop_reason == "completed"
    names = [f"{part}_{name}" for part in ("train", "val") for name in ("loss", "mse", "mae", "rmse")]
    assert list(history) == [*names, "lr", "seconds"]
    assert all(len(values) == 6 for values in history.values())
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert trainer.epoch == 5
    assert trainer.global_step == 6 * 9


def test_epoch_figures_are_those_of_all_samples_not_the_mean_of_batches():
    trainer, _, val = build()
    figures = trainer.eval_epoch(val)
    x, y = val.dataset.tensors
    with torch.no_grad():
        errors = trainer.model.eval()(x) - y
    assert figures["loss"] == pytest.approx(errors.square().mean().item(), rel=1e-6)
    assert figures["rmse"] == pytest.approx(errors.square().mean().sqrt().item(), rel=1e-6)
    by_batch = [part.square().mean().sqrt().item() for part in errors.split(8)]
    assert abs(sum(by_batch) / len(by_batch) - figures["rmse"]) > 1e-4


def test_predictions_come_in_order_and_need_no_target():
    trainer, _, val = build()
    x = val.dataset.tensors[0]
    with torch.no_grad():
        expected = trainer.model.eval()(x)
    for loader in (val, DataLoader(x, batch_size=8), DataLoader(TensorDataset(x), batch_size=8)):
        assert torch.allclose(trainer.predict(loader), expected, atol=1e-6)


@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("scheduler", ["cosine_warmup", "onecycle", "plateau"])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, scheduler, own_generator):
    whole, train, val = build(scheduler=scheduler, own_generator=own_generator)
    expected = whole.fit(train, val, epochs=6)

    first, train, val = build(scheduler=scheduler, own_generator=own_generator, checkpoint_dir=tmp_path)
    first.fit(train, val, epochs=3)

    resumed, train, val = build(seed=77, scheduler=scheduler, own_generator=own_generator)
    told = resumed.load_checkpoint(tmp_path / "last.pt")
    assert told["epoch"] == 2
    torch.rand(13)  # whatever happens before `fit` changes nothing
    history = resumed.fit(train, val, epochs=6)
    assert torch.equal(weights(whole), weights(resumed))
    for name in set(history) - {"seconds"}:
        assert history[name] == expected[name], name


def test_a_checkpoint_has_the_documented_keys_and_holds_no_code(tmp_path):
    trainer, train, val = build(checkpoint_dir=tmp_path / "checkpoints", config={"name": "x"})
    trainer.fit(train, val, epochs=2)
    path = trainer.save_checkpoint("model.pt")
    assert path == tmp_path / "checkpoints" / "model.pt"
    content = torch.load(path, weights_only=True)
    assert {
        "model", "optimizer", "scheduler", "epoch", "global_step", "best_metric", "best_epoch", "metrics"
    } <= set(content)  # fmt: skip
    assert (content["epoch"], content["global_step"], content["config"]) == (1, 18, {"name": "x"})
    assert content["best_metric"] == min(trainer.history["val_loss"])
    assert content["metrics"]["val_loss"] == trainer.history["val_loss"][-1]
    nn.Sequential(*trainer.model).load_state_dict(content["model"])
    with pytest.raises(StateError, match="there is no checkpoint"):
        trainer.load_checkpoint("modle.pt")


def test_best_is_the_best_epoch_and_last_the_last(tmp_path):
    trainer, train, val = build(checkpoint_dir=tmp_path, dropout=0.5)
    history = trainer.fit(train, val, epochs=6)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == history["val_loss"].index(min(history["val_loss"]))
    trainer.load_checkpoint("best.pt")
    assert trainer.eval_epoch(val)["loss"] == min(history["val_loss"])
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 5


def test_a_misspelt_metric_is_refused_before_the_first_step():
    trainer, train, val = build()
    told = "metric_for_best='val_mea' is not measured; choose from: loss, mse, mae, rmse"
    with pytest.raises(ValueError, match=told):
        trainer.fit(train, val, epochs=1, metric_for_best="val_mea")
    assert trainer.global_step == 0


def test_early_stopping_waits_its_patience():
    trainer, train, val = build()
    for group in trainer.engine.optimizer.param_groups:
        group["lr"] = 0.0
    trainer.engine.scheduler = None
    history = trainer.fit(train, val, epochs=50, early_stopping=3)
    assert trainer.stop_reason == "early_stopping"
    assert len(history["val_loss"]) == 4
    # Already exhausted: nothing more to train until somebody allows more.
    assert len(trainer.fit(train, val, epochs=50, early_stopping=3)["val_loss"]) == 4
    assert len(trainer.fit(train, val, epochs=50, early_stopping=5)["val_loss"]) == 6


def classification(task, loss_fn=None, metrics=None, num_classes=2, columns=2):
    set_seed(0)
    x = torch.randn(90, 3)
    y = (x[:, 0] + 0.7 * torch.randn(90) > 0.8).long()
    model = nn.Linear(3, columns)
    trainer = Trainer(
        model,
        get_optimizer(model, lr=0.05),
        loss_fn=loss_fn,
        metrics=metrics,
        task_type=task,
        num_classes=num_classes,
        device="cpu",
    )
    return trainer, DataLoader(TensorDataset(x, y), batch_size=7), (x, y)


def test_a_growing_metric_is_maximised_without_being_told():
    trainer, loader, _ = classification("classification")
    history = trainer.fit(loader, loader, epochs=5, metric_for_best="roc_auc")
    assert trainer.engine.progress.best == max(history["val_roc_auc"])
    trainer.fit(loader, loader, epochs=5, metric_for_best="roc_auc", minimize_metric=True)
    assert trainer.engine.progress.best == min(history["val_roc_auc"])


def test_an_area_under_the_curve_is_computed_over_the_whole_pass():
    trainer, loader, (x, y) = classification("classification")
    with torch.no_grad():
        logits = trainer.model.eval()(x)
    whole = float(get_metrics("classification", 2)["roc_auc"](logits, y))
    assert trainer.eval_epoch(loader)["roc_auc"] == pytest.approx(whole)


def test_one_logit_with_bce_and_edges():
    bce = get_loss_fn("classification", loss_type="bce_logits", num_classes=2)
    trainer, loader, _ = classification("classification", loss_fn=bce, columns=1)
    history = trainer.fit(loader, None, epochs=8, metric_for_best="accuracy")
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert not any(name.startswith("val_") for name in history)
    trainer, loader, _ = classification("edge_prediction", columns=1)
    assert set(trainer.eval_epoch(loader)) == {"loss", "roc_auc", "ap", "precision@10"}


def test_classification_without_the_number_of_classes_asks_for_it():
    with pytest.raises(ValueError, match="needs the number of classes"):
        classification("classification", num_classes=None)


def test_own_losses_and_metrics_are_welcome():
    trainer, train, val = build(
        loss_fn=nn.SmoothL1Loss(), metrics={"worst": lambda output, target: (output - target).abs().max()}
    )
    history = trainer.fit(train, val, epochs=2, metric_for_best="worst")
    assert trainer.engine.progress.best == min(history["val_worst"])


def test_weights_that_the_loss_does_not_know_are_not_dropped_in_silence():
    x, y = data().tensors
    loader = DataLoader(TensorDataset(x, torch.full((70,), 3.0), y), batch_size=70)
    trainer, _, _ = build()
    plain = trainer.eval_epoch([(x, y)])["loss"]
    assert trainer.eval_epoch(loader)["loss"] == pytest.approx(3 * plain, rel=1e-5)
    trainer, _, _ = build(loss_fn=nn.MSELoss())
    with pytest.raises(TypeError):
        trainer.eval_epoch(loader)


class GraphBatch:
    """As a batch of PyTorch Geometric looks to a trainer."""

    def __init__(self, x, index, y):
        self.x, self.index, self.y, self.num_graphs = x, index, y, len(y)

    def to(self, device, non_blocking=False):
        return GraphBatch(self.x.to(device), self.index.to(device), self.y.to(device))


class GraphModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, batch):
        sums = torch.zeros(batch.num_graphs, 2).index_add_(0, batch.index, batch.x)
        return self.layer(sums)


def test_graph_batches_are_passed_on_whole_and_weighted_by_graphs():
    set_seed(0)
    batches = []
    for graphs in (5, 2):
        index = torch.arange(graphs).repeat_interleave(3)
        x = torch.randn(len(index), 2)
        batches.append(GraphBatch(x, index, torch.zeros(graphs).index_add_(0, index, x[:, 0])))
    model = GraphModel()
    trainer = Trainer(model, get_optimizer(model, lr=0.1), device="cpu")
    with torch.no_grad():
        errors = torch.cat([model(batch).squeeze(1) - batch.y for batch in batches])
    assert trainer.eval_epoch(batches)["loss"] == pytest.approx(errors.square().mean().item(), rel=1e-6)
    history = trainer.fit(batches, batches, epochs=60)
    assert history["val_loss"][-1] < 0.1 * history["val_loss"][0]
    assert trainer.predict(batches).shape == (7, 1)


def test_mappings_are_batches_too():
    x, y = data().tensors
    trainer, _, _ = build()
    assert trainer.eval_epoch([{"X": x, "y": y}]) == trainer.eval_epoch([(x, y)])


def test_bf16_trains():
    trainer, train, val = build(mixed_precision=True, dropout=0.0)
    assert trainer.engine.amp.name == "bf16"
    history = trainer.fit(train, val, epochs=6)
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_hooks_hear_every_nth_step_and_every_epoch():
    trainer, train, val = build(log_every=4, scheduler="onecycle")
    heard = []
    trainer.add_log_hook(lambda metrics, step, prefix: heard.append((prefix, step, dict(metrics))))
    history = trainer.fit(train, val, epochs=2)
    assert [(prefix, step) for prefix, step, _ in heard] == [
        ("train", 4), ("train", 8), ("train_epoch", 9), ("val", 9),
        ("train", 12), ("train", 16), ("train_epoch", 18), ("val", 18),
    ]  # fmt: skip
    assert heard[3][2]["loss"] == history["val_loss"][0]
    assert set(heard[0][2]) == {"loss", "lr"}
    trainer.train_epoch(train)
    assert [(prefix, step) for prefix, step, _ in heard[8:]] == [("train", 20), ("train", 24)]


def test_nan_is_an_error_and_not_a_result():
    trainer, train, val = build()
    with torch.no_grad():
        trainer.model[0].weight.fill_(math.nan)
    with pytest.raises(Diverged):
        trainer.fit(train, val, epochs=1)
    assert trainer.stop_reason is None


def test_seeds_fix_all_three_generators_and_the_context_gives_them_back():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    set_seed(7)
    first, second = draw(), draw()
    set_seed(7)
    assert draw() == first
    with ReproducibilityContext(seed=123) as context:
        inside = draw()
        assert context.deterministic
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert draw() == second
    with ReproducibilityContext(seed=123, deterministic=False):
        assert draw() == inside


def test_early_stopping_alone():
    stop = EarlyStopping(patience=2, mode="max")
    assert [stop(value) for value in (0.1, 0.5, math.nan, 0.6, 0.6, 0.2)] == [False] * 5 + [True]
    assert (stop.best, stop.best_epoch) == (0.6, 3)
    with pytest.raises(ValueError, match="min, max"):
        EarlyStopping(patience=2, mode="minimum")


def test_device_and_model_information(caplog):
    assert get_device("cpu") == torch.device("cpu")
    assert get_device().type in ("cpu", "cuda")
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    with caplog.at_level("INFO"):
        info = log_model_info(model)
    assert (info["parameters"], info["trainable"]) == (8, 6)
    assert "Linear: 8 parameters, 6 trainable" in caplog.text


def test_measuring_threads_changes_nothing():
    trainer, train, _ = build()
    batch = next(iter(train))
    before, state, threads = weights(trainer).clone(), torch.get_rng_state(), torch.get_num_threads()
    engine = trainer.engine
    step = DryRunStep(engine.model, engine.objective, engine.optimizer, engine.amp)
    assert fastest_threads(lambda: step.gradient(unpack(batch, engine.device)), (1, 2)) in (1, 2)
    assert torch.equal(before, weights(trainer))
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    with pytest.raises(ConfigError, match="at least one thread"):
        fastest_threads(lambda: None, (0, 1))


def test_the_count_that_is_faster_is_found():
    import time

    def step():
        time.sleep(0.02 / torch.get_num_threads())

    assert fastest_threads(step, (1, 2)) == 2
    assert fastest_threads(lambda: time.sleep(0.005), (1, 2)) == 1


def test_the_package_loads_only_what_is_asked_for():
    code = (
        "import sys, nas_system.training\n"
        "before = 'torch' in sys.modules\n"
        "from nas_system.training import Trainer, get_metrics\n"
        "print(before, 'torch' in sys.modules, Trainer.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "Trainer"]


def test_a_training_loads_no_package_for_graphs():
    code = (
        "import sys, torch\n"
        "from nas_system.training import Trainer, get_optimizer\n"
        "model = torch.nn.Linear(2, 1)\n"
        "trainer = Trainer(model, get_optimizer(model), device='cpu')\n"
        "trainer.fit([(torch.ones(3, 2), torch.ones(3, 1))], epochs=1)\n"
        "print(trainer.stop_reason, any(name.startswith('torch_geometric') for name in sys.modules))\n"
    )
    done = run_python(["-c", code])
    assert done.stdout.split() == ["completed", "False"]


def test_a_missing_package_names_its_extra():
    with pytest.raises(ConfigError, match=r"pip install 'nas-agent\[wandb\]'"):
        import_extra("a_package_that_is_not_there", "wandb")


def test_tensorboard_gets_every_figure(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from nas_system.integrations.tensorboard import TensorBoardHook

    trainer, train, val = build(log_every=9)
    with TensorBoardHook(tmp_path) as hook:
        trainer.add_log_hook(hook)
        history = trainer.fit(train, val, epochs=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("val/loss")]
    assert curve == [(9, pytest.approx(history["val_loss"][0])), (18, pytest.approx(history["val_loss"][1]))]
    assert len(events.Scalars("train/lr")) == 2


def test_wandb_writes_a_run_without_a_network(tmp_path):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    code = (
        "import sys\n"
        "from nas_system.integrations.wandb import WandbHook\n"
        "with WandbHook('test', log_dir=sys.argv[1], config={'lr': 1}) as hook:\n"
        "    hook({'loss': 0.5}, 3, 'train')\n"
        "    hook({'loss': 0.25}, 4, 'val')\n"
    )
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    done = run_python(["-c", code, str(tmp_path)], env=environment)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # A log of protocol buffers that hold names and values as text.
    written = record.read_bytes()
    assert re.search(rb"train/loss.{0,8}0\.5.*val/loss.{0,8}0\.25", written, flags=re.DOTALL)
