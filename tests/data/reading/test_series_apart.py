"""Series that were written into one file come out as they were, however their rows are mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.data.reading import read_all, read_series
from nas_system.errors import ConfigError

STEPS = {"h": 3600, "15min": 900, "D": 86_400, "W": 7 * 86_400}
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 3))
KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)


@st.composite
def panels(draw: st.DrawFn) -> tuple[str, dict[str, list[str]], list[str]]:
    """A step, the rows of each series as text, and all rows in some order that keeps that of each."""
    freq = draw(st.sampled_from(sorted(STEPS)))
    names = draw(st.lists(KEYS.filter(lambda key: key[0] not in "#"), min_size=1, max_size=4, unique=True))
    rows: dict[str, list[str]] = {}
    for name in names:
        start = np.datetime64("2021-01-04T00:00:00") + draw(st.integers(0, 5)) * STEPS[freq]
        values = draw(st.lists(NUMBERS, min_size=3, max_size=8))
        stamps = [str(start + row * STEPS[freq]).replace("T", " ") for row in range(len(values))]
        rows[name] = [f"{stamp},{value}" for stamp, value in zip(stamps, values, strict=True)]
        if draw(st.booleans()):
            rows[name].reverse()
    turns = draw(st.permutations([name for name in names for _ in rows[name]]))
    left = {name: iter(rows[name]) for name in names}
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in names}
    return freq, rows, [f"{quoted[name]},{next(left[name])}" for name in turns]


@settings(max_examples=60, deadline=None)
@given(panels())
def test_a_panel_reads_back_as_the_series_it_was_written_from(
    panel: tuple[str, dict[str, list[str]], list[str]],
) -> None:
    freq, rows, lines = panel
    content = "\n".join(["key,date,y", *lines]).encode()
    read = {series.name: series for series in read_all(content, "own.csv", series_columns=("key",))}
    assert read.keys() == rows.keys()
    for name, own in rows.items():
        alone = read_series("\n".join(["date,y", *own]).encode(), "own.csv")
        series = read[name]
        assert (series.freq, series.columns, series.filled) == (freq, alone.columns, {})
        np.testing.assert_array_equal(series.dates, alone.dates)
        np.testing.assert_array_equal(series.values, alone.values)


def test_names_come_in_the_order_of_their_first_rows() -> None:
    stamps = [f"2021-01-0{day}" for day in range(1, 5)]
    lines = [f"{stamp},{key},1" for stamp in stamps for key in ("b", "c", "a")]
    read = read_all("\n".join(["date,key,y", *lines]).encode(), "own.csv", series_columns=("key",))
    assert [series.name for series in read] == ["b", "c", "a"]


def test_without_series_columns_there_is_one_series_without_a_name() -> None:
    content = "\n".join(["date,y", *(f"2021-01-0{day},{day}" for day in range(1, 5))]).encode()
    (one,) = read_all(content, "own.csv")
    same = read_series(content, "own.csv")
    assert (one.name, one.known, one.ahead, one.said) == ("", (), None, same.said)
    np.testing.assert_array_equal(one.values, same.values)


def test_days_of_a_local_clock_stay_its_days_in_every_series() -> None:
    winter = [f"2021-03-{day}T00:00:00+01:00" for day in (26, 27, 28)]
    summer = [f"2021-03-{day}T00:00:00+02:00" for day in (29, 30, 31)]
    lines = [f"{key},{stamp},1" for key in "ab" for stamp in winter + summer]
    read = read_all("\n".join(["key,date,y", *lines]).encode(), "own.csv", series_columns=("key",))
    assert [(one.freq, str(one.dates[0]), one.clock and one.clock.offset) for one in read] == [
        ("D", "2021-03-26T00:00:00", "+02:00")
    ] * 2


def test_a_decimal_comma_in_one_series_is_that_of_all() -> None:
    lines = [
        f"{key};2021-01-0{day};{value}" for key, value in (("a", "1,5"), ("b", "7")) for day in (1, 2, 3)
    ]
    read = read_all("\n".join(["key;date;y", *lines]).encode(), "own.csv", series_columns=("key",))
    assert [one.values[0, 0] for one in read] == [1.5, 7.0]


def test_more_values_than_a_file_has_series_tell_none_apart() -> None:
    lines = [f"2021-01-01,{price},1" for price in range(10_001)]
    with pytest.raises(ConfigError) as refused:
        read_all("\n".join(["date,price,y", *lines]).encode(), "own.csv", series_columns=("price",))
    assert str(refused.value) == (
        "own.csv, line 1: column 'price' has 10,001 different values: it is no series column; a file holds "
        "up to 10,000 series"
    )


def test_many_short_series_are_left_out_in_one_sentence() -> None:
    lines = [f"2021-01-0{day},long,1" for day in (1, 2, 3)] + [f"2021-01-01,s{key},1" for key in range(9)]
    (one,) = read_all("\n".join(["date,key,y", *lines]).encode(), "own.csv", series_columns=("key",))
    assert "9 series are left out, for they have 2 rows at most: 's0', 's1', 's2', 's3', ..." in one.said


def test_a_long_name_is_shortened_where_it_is_shown_and_nowhere_else() -> None:
    name = "x" * 200
    rows = [f"2021-01-0{day},{name},{day}" for day in (1, 2, 3, 4)]
    (one,) = read_all("\n".join(["date,key,y", *rows]).encode(), "own.csv", series_columns=("key",))
    assert one.name == name
    rows[2] = rows[2].removesuffix("3") + "three"
    with pytest.raises(ConfigError, match=r"line 4, series '" + "x" * 97 + r"\.\.\.', column 'y': 'three'"):
        read_all("\n".join(["date,key,y", *rows]).encode(), "own.csv", series_columns=("key",))


def test_two_pairs_of_cells_that_make_one_name_are_refused() -> None:
    pairs = (("a / b", "c"), ("a", "b / c"))
    rows = [f"2021-01-0{day},{one},{two},1" for one, two in pairs for day in (1, 2, 3)]
    with pytest.raises(ConfigError, match="two series would have the name 'a / b / c'"):
        read_all("\n".join(["date,k,l,y", *rows]).encode(), "own.csv", series_columns=("k", "l"))
