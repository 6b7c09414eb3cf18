"""Reading a person's own CSV file: what is accepted, and how a bad line is named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas_system.data.csv_file import parse_csv
from nas_system.errors import ConfigError


def csv_of(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def hourly(*values: str, header: str = "date,a,b") -> bytes:
    return csv_of(header, *(f"2020-01-01 {hour:02d}:00:00,{value}" for hour, value in enumerate(values)))


def test_a_plain_file_is_read() -> None:
    series = parse_csv(hourly("1,2", "-3.5,4e2", " 5 ,6"), "own.csv")
    assert series.columns == ("a", "b") and series.freq == "h" and len(series) == 3
    assert series.values.tolist() == [[1, 2], [-3.5, 400], [5, 6]]
    assert series.dates[2] == np.datetime64("2020-01-01T02:00:00")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + hourly("1,2", "3,4", "5,6"),
        hourly("1,2", "3,4", "5,6").replace(b"\n", b"\r\n"),
        hourly("1,2", "3,4", "5,6") + b"\n\n",
        hourly("1,2", "3,4", "5,6").rstrip(b"\n"),
        hourly('"1","2"', "3,4", "5,6"),
        hourly("1,2", "3,4", "5,6", header="date, a ,b"),
        hourly("1,2", "3,4", "5,6", header=",a,b"),
    ],
    ids=["bom", "windows", "blank-end", "no-newline", "quoted", "spaces-in-header", "nameless-index"],
)
def test_harmless_variants_are_read_alike(content: bytes) -> None:
    series = parse_csv(content, "own.csv")
    assert series.columns == ("a", "b") and series.values.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("stamps", "freq"),
    [
        (["2020-01-01T00:00", "2020-01-01T00:15", "2020-01-01T00:30"], "15min"),
        (["2020-01-01 00:00:00", "2020-01-01 00:00:10", "2020-01-01 00:00:20"], "10s"),
        (["2020-02-27", "2020-02-28", "2020-02-29"], "D"),
        (["2020-01-06", "2020-01-13", "2020-01-20"], "W"),
        (["2020-01", "2020-02", "2020-03"], "MS"),
        (["2020-01-31", "2020-02-29", "2020-03-31"], "MS"),
        (["2020-01-01", "2020-04-01", "2020-07-01"], "3MS"),
        (["2020-01-01", "2021-01-01", "2022-01-01"], "12MS"),
    ],
)
def test_the_step_is_found(stamps: list[str], freq: str) -> None:
    assert parse_csv(csv_of("date,a", *(f"{stamp},1" for stamp in stamps)), "own.csv").freq == freq


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (hourly("1,2", "3,", "5,6"), r"own.csv, line 3, column 'b': the value is missing"),
        (hourly("1,2", "3,4", "NA,6"), r"line 4, column 'a': the value is missing"),
        (hourly("1,2", "nan,4", "5,6"), r"line 3, column 'a': the value is missing"),
        (hourly("1,2", "3,high", "5,6"), r"line 3, column 'b': 'high' is not a finite number"),
        (hourly("1,2", "3,4", "5,inf"), r"line 4, column 'b': 'inf' is not a finite number"),
        (hourly("1,1e400", "3,4", "5,6"), r"line 2, column 'b': '1e400' is not a finite number"),
        (hourly("1,2", "3", "5,6"), r"line 3: 2 values, but the header names 3 columns"),
        (hourly("1,2", "3,4", "5,6,7"), r"line 4: 4 values"),
        (hourly("1,2", "3,4"), r"2 rows are too few"),
        (b"", r"line 1: fewer than two columns"),
        (csv_of("date a b", "2020-01-01 1 2"), r"commas, not spaces"),
        (hourly("1,2", "3,4", "5,6", header="date,a,a"), r"two columns are named 'a'"),
        (hourly("1,2", "3,4", "5,6", header="date,a,"), r"column 3 has no name"),
        (csv_of("2020-01-01,1", "2020-01-02,2", "2020-01-03,3", "2020-01-04,3"), r"a header .* is missing"),
        (csv_of("date,a", "2020-01-01,1", "2.1.2020,2", "2020-01-03,3"), r"line 3, column 'date': '2.1"),
        (csv_of("date,a", "0,1", "1,2", "2,3"), r"line 2, column 'date': '0' is not a time stamp"),
        (
            csv_of("n,date", "0,2020-01-01", "1,2020-01-02", "2,2020-01-03"),
            r"line 2, column 'n': '0' is not a time stamp, but column 'date' holds them; make that the first",
        ),
        (
            csv_of("t,a", "2020-01-01 00:00:00.0,1", "2020-01-01 00:00:01.0,2", "2020-01-01 00:00:01.5,3"),
            r"line 4, column 't': '2020-01-01 00:00:01.5' has a fraction of a second; steps are whole",
        ),
        (
            csv_of("t,a", "2020-01-01T00:00Z,1", "2020-01-01T01:00,2", "2020-01-01T02:00Z,3"),
            r"line 3, column 't': some time stamps have an offset from UTC and some have none; write all",
        ),
        (csv_of("t,a", "2020-01-01T00:00Z,1", "2020-01-01T01:00 CET,2", "2020-01-01,3"), r"line 3.*not a"),
        (csv_of("t,a", "2020-01-01T00:00Z,1", "2020-02-31T01:00Z,2", "2020-01-01T02:00Z,3"), r"line 3.*no"),
        (csv_of("date,a", "2020-01-01,1", "2020-01-02,2", "2020-02-30,3"), r"line 4.*no such time"),
        (csv_of("t,a", "0001-01-01T00:00+05:00,1", "2020-01-01T01:00Z,2", "2020-02-01T02:00Z,3"), r"2.*no"),
        (csv_of("date,a", "2020-01-01,1", "2020-01-01,2", "2020-01-02,3"), r"line 3.*repeats the one before"),
        (csv_of("date,a", "2020-01-02,1", "2020-01-03,2", "2020-01-01,3"), r"line 4.*is earlier.*; sort"),
        (
            csv_of("date,a", "2020-01-01,1", "2020-01-02,2", "2020-01-04,3", "2020-01-05,4", "2020-01-06,4"),
            r"line 4.*comes 2D after the one before, elsewhere it is D",
        ),
        (hourly("1,2", "3,\xff", "5,6").decode().encode("latin-1"), r"line 3: not UTF-8"),
        (csv_of("date,a", '2020-01-01,"' + "x" * 200_000 + '"'), r"not a CSV file"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_line_and_column(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_csv(content, "own.csv")


def test_a_gap_after_the_first_row_is_blamed_on_the_second() -> None:
    stamps = ["2020-01-01", "2020-01-05", "2020-01-06", "2020-01-07"]
    with pytest.raises(ConfigError, match=r"line 3.*comes 4D"):
        parse_csv(csv_of("date,a", *(f"{stamp},1" for stamp in stamps)), "own.csv")


def test_an_extra_row_is_blamed_not_the_rows_before_it() -> None:
    stamps = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-03 12:00", "2020-01-04", "2020-01-05"]
    with pytest.raises(ConfigError, match=r"line 5.*comes 12h .* elsewhere it is D"):
        parse_csv(csv_of("date,a", *(f"{stamp},1" for stamp in stamps)), "own.csv")


def monthly(*stamps: str) -> bytes:
    return csv_of("month,a", *(f"{stamp},1" for stamp in stamps))


def test_a_missing_month_is_counted_in_months() -> None:
    with pytest.raises(
        ConfigError, match=r"line 4.*2020-04-01.* comes 2MS after the one before, elsewhere it is MS"
    ):
        parse_csv(monthly("2020-01", "2020-02", "2020-04", "2020-05", "2020-06"), "own.csv")


def test_a_day_out_of_place_among_months_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"line 4.*2020-03-02.* is not at the place in its month where 2020-01-01"
    ):
        parse_csv(monthly("2020-01-01", "2020-02-01", "2020-03-02", "2020-04-01"), "own.csv")


def test_steps_of_four_weeks_are_no_months() -> None:
    assert parse_csv(monthly("2020-01-01", "2020-01-29", "2020-02-26", "2020-03-25"), "own.csv").freq == "4W"


@pytest.mark.parametrize(("freq", "line"), [(None, 6), ("h", 6), ("30min", 3)])
def test_the_expected_step_decides_which_row_is_wrong(freq: str | None, line: int) -> None:
    hours = ("00:00", "01:00", "02:00", "03:00", "03:30")
    content = csv_of("date,a", *(f"2020-01-01 {hour},1" for hour in hours))
    expected = "elsewhere it is h" if freq is None else rf"but --freq \(task.freq\) says {freq}"
    with pytest.raises(ConfigError, match=rf"own.csv, line {line}, column 'date': .* comes .*, {expected}"):
        parse_csv(content, "own.csv", freq=freq)


@pytest.mark.parametrize(
    "stamps",
    [
        ["2020-03-29T00:00:00Z", "2020-03-29T01:00:00Z", "2020-03-29T02:00:00Z"],
        ["2020-03-29 00:00:00+00:00", "2020-03-29 01:00:00+00:00", "2020-03-29 02:00:00+00:00"],
        ["2020-03-29 01:00:00+01:00", "2020-03-29 03:00:00+02:00", "2020-03-29 04:00:00+02:00"],
        ["2020-03-28 20:30:00-0330", "2020-03-28 21:30:00-0330", "2020-03-28 22:30:00-0330"],
        ["2020-03-29 00:00:00.000", "2020-03-29 01:00:00.000", "2020-03-29 02:00:00"],
        ["2020-03-29T00:00:00.000000Z", "2020-03-29T01:00Z", "2020-03-29 02:00:00.0Z"],
    ],
    ids=["zulu", "utc", "berlin-summer-time", "newfoundland", "milliseconds", "mixed"],
)
def test_offsets_and_empty_fractions_are_read_as_pandas_reads_them(stamps: list[str]) -> None:
    series = parse_csv(csv_of("date,a", *(f"{stamp},1" for stamp in stamps)), "own.csv")
    expected = pd.to_datetime(pd.Series(stamps), utc=True, format="ISO8601").dt.tz_localize(None)
    assert series.dates.tolist() == expected.to_numpy().astype("datetime64[s]").tolist()
    assert series.freq == "h"


# ------------------------------------------------------------------------------------ missing values

GAPS = hourly("1,2", "NA,4", ",nan", "7,8", "9,?", header="date,a,b")


def test_missing_values_take_the_last_known_one_as_with_pandas() -> None:
    series = parse_csv(GAPS, "own.csv", missing="ffill")
    table = pd.read_csv(io.BytesIO(GAPS), index_col=0, na_values=["?"]).ffill()
    assert series.values.tolist() == table.to_numpy().tolist() == [[1, 2], [1, 4], [1, 4], [7, 8], [9, 8]]
    assert series.filled == {"a": 2, "b": 2}


def test_what_was_filled_does_not_depend_on_what_comes_later() -> None:
    cut = parse_csv(b"\n".join(GAPS.split(b"\n")[:5]), "own.csv", missing="ffill")
    assert cut.values.tolist() == parse_csv(GAPS, "own.csv", missing="ffill").values[:4].tolist()


def test_a_complete_file_has_nothing_filled() -> None:
    assert parse_csv(hourly("1,2", "3,4", "5,6"), "own.csv", missing="ffill").filled == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            hourly(",2", "3,4", "5,6"),
            r"own.csv, line 2, column 'a': the first row has no value.*nothing before.*begin the file at",
        ),
        (hourly("1,", "3,", "5,6"), r"line 2, column 'b': the first 2 rows have no value.*at line 4, or"),
        (hourly("1,", "3,NA", "5,-"), r"line 2, column 'b': there is no value in the whole column; remove"),
        (hourly("1,2", ",4", "5,high"), r"line 4, column 'b': 'high' is not a finite number"),
        (hourly("1,2", ",4", "5,inf"), r"line 4, column 'b': 'inf' is not a finite number"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_forward_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_csv(content, "own.csv", missing="ffill")


def test_the_real_file_is_read_as_python_reads_it_cell_by_cell(ett_dir: Path) -> None:
    content = (ett_dir / "ETTh1.csv").read_bytes()
    series = parse_csv(content, "ETTh1.csv")
    assert series.values.shape == (17_420, 7) and series.freq == "h"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    for row in (0, 1, 8640, 17_419):
        assert [float(rows[row][column]) for column in series.columns] == series.values[row].tolist()
        assert str(series.dates[row]) == rows[row]["date"].replace(" ", "T")
