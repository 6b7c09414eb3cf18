"""Ctrl-C and its relatives: what a signal may do to a search, and where it has to wait.

The first SIGINT, SIGTERM or SIGHUP is raised as SearchInterrupted wherever the search is, unless it is in
a block that must not be interrupted; there it is noted and raised at the block's end. Later signals never
raise, so that the clean-up is not interrupted either: they only ask it to hurry. Standard
library only, because it has to be there before everything else is imported.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SearchInterrupted(BaseException):
    """The search was asked to stop by a signal; everything needed to continue is on disk.

    Not an Exception, like KeyboardInterrupt: code that catches errors must not catch it.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal
        self.exit_code = 128 + signal


@dataclass
class StopRequest:
    """What signals have asked for so far."""

    waiting: bool = False
    """While True the first signal is noted only."""
    signal: int | None = None
    """The first signal."""
    force: bool = False
    """Whether there was a second one."""

    def note(self, number: int) -> None:
        """Note a signal. Raises SearchInterrupted for the first one, unless it has to wait."""
        if self.signal is not None:
            self.force = True
            return
        self.signal = number
        if not self.waiting:
            raise SearchInterrupted(number)

    def check(self) -> None:
        """Raise SearchInterrupted if a signal was noted, or if its exception was lost.

        What is raised inside a finalizer or a weak reference's callback is printed and dropped by Python.
        """
        if self.signal is not None:
            raise SearchInterrupted(self.signal)

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Raise the first signal inside the block at its end."""
        before, self.waiting = self.waiting, True
        try:
            yield
        finally:
            self.waiting = before
        self.check()


def handle_signals(stop: StopRequest) -> None:
    """Note every signal that asks for an end in `stop`."""
    for number in STOP_SIGNALS:
        # A command started under nohup stays deaf to SIGHUP.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: stop.note(number))


def ignore_signals() -> None:
    """Ignore signals from now on: all is on disk, and none may change the exit code any more."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
