"""Let a model write networks from random numbers: latent tokens from N(0, 1), decoded under the grammar.

python -m nas_system.netformer sample --model netformer.pt --count 5 --seed 0
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nas_system.command_line import exit_code_of
from nas_system.errors import ConfigError
from nas_system.netformer.command_line import command_parser
from nas_system.netformer.weights.options import writable_file


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 for bad input."""
    parser = command_parser("sample", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="file that `train` wrote")
    parser.add_argument("--count", type=int, default=5, help="how many networks (default: 5)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same networks (default: 0)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the networks (default: print them)")
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _sample(arguments))


def _sample(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.count <= 100_000:
        raise ConfigError(f"count={arguments.count}: must be from 1 to 100000")
    if arguments.seed < 0:
        raise ConfigError(f"seed={arguments.seed}: must not be negative")
    out = writable_file(arguments.out) if arguments.out else None

    import torch

    from nas_system.files import write_json
    from nas_system.netformer.weights.model.writer import Writer
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    generator = torch.Generator().manual_seed(arguments.seed)
    networks = Writer.load(arguments.model).sample(arguments.count, generator)
    rows = [network.to_json() for network in networks]
    if out is None:
        print("\n".join(map(json.dumps, rows)))
        return
    write_json(out, rows, indent=None)
    print(json.dumps({"samples": str(out), "networks": len(rows)}))
