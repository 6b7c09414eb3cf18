"""The order of dated rows: in time and one step apart, as windows over them are read.

A calendar that pandas knows by a name (business days, month ends, quarters) has steps of one as well,
and so have working days without a few holidays. Without dates rows are in the order in which they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

HOLIDAYS = 0.1
"""Largest share of the working days that may be missing as holidays."""


def time_order(index: pd.Index | None, name: str) -> NDArray[np.intp] | None:
    """Return the rows in the order of time; None if they are in it, or have no dates.

    Raises ValueError for a row without a date, for two of one date, and for gaps.
    """
    stamps = None if index is None else _stamps_of(index)
    if stamps is None or len(stamps) < 2:
        return None
    if stamps.hasnans:
        row = int(np.flatnonzero(stamps.isna())[0])
        raise ValueError(f"{name}: row {row} has no date (NaT); give it one or drop the row")
    order = None if stamps.is_monotonic_increasing else np.argsort(stamps.asi8, kind="stable")
    in_order: Any = stamps if order is None else stamps.take(order)
    double = np.flatnonzero(in_order.asi8[1:] == in_order.asi8[:-1])
    if len(double):
        one, other = (int(double[0]) + at if order is None else int(order[double[0] + at]) for at in (0, 1))
        raise ValueError(
            f"{name}: rows {one} and {other} are both of {in_order[double[0]]}, and only one can follow the "
            "row before it; keep one row for each date, or fit one model for each series"
        )
    _refuse_gaps(in_order, name)
    return order


def _stamps_of(index: pd.Index) -> Any:
    """Return the dates of an index, or the spans of time; None for any other labels."""
    import pandas as pd

    if isinstance(index, pd.PeriodIndex):
        return index.to_timestamp()
    return index if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None


def _refuse_gaps(stamps: Any, name: str) -> None:
    """Raise ValueError, with the largest gap, if ascending `stamps` are of no calendar."""
    import pandas as pd

    steps = stamps[1:] - stamps[:-1]
    if len(steps) < 2 or steps.nunique() == 1 or pd.infer_freq(stamps) is not None:
        return
    if isinstance(stamps, pd.DatetimeIndex) and _are_working_days(stamps.tz_localize(None)):
        return
    usual = steps.to_series().mode().iloc[0]
    at = int(steps.argmax() if steps.max() > usual else steps.argmin())
    raise ValueError(
        f"{name}: rows are to be one step apart, here mostly {usual}, but {stamps[at + 1]} follows "
        f"{stamps[at]}; put in the rows that are missing (.asfreq or .resample, then .interpolate), or leave "
        "the dates away if the rows follow each other all the same (.reset_index(drop=True))"
    )


def _are_working_days(stamps: Any) -> bool:
    """Return whether these are days from Monday to Friday, of which few are missing."""
    midnights = stamps.normalize()
    if (stamps - midnights).nunique() > 1:
        return False
    days = midnights.to_numpy().astype("datetime64[D]")
    if not np.is_busday(days).all():
        return False
    return len(days) >= (1 - HOLIDAYS) * (np.busday_count(days[0], days[-1]) + 1)
