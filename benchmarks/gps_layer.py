"""One training step of our GPS layer, and of PyTorch Geometric's for comparison.

    python benchmarks/gps_layer.py [--width 64] [--heads 4] [--pairs 60]

Forward and backward of one layer on 32 molecule-like graphs of 9 to 37 nodes, one CPU thread, no
dropout. The other side is `GPSConv(GINEConv)` with the same width, heads, inner widths and batch norm,
so the same number of parameters. Ours has its attention bias off, as the other takes none, and works
out the padded layout in every step, which a model does once for all its layers. Steps are taken in
turns, the first of a pair alternating, and the medians are over pairs, so that a busy machine slows both
alike. `ratio` above 1 means that ours is faster. Needs the extra `graphs`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.errors import ConfigError
from nas_system.graphs.global_attention import attention_bias
from nas_system.graphs.gps_layer import GPSLayer
from nas_system.graphs.padding import PaddedLayout
from nas_system.graphs.pyg import import_pyg

N_GRAPHS = 32
SMALLEST, LARGEST = 9, 37
"""Nodes of a graph, as in ZINC."""

Step = Callable[[], None]


def random_batch(draw: random.Random):
    """Paths with a bond in ten closing a ring: about 23 nodes and 50 directed bonds."""
    pyg = import_pyg()
    graphs = []
    for _ in range(N_GRAPHS):
        n = draw.randint(SMALLEST, LARGEST)
        bonds = [(i, i + 1) for i in range(n - 1)]
        bonds += [(i, i + 5) for i in range(n - 5) if draw.random() < 0.15]
        edge_index = torch.tensor(bonds + [(j, i) for i, j in bonds]).T
        graphs.append(pyg.Data(edge_index=edge_index, num_nodes=n))
    return pyg.Batch.from_data_list(graphs)


def step_of_ours(layer: GPSLayer, x: Tensor, bonds: Tensor, batch) -> Step:
    def step() -> None:
        layer.zero_grad()
        layout = PaddedLayout.of(batch)
        layer(x, batch.edge_index, bonds, layout, attention_bias(layout)).square().mean().backward()

    return step


def step_of_pyg(layer: nn.Module, x: Tensor, bonds: Tensor, batch) -> Step:
    def step() -> None:
        layer.zero_grad()
        layer(x, batch.edge_index, batch.batch, edge_attr=bonds).square().mean().backward()

    return step


def pyg_layer(width: int, heads: int) -> nn.Module:
    layers = import_pyg("torch_geometric.nn")
    mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    return layers.GPSConv(width, layers.GINEConv(mlp), heads=heads)


def paired_ms(ours: Step, theirs: Step, pairs: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median over pairs of theirs divided by ours."""

    def timed(step: Step) -> float:
        started = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - started)

    for step in (ours, theirs) * 3:
        step()
    times = []
    for number in range(pairs):
        if number % 2:
            second, first = timed(theirs), timed(ours)
            times.append((first, second))
        else:
            times.append((timed(ours), timed(theirs)))
    mine, other = zip(*times, strict=True)
    return (
        statistics.median(mine),
        statistics.median(other),
        statistics.median(b / a for a, b in times),
    )


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--width", type=int, nargs="+", default=[64, 256], help="default 64 256")
    parser.add_argument("--heads", type=int, default=4, help="default 4")
    parser.add_argument("--pairs", type=int, default=60, help="steps of each kind (default 60)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        batch = random_batch(random.Random(0))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{batch.num_nodes} nodes and {batch.num_edges} directed bonds in {batch.num_graphs} graphs")
    print(f"{'width':>8}{'ours, ms':>12}{'PyG, ms':>12}{'times faster':>16}")
    result: dict[str, float] = {}
    for width in options.width:
        ours, theirs = GPSLayer(width, options.heads), pyg_layer(width, options.heads)
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
        # Both get gradients, as in the middle of a model.
        x = torch.randn(batch.num_nodes, width, requires_grad=True)
        bonds = torch.randn(batch.num_edges, width, requires_grad=True)
        steps = step_of_ours(ours, x, bonds, batch), step_of_pyg(theirs, x, bonds, batch)
        mine, other, ratio = paired_ms(*steps, options.pairs)
        print(f"{width:8}{mine:12.2f}{other:12.2f}{ratio:16.2f}")
        result |= {f"ratio_{width}": ratio, f"ms_{width}": mine, f"pyg_ms_{width}": other}
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
