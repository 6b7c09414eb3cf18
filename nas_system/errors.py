"""The error tree: who has to mend what.

Every message says what is wrong, where, and what to do about it. A failed
training is not an error of the search: it is data (see `nas_agent.outcome`).
"""


class NasError(Exception):
    """Base of everything this project raises on purpose."""

    exit_code = 1


class ConfigError(NasError):
    """Bad input that a person mends: a flag, a file, a data set, a config.py."""

    exit_code = 2


class ProposalError(NasError):
    """A proposal that cannot be trained; the text goes back to the proposer."""


class RunError(NasError):
    """A training that cannot go on. `exit_code` is the training process's own."""


class Diverged(RunError):
    """The loss became NaN or infinite."""

    exit_code = 3


class OutOfMemory(RunError):
    """The device or the host ran out of memory."""

    exit_code = 4


class StoppedOnRequest(RunError):
    """The training was asked to stop (SIGTERM, SIGINT) and did."""

    exit_code = 5


class StateError(NasError):
    """What is on disk cannot be used: torn, foreign or newer than this program."""

    exit_code = 2


class WorkspaceBusy(StateError):
    """Another agent holds the workspace."""

    exit_code = 3
