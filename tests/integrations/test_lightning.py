"""The door to Lightning: the same model, trained by another trainer to the same figures."""

from __future__ import annotations

import warnings

import pytest
import torch

from nas_system.data import WindowLoader, build_windows
from nas_system.data.synthetic import synthetic_series
from nas_system.integrations.lightning import lightning_module
from nas_system.model import build_model
from nas_system.space import DataConfig, ForecastingTask, RunConfig, TrainingConfig
from nas_system.space.families import LinearConfig
from nas_system.training.loops import evaluate
from nas_system.training.objectives import Forecasting

lightning = pytest.importorskip("lightning")
torch.set_num_threads(1)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def windows():
    task = ForecastingTask(dataset="synthetic", train_rows=600, val_rows=150, test_rows=150)
    config = RunConfig(task=task, model=LinearConfig(), data=DataConfig(features="S", seq_len=48))
    return config, build_windows(synthetic_series(), config)


def fit(module, train, val, folder, epochs=2):
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        # It advises worker processes; these windows lie in memory and need none.
        warnings.simplefilter("ignore")
        trainer.fit(module, train, val)
    return trainer


@pytest.mark.parametrize("scheduler", ["none", "cosine", "plateau", "onecycle"])
def test_a_model_learns_in_place_and_its_figures_are_the_engines(windows, scheduler, tmp_path):
    config, parts = windows
    torch.manual_seed(0)
    model = build_model(config, parts.shape)
    val = WindowLoader(parts["val"], 40)
    train = WindowLoader(parts["train"], 64, generator=torch.Generator().manual_seed(0))
    before = evaluate(model, val, Forecasting(), CPU)["mse"]
    training = TrainingConfig(lr=0.01, scheduler=scheduler)
    module = lightning_module(model, training, steps_per_epoch=len(train) * 2)
    trainer = fit(module, train, val, tmp_path)
    after = evaluate(model, val, Forecasting(), CPU)
    assert after["mse"] < 0.9 * before
    # The last batch is smaller: only a mean weighted by samples agrees.
    assert len(parts["val"]) % 40
    assert trainer.callback_metrics["val_mse"].item() == pytest.approx(after["mse"], rel=1e-5)
    assert trainer.callback_metrics["val_mae"].item() == pytest.approx(after["mae"], rel=1e-5)


def test_the_rate_follows_the_configurations_schedule(windows, tmp_path):
    config, parts = windows
    model = build_model(config, parts.shape)
    module = lightning_module(model, TrainingConfig(lr=0.01, scheduler="step", step_size=1, gamma=0.1))
    trainer = fit(
        module, WindowLoader(parts["train"], 64), WindowLoader(parts["val"], 64), tmp_path, epochs=2
    )
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2)
