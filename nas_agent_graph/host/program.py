"""A program that searches: how its signals, its streams and its errors become an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable

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


def as_program(work: Callable[[StopRequest], int]) -> int:
    """Return the exit code of `work`, which searches: also of what stops it and of what it raises."""
    open_closed_streams()
    with lasting_streams():
        code = _exit_code_of(work)
        ignore_signals()
    return code


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
