"""The error tree: who has to fix what.

Every message says what is wrong, where, and what to do about it. A failed
training is not an error of the search: it is data (see `nas_agent.outcome`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping


class NasError(Exception):
    """Base of everything this project raises on purpose."""

    exit_code = 1


class ConfigError(NasError):
    """Bad input that a person fixes: a flag, a file, a data set, a config.py."""

    exit_code = 2


class ProposalError(NasError):
    """A proposal that cannot be trained; the text goes back to the proposer."""


class RunError(NasError):
    """A training that cannot go on. `exit_code` is the training process's own."""

    def __init__(self, message: str, numbers: Mapping[str, float] | None = None) -> None:
        """`numbers` go to error.json, each under its name."""
        super().__init__(message)
        self.numbers = dict(numbers or {})


class Diverged(RunError):
    """The loss became NaN or infinite."""

    exit_code = 3


class OutOfMemory(RunError):
    """The device or the host ran out of memory."""

    exit_code = 4


class StoppedOnRequest(RunError):
    """The training was asked to stop (SIGTERM, SIGINT) and did."""

    exit_code = 5


class PreflightFailed(RunError):
    """The first batch shows that a training cannot work here; no epoch has been trained."""

    exit_code = 2

    def __init__(self, kind: str, message: str, numbers: Mapping[str, float] | None = None) -> None:
        """`kind` is memory, time, forward, backward, shape or nonfinite."""
        super().__init__(message, numbers)
        self.kind = f"preflight:{kind}"


class SearchPaused(NasError):
    """The search cannot go on now (service, disk); the message says what to do."""

    exit_code = 4


class StateError(NasError):
    """A file on disk cannot be used: truncated, foreign or newer than this program."""

    exit_code = 2


class WorkspaceBusy(StateError):
    """Another agent holds the workspace."""

    exit_code = 3


_ADVICE_ON_LIMIT = {
    errno.EMFILE: "this process may open no further file: raise the limit (ulimit -n)",
    errno.ENFILE: "no file can be opened on this machine any more: end what holds so many open",
    errno.EAGAIN: "no further process or thread may be started: raise the limit (ulimit -u) or end some",
    errno.ENOMEM: "this machine has no memory left: end what holds it",
    errno.EFBIG: "a limit on the size of files is in the way: lift it (ulimit -f unlimited) "
    "or, for a training, --disk-per-run",
}


def advice_on_limit(number: object) -> str | None:
    """Return what a person does about an error number by which a machine refuses anything to anybody.

    None for every other value: such an error can be the fault of what was tried.
    """
    return _ADVICE_ON_LIMIT.get(number) if type(number) is int else None


def memory_that_ran_out(error: BaseException) -> str | None:
    """Return `oom_gpu` or `oom_host` for an exception of torch or Python about memory; else None."""
    text = first_line(error)
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text:
        return "oom_gpu"
    return "oom_host" if isinstance(error, MemoryError) or "can't allocate memory" in text else None


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; its type if there is no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
