"""What a training step of every family costs on one CPU thread, and its parameter count.

    python benchmarks/families.py [--seq-len 96] [--threads 1]

The family's tried default with seven input columns where it reads them, batch 32, 24 steps ahead:
forward, mean squared error, backward and Adam. Steps of all families are taken in turns and medians
reported, so that a busy machine slows all alike; the ratio is against the linear family.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.model import build_model, etth1_shape
from nas_system.space import FAMILIES, RunConfig, SeriesShape, family_default

BATCH = 32
HOURLY_MARKS = 4


def config_of(family: str, seq_len: int) -> RunConfig:
    """The family's default at another look-back; a TCN gets the levels that this needs."""
    plain = family_default(family).model_dump()
    plain["data"] |= {"seq_len": seq_len, "batch_size": BATCH, "features": "MS"}
    if family == "tcn":
        while 1 + 2 * (plain["model"]["kernel_size"] - 1) * (2 ** plain["model"]["num_layers"] - 1) < seq_len:
            plain["model"]["num_layers"] += 1
    return RunConfig.model_validate(plain)


def training_step(model: nn.Module, shape: SeriesShape) -> Callable[[], None]:
    """Forward, loss, backward and update on one random batch, as a function."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(BATCH, shape.seq_len, shape.n_inputs).cumsum(1)
    target = torch.randn(BATCH, shape.pred_len, shape.n_targets)
    marks = [
        torch.rand(BATCH, length, HOURLY_MARKS) - 0.5 if shape.n_marks else None
        for length in (shape.seq_len, shape.pred_len)
    ]

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x, *marks), target).backward()
        optimizer.step()

    return step


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--seq-len", type=int, default=96, help="look-back in steps (default 96)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--repeats", type=int, default=15, help="steps of each family (default 15)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    steps: dict[str, Callable[[], None]] = {}
    counts: dict[str, int] = {}
    for family, kind in FAMILIES.items():
        if kind.needs_package and importlib.util.find_spec(kind.needs_package) is None:
            print(f"{family}: left out, {kind.needs_package} is not installed", file=sys.stderr)
            continue
        config = config_of(family, options.seq_len)
        shape = etth1_shape(config)
        model = build_model(config, shape)
        counts[family] = sum(parameter.numel() for parameter in model.parameters())
        steps[family] = training_step(model, shape)
        steps[family]()
    times: dict[str, list[float]] = {family: [] for family in steps}
    for _ in range(options.repeats):
        for family, step in steps.items():
            started = time.perf_counter()
            step()
            times[family].append(1e3 * (time.perf_counter() - started))
    medians = {family: statistics.median(values) for family, values in times.items()}
    print(f"{'family':<20}{'parameters':>12}{'ms a step':>12}{'times linear':>14}")
    for family, ms in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{family:<20}{counts[family]:>12,}{ms:>12.2f}{ms / medians['linear']:>14.1f}")
    result = {family: {"parameters": counts[family], "ms": round(ms, 3)} for family, ms in medians.items()}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
