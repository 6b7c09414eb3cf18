"""Public holidays of countries as columns of a series. Needs the extra `holidays`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Clock, Series
from nas_system.errors import ConfigError
from nas_system.space.time_steps import SECONDS

Array = NDArray[np.float64]
Dates = NDArray[np.datetime64]

PREFIX = "holiday_"
FLAG = "--holidays"
CODES_SHOWN = 3
LOWEST_RESEMBLANCE = 0.5
"""Of two letters one may be wrong."""


def with_holidays(series: Series, countries: Sequence[str]) -> Series:
    """Return the series with a column for each country, as `holiday_DE-BY`, whose future is known.

    It is 1 in every row of a public holiday, which is a day of the series' own clock, and else 0. Time stamps
    with an offset are on the clock of the last row all year.

    Raises ConfigError for a country or a part of it that is not known, for rows before or after the years
    whose holidays are, for steps longer than a day, for a column that has such a name already, and where the
    extra `holidays` is not installed.
    """
    if not countries:
        return series
    if not _is_within_a_day(series.freq):
        raise ConfigError(
            f"{FLAG} (task.holidays): the step of the series is {series.freq}, longer than the day that a "
            f"holiday is; leave {FLAG} out"
        )
    names = tuple(PREFIX + country for country in countries)
    for country, name in zip(countries, names, strict=True):
        if name in series.columns:
            raise ConfigError(
                f"{FLAG} (task.holidays): the series has a column {name!r} already; leave {country} out, or "
                "rename the column"
            )
    values = [holiday_values(name, series.dates, series.clock) for name in names]
    return replace(
        series,
        columns=(*series.columns, *names),
        values=np.column_stack([series.values, *values]),
        known=(*series.known, *names),
    )


def holiday_values(column: str, dates: Dates, clock: Clock | None = None) -> Array:
    """Return (dates,): 1 at each of them that lies on a public holiday of the country of a column.

    Raises ConfigError as `with_holidays` does.
    """
    ahead_s = 0 if clock is None else clock.ahead_s
    days = (dates.astype("datetime64[s]") + np.timedelta64(ahead_s, "s")).astype("datetime64[D]")
    if not len(days):
        return np.empty(0)
    years = days.astype("datetime64[Y]").astype(np.int64) + 1970
    holidays = _holidays_of(column.removeprefix(PREFIX), int(years.min()), int(years.max()))
    return np.isin(days, holidays).astype(np.float64)


def _is_within_a_day(freq: str) -> bool:
    unit = freq.lstrip("0123456789")
    return unit in SECONDS and int(freq.removesuffix(unit) or 1) * SECONDS[unit] <= SECONDS["D"]


@lru_cache(maxsize=128)
def _holidays_of(country: str, first_year: int, last_year: int) -> NDArray[np.datetime64]:
    """Return the public holidays of some years, days that stand in for one on a weekend among them."""
    holidays = _holidays()
    code, _, part = country.partition("-")
    countries: dict[str, list[str]] = holidays.list_supported_countries(include_aliases=True)
    if code not in countries:
        _refuse(country, f"the country {code!r} is not known", code, list(countries), "")
    if country != code and part not in countries[code]:
        problem = f"{code} has no part {part!r} with holidays of its own"
        _refuse(country, problem, part, countries[code], f"{code}-")
    calendar = holidays.country_holidays(code, subdiv=part or None, years=range(first_year, last_year + 1))
    if first_year < calendar.start_year or last_year > calendar.end_year:
        raise ConfigError(
            f"{FLAG} (task.holidays): the holidays of {country} are known from {calendar.start_year} to "
            f"{calendar.end_year}, and there are rows from {first_year} to {last_year}; leave {country} out, "
            "or begin the file later"
        )
    return np.array(sorted(calendar), dtype="datetime64[D]")


def _refuse(country: str, problem: str, written: str, codes: Sequence[str], before: str) -> None:
    by_capitals = {code.upper(): code for code in reversed(codes)}
    close = difflib.get_close_matches(written.upper(), by_capitals, n=CODES_SHOWN, cutoff=LOWEST_RESEMBLANCE)
    nearest = ", ".join(before + by_capitals[name] for name in close)
    likely = f"the nearest are {nearest}; " if nearest else ""
    raise ConfigError(
        f"{FLAG} {country} (task.holidays): {problem}; {likely}write ISO codes, as DE, US or, for a part of "
        "a country, DE-BY"
    )


def _holidays() -> ModuleType:
    try:
        return importlib.import_module("holidays")
    except ImportError as error:
        raise ConfigError(
            f"{FLAG} (task.holidays) needs a calendar, which cannot be imported ({error}); install it with: "
            "pip install 'nas-agent[holidays]'"
        ) from None
