"""What every baseline is: a method that is fitted to rows, and then forecasts from any later origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]

Forecast = Callable[[Array, range, int], Array]
"""(rows of a column, origins, which target the column is) -> (origins, pred_len).

An origin is the first row of a forecast: only the rows before it are read, and it may be one past the last.
"""


class Method(Protocol):
    """A baseline before it has seen data."""

    @property
    def name(self) -> str:
        """The row of the leaderboard: it stands for the same method in every search."""
        ...

    def rows_needed(self, pred_len: int) -> int:
        """Return how many rows a fit takes at least."""
        ...

    def reads(self, rows: int) -> str:
        """Say which of `rows` known rows a forecast of the future rests on, as the end of a sentence."""
        ...

    def fit(self, train: Array, pred_len: int) -> Forecast:
        """Fit to `train`, (rows, targets)."""
        ...


def windows_before(column: Array, origins: range, look_back: int) -> Array:
    """Return the `look_back` rows before every origin, (origins, look_back), as a view of `column`."""
    windows = sliding_window_view(column, look_back)
    return windows[origins.start - look_back : origins.stop - look_back : origins.step]
