"""Time as a parameter: code that waits is passed a clock, so that a test need not wait."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time, swappable."""

    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
