"""Signals that ask a supervisor to end its training. Standard library only."""

from __future__ import annotations

import os
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The first one asks the training to end, the second one kills it."""
REPEATABLE_STOP_SIGNAL = signal.SIGUSR1
"""The same request, but repeating it does not kill."""


class StopRequests:
    """The stop signals that came in. A byte in `wakeup` interrupts the loop's waiting."""

    def __init__(self) -> None:
        self.requested = False
        self._force = False
        self.wakeup, writing = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, REPEATABLE_STOP_SIGNAL, signal.SIGCHLD):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        if number in STOP_SIGNALS:
            self._force = self.requested
        if number != signal.SIGCHLD:
            self.requested = True

    def take_force(self) -> bool:
        """Return whether a second request came in since the last call."""
        force, self._force = self._force, False
        return force
