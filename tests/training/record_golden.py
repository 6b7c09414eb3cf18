"""Record the golden losses: `python tests/training/record_golden.py`.

Writes `recorded/<family>.json` beside this file. Do it only when numbers are meant to change, and say
in the commit what changed them.

Twenty steps of the engine on the generated series, in double precision and without dropout: what
is left of the differences between processors is then far below the tolerance of the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).resolve().parent / "recorded"
STEPS = 20

CONFIGS = {
    "linear": {
        "model": {"family": "linear", "normalization": "last"},
        "data": {"features": "S", "seq_len": 96, "batch_size": 16},
        "training": {"optimizer": "adamw", "lr": 0.01, "loss": "huber", "grad_clip": 0.5},
    },
    "informer": {
        "model": {"family": "informer", "d_model": 16, "n_heads": 2, "d_ff": 32, "dropout": 0.0},
        "data": {"features": "MS", "seq_len": 48, "batch_size": 16},
        "training": {"optimizer": "adam", "lr": 0.001},
    },
}


class Doubled:
    """The first batches of a loader in double precision."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        for _, (args, target, _) in zip(range(STEPS), self.loader, strict=False):
            yield [None if x is None else x.double() for x in args], target.double()


class Losses:
    """A callback that notes the loss of every step."""

    def __init__(self):
        self.values = []

    def step_ended(self, engine, loss):
        self.values.append(loss.item())

    def epoch_ended(self, engine, record):
        pass

    def fit_ended(self, engine, reason):
        pass


def losses_of(family: str) -> list[float]:
    """Of the first twenty steps."""
    from nas_system.data import WindowLoader, build_windows, synthetic_series
    from nas_system.model import build_model
    from nas_system.space import RunConfig
    from nas_system.training import set_seed
    from nas_system.training.early_stopping import EarlyStoppingState
    from nas_system.training.engine import Engine
    from nas_system.training.objectives import Forecasting
    from nas_system.training.optimizer import build_optimizer

    torch.set_num_threads(1)
    config = RunConfig.model_validate(CONFIGS[family] | {"task": {"dataset": "synthetic"}})
    windows = build_windows(synthetic_series(), config)
    set_seed(0)
    model = build_model(config, windows.shape).double()
    cpu = torch.device("cpu")
    optimizer = build_optimizer(model, config.training, cpu)
    objective = Forecasting(config.training.loss)
    engine = Engine(
        model, optimizer, objective, cpu, EarlyStoppingState(), grad_clip=config.training.grad_clip
    )
    generator = torch.Generator().manual_seed(0)
    loader = WindowLoader(windows["train"], config.data.batch_size, generator=generator)
    losses = Losses()
    engine.fit(Doubled(loader), None, 1, [losses])
    return losses.values


def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    for family in CONFIGS:
        text = json.dumps({"losses": losses_of(family)}, indent=1)
        (RECORDED / f"{family}.json").write_text(text + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:]:
        print(json.dumps(losses_of(sys.argv[1])))
    else:
        main()
