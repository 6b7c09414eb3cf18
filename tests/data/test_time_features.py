"""Clock and calendar numbers, against pandas and the published formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas_system.data import time_features
from nas_system.data.time_features import calendar, continuous, marks, n_marks, unit_of

# Leap days, turns of years, and years that begin in week 53, 52 and 1.
DATES: Any = pd.date_range("2015-12-20", "2021-01-20", freq="11h13min7s")
STAMPS = DATES.to_numpy().astype("datetime64[s]")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (time_features.second, DATES.second),
        (time_features.minute, DATES.minute),
        (time_features.hour, DATES.hour),
        (time_features.weekday, DATES.dayofweek),
        (time_features.day, DATES.day),
        (time_features.yearday, DATES.dayofyear),
        (time_features.week, DATES.isocalendar().week),
        (time_features.month, DATES.month),
    ],
)
def test_calendar_numbers_equal_those_of_pandas(function, expected) -> None:
    assert np.array_equal(function(STAMPS), np.asarray(expected, dtype=np.int64))


def test_dates_before_1970_are_right_too() -> None:
    old: Any = pd.date_range("1899-12-25", "1904-03-02", freq="D")
    stamps = old.to_numpy().astype("datetime64[s]")
    assert np.array_equal(time_features.weekday(stamps), old.dayofweek)
    assert np.array_equal(time_features.yearday(stamps), old.dayofyear)
    assert np.array_equal(time_features.month(stamps), old.month)


def test_hourly_features_are_the_four_published_ones() -> None:
    expected = [DATES.hour / 23 - 0.5, DATES.dayofweek / 6 - 0.5, (DATES.day - 1) / 30 - 0.5,
                (DATES.dayofyear - 1) / 365 - 0.5]  # fmt: skip
    found = continuous(STAMPS, "h")
    assert found.dtype == np.float32
    assert np.allclose(found, np.stack(expected, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("freq", "width"),
    [("s", 6), ("30s", 6), ("15min", 5), ("h", 4), ("4h", 4), ("D", 3), ("W", 2), ("MS", 1), ("3MS", 1)],
)
def test_every_frequency_has_features_within_half_a_unit(freq: str, width: int) -> None:
    found = continuous(STAMPS, freq)
    assert found.shape == (len(STAMPS), width) == (len(STAMPS), n_marks(freq, "continuous"))
    assert np.abs(found).max() <= 0.5


def test_the_calendar_is_month_day_weekday_hour() -> None:
    found = calendar(np.array(["2016-02-29T23:50"], dtype="datetime64[s]"), "h")
    assert found.tolist() == [[2, 29, 0, 23]] and found.dtype == np.int64


def test_below_an_hour_the_calendar_adds_the_quarter_of_the_hour() -> None:
    found = calendar(np.array(["2016-02-29T23:50", "2016-02-29T23:14"], dtype="datetime64[s]"), "15min")
    assert found.tolist() == [[2, 29, 0, 23, 3], [2, 29, 0, 23, 0]]
    assert n_marks("15min", "calendar") == 5 and n_marks("h", "calendar") == 4


def test_a_family_without_marks_gets_none() -> None:
    assert marks(STAMPS, "h", "none") is None and n_marks("h", "none") == 0


def test_an_unknown_frequency_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown frequency '7X'"):
        unit_of("7X")
