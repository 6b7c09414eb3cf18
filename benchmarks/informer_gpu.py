"""Twenty epochs of the 4,886,017-parameter Informer on ETTh1 on a CUDA device, plain and captured.

    python benchmarks/informer_gpu.py [--data-dir DIR] [--epochs 20] [--precision bf16]

The large Informer as published (96 steps back, 48 + 24 in the decoder, batch 32), trained by the
engine kernel by kernel and with its step captured in a CUDA graph. Validation after every epoch is
part of the time; start-up and reading the data are not. Without a CUDA device it says so and reports
nulls.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from nas_system.config_io.config_file import named_config
from nas_system.data import TaskWindows, WindowLoader, build_windows, load_series, locate
from nas_system.model import build_model
from nas_system.sequential.informer import core_from_config
from nas_system.space import RunConfig
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.reproducibility import set_seed
from nas_system.training.scheduler import build_scheduler

N_PARAMETERS = 4_886_017


def large_informer() -> RunConfig:
    """The published size: `informer_256` with two decoder layers."""
    config = named_config("informer_256")
    return config.model_copy(update={"model": config.model.model_copy(update={"d_layers": 2})})


def seconds(
    config: RunConfig,
    windows: TaskWindows,
    device: torch.device,
    *,
    epochs: int,
    precision: str,
    capture: bool,
) -> tuple[float, float]:
    """Seconds of the whole training, and its best val_mse."""
    set_seed(config.seed)
    model = build_model(config, windows.shape).to(device)
    optimizer = build_optimizer(model, config.training, device, capturable=capture)
    generator = torch.Generator().manual_seed(config.seed)
    engine = Engine(
        model=model,
        optimizer=optimizer,
        objective=Forecasting(config.training.loss),
        device=device,
        progress=EarlyStoppingState(),
        scheduler=build_scheduler(optimizer, config.training),
        generator=generator,
        precision=precision,
        cuda_graph=capture,
    )
    train = WindowLoader(windows["train"], config.data.batch_size, generator=generator)
    val = WindowLoader(windows["val"], 512)
    torch.cuda.synchronize()
    began = time.perf_counter()
    engine.fit(train, val, epochs)
    torch.cuda.synchronize()
    return time.perf_counter() - began, engine.progress.best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    arguments = parser.parse_args()
    config = large_informer()
    result: dict[str, float | str | None] = {
        "device": None,
        "plain_s": None,
        "captured_s": None,
        "ratio": None,
    }
    if not torch.cuda.is_available():
        print("no CUDA device on this machine: nothing was measured")
        print(json.dumps(result))
        return
    device = torch.device("cuda:0")
    source = locate(config.forecasting, arguments.data_dir)
    windows = build_windows(load_series(source, config.forecasting), config, device)
    parameters = sum(p.numel() for p in core_from_config(config.model, windows.shape).parameters())
    assert parameters == N_PARAMETERS, parameters
    result["device"] = torch.cuda.get_device_name(device)
    print(f"{result['device']}, {arguments.epochs} epochs, {arguments.precision}, data: {source.name}")
    print(f"{'':<12}{'seconds':>10}{'best val_mse':>15}")
    for name in ("plain", "captured"):
        spent, best = seconds(
            config,
            windows,
            device,
            epochs=arguments.epochs,
            precision=arguments.precision,
            capture=name == "captured",
        )
        result[f"{name}_s"] = round(spent, 2)
        print(f"{name:<12}{spent:>10.2f}{best:>15.5f}")
    result["ratio"] = round(float(result["plain_s"] or 0) / float(result["captured_s"] or 1), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
