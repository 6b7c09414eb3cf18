"""Train a variational transformer to read and write the networks of a zoo.

python -m nas_system.netformer train --zoo zoo/ --out netformer.pt
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_system.command_line import exit_code_of
from nas_system.netformer.command_line import command_parser
from nas_system.netformer.weights.model.model_config import ArchitectureConfig, FitConfig, LossConfig
from nas_system.netformer.weights.options import writable_file


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, 2 for bad input, or 3 when the training diverged."""
    parser = command_parser("train", __doc__)
    parser.add_argument("--zoo", type=Path, required=True, help="folder that `zoo` made")
    parser.add_argument("--out", type=Path, required=True, help="file for the trained model")
    parser.add_argument("--quiet", action="store_true", help="do not print every epoch")
    for options in (FitConfig, ArchitectureConfig):
        options.add_to(parser)
    LossConfig.add_to(parser, suffix="loss")
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: print(json.dumps(_train(arguments))))


def _train(arguments: argparse.Namespace) -> dict[str, Any]:
    config = FitConfig.from_arguments(arguments)
    architecture = ArchitectureConfig.from_arguments(arguments)
    loss = LossConfig.from_arguments(arguments, suffix="loss")
    out = writable_file(arguments.out)

    from nas_system.netformer.weights.model.writer_fitting import evaluate, fit, untrained_writer
    from nas_system.netformer.weights.zoo.zoo_files import load_zoo
    from nas_system.training.engine import EpochRecord
    from nas_system.training.reproducibility import set_threads

    def tell(record: EpochRecord) -> None:
        figures = " ".join(f"{name}={value:.4g}" for name, value in record.val.items())
        print(f"epoch {record.epoch + 1}/{config.epochs}: {figures}", file=sys.stderr, flush=True)

    set_threads(1)
    started = time.monotonic()
    zoo = load_zoo(arguments.zoo)
    writer = untrained_writer(zoo, architecture, config.seed)
    history = fit(writer, zoo, loss, config, on_epoch=None if arguments.quiet else tell)
    settings = {"fit": config.to_json(), "loss": loss.to_json(), "zoo": zoo.config.to_json()}
    writer.save(out, settings=settings)
    best = next(record for record in reversed(history) if record.is_best)
    figures = {name: round(value, 4) for name, value in evaluate(writer, zoo, "val").items()}
    seconds = round(time.monotonic() - started, 1)
    return {"model": str(out), "best_epoch": best.epoch + 1, "part": "val"} | figures | {"seconds": seconds}
