"""One training step of the large Informer: ours, and the published one for comparison.

    python benchmarks/informer_step.py [--reference PATH]

Forward, loss, backward and Adam at 4,886,017 parameters (width 256, feed-forward 1024, three encoder
layers, two decoder layers), batch 32, 96 steps back, 48 known and 24 forecast in the decoder, dropout
0.1, one CPU thread, in single precision and under bfloat16 autocast. PATH is a checkout of
Informer2020; without it the ratios are null. Steps of all kinds are interleaved and medians reported,
so that a busy machine slows all alike. Both ratios are against the reference's step in single
precision, the one it trains with: 2 means that ours takes half the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.integrations.informer2020 import load_informer2020
from nas_system.sequential.informer import core_from_config
from nas_system.space import SeriesShape
from nas_system.space.families import InformerConfig

N_PARAMETERS = 4_886_017
BATCH = 32
CONFIG = InformerConfig(
    d_model=256, n_heads=4, d_ff=1024, e_layers=3, d_layers=2, dropout=0.1, label_len=48, mix=True
)
SHAPE = SeriesShape(seq_len=96, pred_len=24, n_inputs=7, target_columns=(6,))

Step = Callable[[], None]


def random_batch() -> tuple[list[Tensor], Tensor]:
    """Inputs of both models, and the target."""
    decoder_len = CONFIG.label_len + SHAPE.pred_len
    sizes = ((SHAPE.seq_len, 7), (SHAPE.seq_len, 4), (decoder_len, 7), (decoder_len, 4))
    return [torch.randn(BATCH, *size) for size in sizes], torch.randn(BATCH, SHAPE.pred_len, 1)


def training_step(model: nn.Module, *, bf16: bool, fused: bool) -> Step:
    """The step as a function. The reference trains with torch's default Adam, ours with the fused one."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused)
    inputs, target = random_batch()
    precision = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()

    def step() -> None:
        optimizer.zero_grad()
        with precision:
            loss = nn.functional.mse_loss(model(*inputs), target)
        loss.backward()
        optimizer.step()

    return step


def median_ms(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median milliseconds of each step, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--reference", type=Path, help="a checkout of Informer2020")
    parser.add_argument("--repeats", type=int, default=7, help="steps of each kind (default 7)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = core_from_config(CONFIG, SHAPE)
    assert sum(p.numel() for p in ours.parameters()) == N_PARAMETERS
    models: dict[str, nn.Module] = {"ours": ours}
    if options.reference is not None:
        try:
            models["reference"] = load_informer2020(options.reference, CONFIG, SHAPE)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    steps = {
        f"{name}_{precision}": training_step(model, bf16=precision == "bf16", fused=name == "ours")
        for precision in ("fp32", "bf16")
        for name, model in models.items()
    }
    ms = median_ms(steps, options.repeats)
    print(f"{'ms a step':12}{'ours':>10}{'reference':>12}{'times faster than its fp32':>30}")
    result: dict[str, float | None] = {}
    base = ms.get("reference_fp32")
    for precision in ("fp32", "bf16"):
        mine, other = ms[f"ours_{precision}"], ms.get(f"reference_{precision}")
        ratio = None if base is None else base / mine
        shown = ("-", "-") if other is None or ratio is None else (f"{other:.0f}", f"{ratio:.2f}")
        print(f"{precision:12}{mine:10.0f}{shown[0]:>12}{shown[1]:>30}")
        result |= {f"{precision}_ratio": ratio, f"{precision}_ms": mine, f"reference_{precision}_ms": other}
    print(json.dumps({name: None if value is None else round(value, 3) for name, value in result.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
