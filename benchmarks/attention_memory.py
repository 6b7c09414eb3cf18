"""Memory of one ProbSparse attention layer, forward and backward: ours, and the published one for comparison.

    python benchmarks/attention_memory.py [--reference PATH]

Batch 32, width 256, 4 heads, lengths 96 and 720. Every figure is the growth of the largest resident
set of a process of its own, over what it held before the layer ran. A ratio of 0.1 means that ours
needs a tenth. PATH is a checkout of Informer2020; without it the ratios are null.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

LENGTHS = (96, 720)
BATCH, WIDTH, HEADS, FACTOR = 32, 256, 4, 5


def grow(length: int, baseline: Path | None) -> float:
    """MiB by which one forward and backward pass of a layer raises this process's peak memory."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = _baseline_layer(baseline) if baseline else _our_layer(length)
    x = torch.randn(BATCH, length, WIDTH, requires_grad=True)
    torch.randn(64, 64, requires_grad=True).square().sum().backward()  # the engine's own start-up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = layer(x, x, x, None) if baseline else layer(x, x)
    (output[0] if isinstance(output, tuple) else output).sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _our_layer(length: int):
    from nas_system.sequential.layers.attention import AttentionLayer, ProbSparseAttention

    return AttentionLayer(ProbSparseAttention(length, factor=FACTOR, masked=False), WIDTH, HEADS).train()


def _baseline_layer(checkout: Path):
    sys.path.insert(0, str(checkout))
    theirs = importlib.import_module("models.attn")
    attention = theirs.ProbAttention(False, FACTOR, attention_dropout=0.0)
    return theirs.AttentionLayer(attention, WIDTH, HEADS).train()


def measured(length: int, baseline: Path | None) -> float:
    """`grow` in a process of its own: peak memory never falls again."""
    command = [sys.executable, __file__, "--only", str(length)]
    if baseline is not None:
        command += ["--reference", str(baseline)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--reference", type=Path, help="a checkout of Informer2020")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(grow(options.only, options.baseline))
        return 0
    if options.baseline is not None and not (options.baseline / "models" / "attn.py").is_file():
        print(
            f"{options.baseline} is no checkout of Informer2020: models/attn.py is missing", file=sys.stderr
        )
        return 2
    print(f"{'length':>8}{'ours MiB':>12}{'reference MiB':>16}{'ratio':>8}")
    result: dict[str, float | None] = {}
    for length in LENGTHS:
        ours = measured(length, None)
        other = measured(length, options.baseline) if options.baseline else None
        ratio = None if other is None else ours / other
        shown = ("-", "-") if other is None or ratio is None else (f"{other:.0f}", f"{ratio:.2f}")
        print(f"{length:>8}{ours:>12.0f}{shown[0]:>16}{shown[1]:>8}")
        result |= {
            f"ours_{length}_mb": round(ours, 1),
            f"ratio_{length}": None if ratio is None else round(ratio, 3),
        }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
