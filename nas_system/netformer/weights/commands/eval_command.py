"""Compare the networks that a model writes with originals it has not seen.

python -m nas_system.netformer eval --model netformer.pt --zoo zoo/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_system.command_line import exit_code_of
from nas_system.netformer.command_line import command_parser
from nas_system.netformer.weights.zoo.zoo_config import PARTS


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 for bad input."""
    parser = command_parser("eval", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="file that `train` wrote")
    parser.add_argument("--zoo", type=Path, required=True, help="folder that `zoo` made")
    parser.add_argument("--part", choices=PARTS, default="test", help="part of the zoo (default: test)")
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_evaluate(arguments.model, arguments.zoo, arguments.part))))


def _evaluate(model: Path, folder: Path, part: str) -> dict[str, Any]:
    from nas_system.netformer.weights.model.writer import Writer
    from nas_system.netformer.weights.model.writer_fitting import evaluate
    from nas_system.netformer.weights.zoo.zoo_files import load_zoo
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    writer, zoo = Writer.load(model), load_zoo(folder)
    figures = {name: round(value, 4) for name, value in evaluate(writer, zoo, part).items()}
    return {"part": part, "networks": len(zoo.part(part))} | figures
