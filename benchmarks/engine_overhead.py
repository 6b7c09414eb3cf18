"""What the engine costs: its time per step against the same training as a bare, hand-written loop.

    python benchmarks/engine_overhead.py [--rounds N]

A tiny network (16 -> 32 -> 1) and batches of 32 rows, so that everything but the mathematics
shows; fused Adam built the same way on both sides, the same batches in the same order, one thread.
The bare loop adds its loss up and does nothing else. The engine unpacks, times its parts, watches for
NaN and reports two metrics; it drops old gradients itself, which is cheaper than `zero_grad`. Short
passes of both alternate, in turns first, and the ratio is the median over all pairs, so that a busy
machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import Forecasting

STEPS = 200
"""Of one pass."""
CPU = torch.device("cpu")
Batches = list[tuple[Tensor, Tensor]]


def network_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    skip_compiler_import()
    return model, step_eagerly(torch.optim.Adam(model.parameters(), fused=True))


def bare_pass(batches: Batches) -> Callable[[], object]:
    """The loop everybody writes."""
    model, optimizer = network_and_optimizer()

    def run() -> float:
        model.train()
        total = torch.zeros(())
        for x, target in batches:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / len(batches)

    return run


def engine_pass(batches: Batches) -> Callable[[], object]:
    model, optimizer = network_and_optimizer()
    engine = Engine(model, optimizer, Forecasting(), CPU, EarlyStoppingState())
    return lambda: engine.train_epoch(batches)


def seconds(run: Callable[[], object]) -> float:
    started = perf_counter()
    run()
    return perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=150, help="pairs of passes (default: 150)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batches = [(random(32, 16), random(32, 1)) for _ in range(STEPS)]
    passes = {"bare loop": bare_pass(batches), "engine": engine_pass(batches)}
    times: dict[str, list[float]] = {name: [] for name in passes}
    for run in passes.values():
        run()
    for turn in range(rounds):
        for name in sorted(passes, reverse=turn % 2 == 0):
            times[name].append(seconds(passes[name]) / STEPS * 1e6)
    ratios = [ours / bare for ours, bare in zip(times["engine"], times["bare loop"], strict=True)]
    print(f"{'':<12}{'median':>10}{'fastest':>10}   (µs per step, {rounds} passes of {STEPS} steps)")
    for name, values in times.items():
        print(f"{name:<12}{statistics.median(values):>10.1f}{min(values):>10.1f}")
    results = {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_fastest": round(min(times["engine"]) / min(times["bare loop"]), 3),
        "bare_us": round(statistics.median(times["bare loop"]), 1),
        "engine_us": round(statistics.median(times["engine"]), 1),
        "torch": torch.__version__,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
