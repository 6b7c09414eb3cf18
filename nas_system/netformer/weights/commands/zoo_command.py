"""Make a zoo: thousands of small random networks, trained together on random regression tasks.

python -m nas_system.netformer zoo --out zoo/ --networks 2000 --seed 0
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from nas_system.command_line import exit_code_of
from nas_system.netformer.command_line import command_parser
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 for bad input."""
    parser = command_parser("zoo", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for index.json and networks.pt")
    ZooConfig.add_to(parser)
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_make(ZooConfig.from_arguments(arguments), arguments.out))))


def _make(config: ZooConfig, folder: Path) -> dict[str, object]:
    from nas_system.netformer.meta_features import default_cache
    from nas_system.netformer.weights.zoo.zoo_building import build_zoo
    from nas_system.netformer.weights.zoo.zoo_files import save_zoo
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    started = time.monotonic()
    zoo = build_zoo(config, cache_dir=default_cache() if config.meta_features else None)
    save_zoo(zoo, folder)
    return {
        "zoo": str(folder),
        "networks": len(zoo),
        "tasks": config.tasks,
        "median_val_mse": round(float(zoo.val_mse.median()), 4),
        "seconds": round(time.monotonic() - started, 1),
    }
