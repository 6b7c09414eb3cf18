"""Learns to write networks: `python -m nas_system.netformer <command>`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nas_system.command_line import Parser, choose_command

COMMANDS = {
    "zoo": ("nas_system.netformer.weights.zoo", "make a zoo of small trained networks"),
    "train": ("nas_system.netformer.weights.train", "train a model to read and write the networks of a zoo"),
    "eval": (
        "nas_system.netformer.weights.eval",
        "compare what a model writes with networks it has not seen",
    ),
    "sample": ("nas_system.netformer.weights.sample", "let a model write networks from random numbers"),
    "archive": (
        "nas_system.netformer.specs.archive_command",
        "train configurations on random tasks, or take in those of a search",
    ),
    "fit": ("nas_system.netformer.specs.fit_command", "learn from the archive which configurations are good"),
    "propose": ("nas_system.netformer.specs.propose_command", "propose configurations for a task"),
}
"""Command: the module whose `main(argv)` it is, imported when it is asked for, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` begins with and return its exit code."""
    parser = Parser(prog="python -m nas_system.netformer", description=(__doc__ or "").splitlines()[0])
    name, rest = choose_command(parser, {name: what for name, (_, what) in COMMANDS.items()}, argv)
    return importlib.import_module(COMMANDS[name][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
