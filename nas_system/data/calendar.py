"""The time stamps that follow a series: the dates of a forecast of its future. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Clock, are_business_ends, business_day
from nas_system.space.time_steps import SECONDS

Dates = NDArray[np.datetime64]

DAY = np.timedelta64(SECONDS["D"], "s")


def spelled_dates(dates: Dates, clock: Clock | None = None) -> list[str]:
    """Format as `2018-06-26 20:00:00`, or `2018-06-26` where all are midnights.

    On a clock as it shows them, with its offset from UTC: `2018-06-26T22:00:00+02:00`.
    """
    if clock is not None:
        shown = dates.astype("datetime64[s]") + np.timedelta64(clock.ahead_s, "s")
        return [f"{stamp}{clock.offset}" for stamp in shown]
    unit = "D" if (dates == dates.astype("datetime64[D]")).all() else "s"
    return [str(stamp).replace("T", " ") for stamp in dates.astype(f"datetime64[{unit}]")]


def dates_after(dates: Dates, freq: str, steps: int) -> Dates:
    """Return the `steps` time stamps after the last of `dates`, which are `freq` apart.

    Steps in months keep their distance from the month's start or, where only that is constant, from
    its end; a day that a month does not have becomes its last.
    """
    unit = freq.lstrip("0123456789")
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
    elif (to_next != to_next[0]).any() and are_business_ends(dates):
        place = -1 if to_next[-1] < into_month[-1] else 0
        return business_day(following, place).astype(dates.dtype) + into_month[-1] % DAY
    else:
        placed = _start(following + 1) - to_next[-1]
    return np.minimum(placed, last_day)


def _start(months: NDArray[np.datetime64]) -> Dates:
    return months.astype("datetime64[s]")
