"""A file with nothing but the future of known columns, as `nas predict --future-csv` takes it."""

from __future__ import annotations

import numpy as np
import pytest

from nas_system.data.reading import read_ahead, read_series
from nas_system.data.series import Series
from nas_system.errors import ConfigError


def csv_of(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def series(*stamps: str) -> Series:
    return read_series(csv_of("date,y", *(f"{stamp},1" for stamp in stamps)), "own.csv")


def test_one_row_is_enough_and_other_columns_are_not_read() -> None:
    content = csv_of("date,note,promo", '2021-02-01,"rain, 5,000",3')
    ahead = read_ahead(content, "next.csv", ("promo",))[""]
    assert (ahead.columns, ahead.dates.astype(str).tolist()) == (("promo",), ["2021-02-01T00:00:00"])
    assert ahead.values.tolist() == [[3]]


def test_columns_come_in_the_order_they_are_asked_for_and_empty_cells_stay_empty() -> None:
    content = csv_of("date,b,a", "2021-02-03,,6", "2021-02-01,1,2")
    ahead = read_ahead(content, "next.csv", ("a", "b"))[""]
    np.testing.assert_array_equal(ahead.values, [[2, 1], [6, np.nan]])


def test_every_series_has_its_own_rows() -> None:
    lines = ["2021-02-01,1,A,x", "2021-02-01,2,B,x", "2021-02-02,3,A,x"]
    ahead = read_ahead(
        csv_of("date,promo,shop,kind", *lines), "next.csv", ("promo",), series_columns=("shop", "kind")
    )
    assert {name: one.values.ravel().tolist() for name, one in ahead.items()} == {
        "A / x": [1, 3],
        "B / x": [2],
    }


def test_a_local_day_is_one_where_the_series_has_local_days() -> None:
    days = [*(f"2021-03-{day}T00:00:00+01:00" for day in (27, 28)), "2021-03-29T00:00:00+02:00"]
    content = csv_of("date,promo", "2021-03-30T00:00:00+02:00,1")
    local = read_ahead(content, "next.csv", ("promo",), like=series(*days))[""]
    hours = [f"2021-03-29T0{hour}:00:00+02:00" for hour in range(3)]
    in_utc = read_ahead(content, "next.csv", ("promo",), like=series(*hours))[""]
    assert [str(one.dates[0]) for one in (local, in_utc)] == ["2021-03-30T00:00:00", "2021-03-29T22:00:00"]


PLAIN = ("2021-01-01", "2021-01-02", "2021-01-03")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            csv_of("date,prmo", "2021-02-01,1"),
            "line 1: there is no column 'promo', which the search (task.future) names; did you mean 'prmo'?",
        ),
        (csv_of("date,promo", "2021-02-01,yes"), "line 2, column 'promo': 'yes' is not a finite number"),
        (csv_of("date,promo", "2021-02-01,1", "2021-02-01,1"), "line 3, column 'date': the time stamp"),
        (
            csv_of("date,promo", "2021-02-01T00:00Z,1"),
            "line 2, column 'date': the time stamps have an offset from UTC, but those of the series have",
        ),
        (
            csv_of("date,promo", "02/01/2021,1", "03/01/2021,1"),
            "line 2, column 'date': '02/01/2021' is ambiguous",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_ahead(content, "next.csv", ("promo",), like=series(*PLAIN))
    assert str(refused.value).startswith(f"next.csv, {message}")


def test_a_series_with_offsets_wants_them_in_its_future_too() -> None:
    own = series(*(f"{stamp}T00:00:00+02:00" for stamp in PLAIN))
    with pytest.raises(ConfigError, match=r"have no offset from UTC, but those of the series have; write it"):
        read_ahead(csv_of("date,promo", "2021-01-04,1"), "next.csv", ("promo",), like=own)
    formatted = read_ahead(
        csv_of("date,promo", "04.01.2021 00:00 +0200,1"),
        "next.csv",
        ("promo",),
        date_format="%d.%m.%Y %H:%M %z",
        like=own,
    )
    assert str(formatted[""].dates[0]) == "2021-01-03T22:00:00"
