"""Learn to write networks: `python -m nas_system.netformer <command>`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nas_system.command_line import Parser, choose_command

COMMANDS = {
    "zoo": ("weights.commands.zoo_command", "make a zoo of small trained networks"),
    "train": ("weights.commands.train_command", "train a model to read and write the networks of a zoo"),
    "eval": ("weights.commands.eval_command", "compare what a model writes with networks it has not seen"),
    "sample": ("weights.commands.sample_command", "let a model write networks from random numbers"),
    "archive": ("specs.commands.archive_command", "train configurations on random tasks, or add a search"),
    "fit": ("specs.commands.fit_command", "learn from the archive which configurations are good"),
    "propose": ("specs.commands.propose_command", "propose configurations for a task"),
}
"""Command -> module of this package whose `main(argv)` it is, imported only when used; what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` begins with and return its exit code."""
    parser = Parser(prog="python -m nas_system.netformer", description=(__doc__ or "").splitlines()[0])
    name, rest = choose_command(parser, {name: what for name, (_, what) in COMMANDS.items()}, argv)
    return importlib.import_module(f"nas_system.netformer.{COMMANDS[name][0]}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
