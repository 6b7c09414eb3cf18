"""The time stamps that follow a series: the dates of a forecast of its future. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_system.data.time_features import unit_of
from nas_system.space.time_steps import SECONDS

Dates = NDArray[np.datetime64]

DAY = np.timedelta64(SECONDS["D"], "s")


def spelled_dates(dates: Dates) -> list[str]:
    """Format as `2018-06-26 20:00:00`, or `2018-06-26` where all are midnights."""
    unit = "D" if (dates == dates.astype("datetime64[D]")).all() else "s"
    return [str(stamp).replace("T", " ") for stamp in dates.astype(f"datetime64[{unit}]")]


def dates_after(dates: Dates, freq: str, steps: int) -> Dates:
    """Return the `steps` time stamps after the last of `dates`, which are `freq` apart.

    Steps in months keep their distance from the month's start or, where only that is constant, from
    its end; a day that a month does not have becomes its last.
    """
    unit = unit_of(freq)
    count = int(freq.removesuffix(unit) or 1)
    ahead = count * np.arange(1, steps + 1)
    if unit != "MS":
        return dates[-1] + ahead * np.timedelta64(SECONDS[unit], "s")
    months = dates.astype("datetime64[M]")
    into_month, to_next = dates - _start(months), _start(months + 1) - dates
    following = months[-1] + ahead
    last_day = _start(following + 1) - DAY + into_month[-1] % DAY
    if (into_month == into_month[0]).all():
        placed = _start(following) + into_month[-1]
    else:
        placed = _start(following + 1) - to_next[-1]
    return np.minimum(placed, last_day)


def _start(months: NDArray[np.datetime64]) -> Dates:
    return months.astype("datetime64[s]")
