"""Public holidays as columns: right days, by the series' own clock, and words that help."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from nas_system.data.calendar import dates_after
from nas_system.data.known_future import holiday_values, known_values, with_holidays
from nas_system.data.reading import read_series
from nas_system.data.series import Ahead, Clock, Series
from nas_system.errors import ConfigError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("holidays") is None, reason="needs holidays")


def series_from(start: str, step: str, rows: int, freq: str, clock: Clock | None = None) -> Series:
    dates = np.datetime64(start, "s") + np.arange(rows) * np.timedelta64(1, step)
    return Series(np.ones((rows, 1)), ("y",), dates, freq, clock=clock)


def days_of(column: str, first: str, last: str) -> list[str]:
    days = np.arange(np.datetime64(first), np.datetime64(last) + 1)
    return days[holiday_values(column, days) == 1].astype(str).tolist()


def test_the_public_holidays_of_a_year_are_those_of_the_law() -> None:
    of_germany = ["01-01", "04-02", "04-05", "05-01", "05-13", "05-24", "10-03", "12-25", "12-26"]
    assert days_of("holiday_DE", "2021-01-01", "2021-12-31") == [f"2021-{day}" for day in of_germany]
    in_bavaria_too = sorted([*of_germany, "01-06", "06-03", "11-01"])
    assert days_of("holiday_DE-BY", "2021-01-01", "2021-12-31") == [f"2021-{day}" for day in in_bavaria_too]
    # 4 July 2021 was a Sunday: Monday stood in for it.
    assert days_of("holiday_US", "2021-07-01", "2021-07-31") == ["2021-07-04", "2021-07-05"]


def test_all_hours_of_a_holiday_are_marked_and_no_other() -> None:
    series = with_holidays(series_from("2020-12-31T00:00:00", "h", 72, "h"), ("DE", "GB-SCT"))
    assert series.columns == ("y", "holiday_DE", "holiday_GB-SCT")
    assert series.known == series.columns[1:]
    assert series.values[:, 1].tolist() == [0] * 24 + [1] * 24 + [0] * 24
    assert series.values[:, 2].tolist() == [0] * 24 + [1] * 48  # 2 January is one in Scotland


def test_a_day_is_one_of_the_clock_that_the_file_shows() -> None:
    in_utc = series_from("2020-12-31T20:00:00", "h", 8, "h", Clock("+02:00", 7200))
    assert with_holidays(in_utc, ("DE",)).values[:, 1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


def test_a_series_without_countries_is_left_as_it_is() -> None:
    series = series_from("2021-01-01", "D", 5, "D")
    assert with_holidays(series, ()) is series


@pytest.mark.parametrize(
    ("country", "message"),
    [
        ("de", "the country 'de' is not known; the nearest are DE,"),
        ("Germany", "the country 'Germany' is not known; write ISO codes, as DE"),
        ("DE-by", "DE has no part 'by' with holidays of its own; the nearest are DE-BY,"),
        ("DE-", "DE has no part '' with holidays"),
        ("", "the country '' is not known"),
    ],
)
def test_a_country_that_is_not_known_is_refused_with_the_nearest(country: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        with_holidays(series_from("2021-01-01", "D", 5, "D"), (country,))
    assert message in str(refused.value) and "--holidays" in str(refused.value)


@pytest.mark.parametrize("freq", ["W", "MS", "3MS", "2D", "36h"])
def test_steps_longer_than_a_day_have_no_holidays(freq: str) -> None:
    with pytest.raises(ConfigError, match=f"the step of the series is {freq}, longer than the day"):
        with_holidays(series_from("2021-01-01", "D", 5, freq), ("DE",))


def test_years_whose_holidays_are_not_known_are_no_working_days() -> None:
    with pytest.raises(
        ConfigError, match=r"of DE are known from 1990 to \d+, and there are rows from 1985 to"
    ):
        with_holidays(series_from("1985-01-01", "D", 5, "D"), ("DE",))


def test_a_column_of_the_user_is_not_overwritten() -> None:
    lines = [f"2021-01-0{day},{day},{day}" for day in range(1, 5)]
    own = read_series("\n".join(["date,y,holiday_DE", *lines]).encode(), "own.csv", future=("holiday_DE",))
    with pytest.raises(ConfigError, match="the series has a column 'holiday_DE' already; leave DE out"):
        with_holidays(own, ("DE",))
    # Without --holidays it is one of theirs, and its future is theirs to give.
    later = dates_after(own.dates, own.freq, 1)
    with pytest.raises(ConfigError, match="'holiday_DE' has none for 1 of 1 steps, at 2021-01-05"):
        known_values(own, later)
    given = Ahead(("holiday_DE",), later, np.array([[7.0]]))
    assert known_values(own, later, given).tolist() == [[7]]


def test_the_future_of_a_holiday_is_computed() -> None:
    series = with_holidays(series_from("2021-12-20", "D", 4, "D"), ("DE",))
    later = dates_after(series.dates, series.freq, 5)
    assert known_values(series, later, countries=("DE",)).ravel().tolist() == [0, 1, 1, 0, 0]
