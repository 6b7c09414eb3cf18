"""Start or continue a search: `nas run --max-runs 100`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from nas_agent_graph.cli import COMMANDS
from nas_agent_graph.host.program import as_program
from nas_agent_graph.host.signals import StopRequest


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str = "python -m nas_agent_graph.run",
    trainer: Sequence[str] | None = None,
) -> int:
    """Run a search and return its exit code.

    0 ended, 2 bad input, 3 workspace held by another process, 4 paused, 128 + n on signal n.
    `trainer` is the command line that trains in the place of `python -m nas_system.train`.
    """
    return as_program(lambda stop: _run(argv, prog, trainer, stop))


def _run(argv: Sequence[str] | None, prog: str, trainer: Sequence[str] | None, stop: StopRequest) -> int:
    # Heavy imports come after the arguments: --help and a typing error answer at once.
    with stop.held_back():
        arguments = COMMANDS["run"].parser(prog).parse_args(argv)
        if arguments.dry_run:
            from nas_agent_graph.dry_run import dry_run
        else:
            from nas_agent_graph.search import run_search
    return dry_run(arguments) if arguments.dry_run else run_search(arguments, stop, trainer=trainer)


def run_and_leave(trainer: Sequence[str] | None = None) -> NoReturn:
    """Run the whole program, from the command line to the exit code."""
    sys.exit(main(trainer=trainer))


if __name__ == "__main__":
    run_and_leave()
