"""What a forecast has to know of its own steps: from a file, from the end of the data, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from nas_system.data.calendar import dates_after
from nas_system.data.known_future import known_values
from nas_system.data.reading import read_ahead, read_all, read_series
from nas_system.errors import ConfigError

PAST = [f"2021-01-0{day},{day},{day % 2},{day % 3}" for day in range(1, 6)]
LATER = ["2021-01-06,,1,10", "2021-01-07,,0,", "2021-01-08,,1,30"]
KNOWN = ("promo", "price")


def own(*lines: str) -> bytes:
    return "\n".join(["date,y,promo,price", *lines]).encode()


def test_the_rows_after_the_end_are_used_and_a_file_comes_before_them() -> None:
    series = read_series(own(*PAST, *LATER), "own.csv", future=KNOWN)
    days = dates_after(series.dates, series.freq, 2)
    assert known_values(series, days[:1]).tolist() == [[1, 10]]
    # Of two sources of one value it is the file's; an empty cell there leaves the other.
    content = b"date,price,promo\n2020-12-31,9,9\n2021-01-06,11,\n2021-01-07,21,0\n2021-01-09,9,9\n"
    given = read_ahead(content, "next.csv", series.known, like=series)[""]
    assert known_values(series, days, given).tolist() == [[1, 11], [0, 21]]


def test_every_column_and_date_without_a_value_is_named() -> None:
    series = read_series(own(*PAST, *LATER), "own.csv", future=KNOWN)
    with pytest.raises(ConfigError) as refused:
        known_values(series, dates_after(series.dates, series.freq, 5))
    assert str(refused.value) == (
        "the forecast needs values of columns whose future is known (task.future), but 'promo' has none for "
        "2 of 5 steps, from 2021-01-09 to 2021-01-10; 'price' has none for 3 of 5 steps, from 2021-01-07 to "
        "2021-01-10; append rows with these columns and empty targets to the file, or give them with "
        "--future-csv FILE"
    )


def test_a_series_of_several_is_named() -> None:
    lines = [f"{line},{shop}" for shop in "AB" for line in PAST]
    content = "\n".join(["date,y,promo,price,shop", *lines]).encode()
    _, second = read_all(content, "own.csv", series_columns=("shop",), future=KNOWN)
    with pytest.raises(ConfigError, match=r"^series 'B': the forecast needs values"):
        known_values(second, dates_after(second.dates, second.freq, 1))


def test_dates_are_named_as_the_clock_of_the_file_shows_them() -> None:
    lines = [f"2021-01-01T0{hour}:00:00+02:00,{hour},1" for hour in range(4)]
    content = "\n".join(["date,y,promo", *lines]).encode()
    series = read_series(content, "own.csv", future=("promo",))
    with pytest.raises(ConfigError, match=r"for 1 of 1 steps, at 2021-01-01T04:00:00\+02:00"):
        known_values(series, dates_after(series.dates, series.freq, 1))


def test_a_series_without_known_columns_needs_nothing() -> None:
    series = read_series(b"date,y\n2021-01-01,1\n2021-01-02,2\n2021-01-03,3\n", "own.csv")
    assert known_values(series, np.array(["2021-01-04"], "datetime64[s]")).shape == (1, 0)
