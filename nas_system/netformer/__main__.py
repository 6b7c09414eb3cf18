"""Learn to write networks: `python -m nas_system.netformer <command>`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

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

USAGE = "usage: python -m nas_system.netformer <command> [options]"


def main(argv: Sequence[str] | None = None) -> int:
    """Pass the remaining arguments to a command and return its exit code; 2 for an unknown command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(_help())
        return 0
    if not arguments:
        print(f"error: which command? There are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}; choose from: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"nas_system.netformer.{COMMANDS[name][0]}").main(rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([USAGE, "", (__doc__ or "").splitlines()[0], "", "commands:", *lines])


if __name__ == "__main__":
    sys.exit(main())
