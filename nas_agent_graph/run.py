"""Start or continue a search: `nas run --max-runs 100`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from nas_agent_graph.cli import COMMANDS
from nas_agent_graph.host.privacy import refuse_inspection
from nas_agent_graph.host.signals import (
    SearchInterrupted,
    StopRequest,
    handle_signals,
    ignore_signals,
)
from nas_agent_graph.host.streams import lasting_streams
from nas_system.command_line import complain, open_closed_streams, refusal
from nas_system.errors import NasError, SearchPaused, advice_on_limit


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


def as_program(work: Callable[[StopRequest], int]) -> int:
    """Return the exit code of `work`, which searches: also of what stops it and of what it raises."""
    open_closed_streams()
    with lasting_streams():
        code = _exit_code_of(work)
        ignore_signals()
    return code


def _run(argv: Sequence[str] | None, prog: str, trainer: Sequence[str] | None, stop: StopRequest) -> int:
    # Heavy imports come after the arguments: --help and a typing error answer at once.
    with stop.held_back():
        arguments = COMMANDS["run"].parser(prog).parse_args(argv)
        if arguments.dry_run:
            from nas_agent_graph.dry_run import dry_run
        else:
            from nas_agent_graph.search import run_search
    return dry_run(arguments) if arguments.dry_run else run_search(arguments, stop, trainer=trainer)


def _exit_code_of(work: Callable[[StopRequest], int]) -> int:
    refuse_inspection()
    stop = StopRequest()
    handle_signals(stop)
    try:
        code = work(stop)
        stop.waiting = True
        return code
    except SearchInterrupted as error:
        name = signal.Signals(error.signal).name
        complain(f"\nstopped by {name}; everything is on disk, the same command continues")
        return error.exit_code
    except NasError as error:
        if isinstance(error.__cause__, OSError) and advice_on_limit(error.__cause__.errno):
            return _paused(error.__cause__)
        complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        return _paused(error)


def _paused(error: OSError) -> int:
    """Say that the machine is at fault, not the search: no file descriptor is left, a disk has errors, ..."""
    complain(
        f"error: {refusal(error)}; what was finished is on disk, fix the cause and "
        "give the same command again"
    )
    return SearchPaused.exit_code


def run_and_leave(trainer: Sequence[str] | None = None) -> NoReturn:
    """Run the whole program, from the command line to the exit code."""
    sys.exit(main(trainer=trainer))


if __name__ == "__main__":
    run_and_leave()
