"""How long the encodings of a batch of molecules take: each of them, all of nodes, all of pairs.

    python benchmarks/graph_encodings.py [--graphs 32] [--repeats 50]

Milliseconds of the CPU, one thread: the median for the batch, and for its graphs one by one. Needs the
extra `graphs`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.errors import ConfigError
from nas_system.graphs import get_dataset
from nas_system.graphs.encodings import NODE_ENCODINGS, PAIR_ENCODINGS, add_encodings


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 2)


def measure(names: Sequence[str], graphs: Sequence[object], repeats: int) -> dict[str, float]:
    return {
        "batch_ms": median_ms(lambda: add_encodings(graphs, names), repeats),
        "one_by_one_ms": median_ms(lambda: add_encodings(graphs, names, batch_size=1), repeats // 10 + 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--graphs", type=int, default=32, help="molecules in the batch")
    parser.add_argument("--repeats", type=int, default=50, help="measurements of the batch")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        graphs = get_dataset("zinc_synth", train=chosen.graphs, val=0, test=0).train
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    sets = {name: [name] for name in (*NODE_ENCODINGS, *PAIR_ENCODINGS)}
    sets |= {"all of nodes": [*NODE_ENCODINGS], "all of pairs": [*PAIR_ENCODINGS]}
    results = {}
    for label, names in sets.items():
        results[label] = measure(names, graphs, chosen.repeats)
        together, alone = results[label].values()
        print(f"{label:14} {together:7.2f} ms   one by one {alone:7.2f} ms")
    print(json.dumps({"graphs": chosen.graphs, "figures": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
