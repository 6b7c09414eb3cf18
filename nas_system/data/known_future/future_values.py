"""What columns whose future is known are at the steps after a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas_system.data.calendar import dates_after, spelled_dates
from nas_system.data.known_future.holidays import PREFIX, holiday_values
from nas_system.data.reading.table import shown_series
from nas_system.data.series import Ahead, Series
from nas_system.errors import ConfigError

Array = NDArray[np.float64]
Dates = NDArray[np.datetime64]


def known_values(
    series: Series, dates: Dates, given: Ahead | None = None, *, countries: Sequence[str] = ()
) -> Array:
    """Return (dates, columns): the values of `series.known`, in its order, at the steps after the last row.

    The holidays of `countries` are computed; other columns are taken from `given`, a file of the user, where
    that has a value, and else from `series.ahead`.

    Raises ConfigError that names every column and date without a value.
    """
    values = _told(series, dates, given)
    computed = {PREFIX + country for country in countries}
    for index, column in enumerate(series.known):
        if column in computed:
            values[:, index] = holiday_values(column, dates, series.clock)
    missing = np.isnan(values)
    if missing.any():
        lacks = [
            f"{column!r} has none {_when(dates[missing[:, index]], len(dates), series)}"
            for index, column in enumerate(series.known)
            if missing[:, index].any()
        ]
        which = f"{shown_series(series.name)}: " if series.name else ""
        raise ConfigError(
            f"{which}the forecast needs values of columns whose future is known (task.future), but "
            f"{'; '.join(lacks)}; append rows with these columns and empty targets to the file, or give them "
            "with --future-csv FILE"
        )
    return values


def all_with_given(
    every: Sequence[Series], given: Mapping[str, Ahead], steps: int, name: str
) -> tuple[Series, ...]:
    """Return the series with what the file `name` says of them, by their names.

    Raises ConfigError where it has no value for any step of any of them.
    """
    found = tuple(
        with_given(series, given[series.name], steps) if series.name in given else series for series in every
    )
    touched = [
        np.isin(dates_after(series.dates, series.freq, steps), given[series.name].dates).any()
        for series in every
        if series.name in given
    ]
    if not any(touched):
        series = next((series for series in every if series.name in given), None)
        if series is None:
            raise ConfigError(f"{name}: none of its series is one of those to forecast; check their names")
        wanted = spelled_dates(dates_after(series.dates, series.freq, steps)[[0, -1]], series.clock)
        has = spelled_dates(given[series.name].dates[[0, -1]], series.clock)
        raise ConfigError(
            f"{name}: its rows are of {has[0]} to {has[1]}, and the forecast is of {wanted[0]} to {wanted[1]}"
            "; give the columns for these steps"
        )
    return found


def with_given(series: Series, given: Ahead, steps: int) -> Series:
    """Return the series with what a file of the user says of the `steps` after its last row.

    Where that has no value, what its own file says stays.
    """
    dates = dates_after(series.dates, series.freq, steps)
    return replace(series, ahead=Ahead(series.known, dates, _told(series, dates, given)))


def _told(series: Series, dates: Dates, given: Ahead | None) -> Array:
    """Return (dates, columns): what the series' own file and then `given` say, NaN where neither does."""
    values = np.full((len(dates), len(series.known)), np.nan)
    for source in (series.ahead, given):
        if source is not None:
            _copy(source, series.known, dates, values)
    return values


def _copy(source: Ahead, known: Sequence[str], dates: Dates, values: Array) -> None:
    """Write what `source` has at `dates` into `values`, (dates, columns)."""
    _, ours, theirs = np.intersect1d(dates, source.dates, assume_unique=True, return_indices=True)
    for index, column in enumerate(source.columns):
        if column in known:
            found = source.values[theirs, index]
            there = ~np.isnan(found)
            values[ours[there], known.index(column)] = found[there]


def _when(dates: Dates, steps: int, series: Series) -> str:
    shown = spelled_dates(dates[[0, -1]], series.clock)
    between = f"at {shown[0]}" if len(dates) == 1 else f"from {shown[0]} to {shown[1]}"
    return f"for {len(dates):,} of {steps:,} steps, {between}"
