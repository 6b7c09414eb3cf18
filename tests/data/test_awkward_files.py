"""Files as people have them: each is read with the right values, or refused with words that help.

The files are in `files/`, written by `files/make_files.py`; `files/messages.json` has what is said of those
that are refused. Most hold the same 48 values.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.data.reading import read_series
from nas_system.describe import main
from nas_system.errors import ConfigError

FILES = Path(__file__).with_name("files")
VALUES = np.array([round(50 + 10 * math.sin(row / 4) + row % 7 / 10, 2) for row in range(48)])
LARGE = np.round(1000 + 30 * VALUES, 2)


@dataclass(frozen=True)
class Read:
    """What must be read: the steps, the first and the last time, and the values of the first column."""

    freq: str = "h"
    first: str = "2021-01-20T00:00:00"
    last: str = "2021-01-21T23:00:00"
    values: Any = None
    """None for `VALUES`"""
    offset: str | None = None
    said: str = ""
    columns: tuple[str, ...] = ("y",)
    options: tuple[tuple[str, str], ...] = ()

    def flags(self) -> list[str]:
        return [word for name, value in self.options for word in (f"--{name.replace('_', '-')}", value)]


DAILY = {"freq": "D", "last": "2021-03-08T00:00:00"}
MONTHLY = {"freq": "MS", "first": "2021-01-01T00:00:00", "last": "2024-12-01T00:00:00"}
QUARTERLY = {"freq": "3MS", "first": "2000-01-01T00:00:00", "last": "2011-10-01T00:00:00"}
EPOCH = {"offset": "Z"}


def forward(*missing: int) -> list[float]:
    """Return the values with these rows as the one before."""
    filled = VALUES.tolist()
    for row in missing:
        filled[row] = filled[row - 1]
    return filled


def across(*missing: int) -> list[float]:
    """Return the values with these rows on a straight line."""
    kept = [row for row in range(48) if row not in missing]
    return np.interp(range(48), kept, VALUES[kept]).tolist()


def days_off(*weekdays: int) -> list[int]:
    # 2021-01-20 was a Wednesday.
    return [row for row in range(48) if (row + 2) % 7 in weekdays]


READ = {
    "plain.csv": Read(),
    "gzip.csv.gz": Read(said="the file is a gzip archive"),
    "gzip_named_csv.csv": Read(said="the file is a gzip archive"),
    "gzip_in_two.csv.gz": Read(),
    "utf16.csv": Read(said="the file is text in UTF-16"),
    "utf16_big_end.csv": Read(),
    "utf16_without_mark.csv": Read(),
    "utf8_mark.csv": Read(),
    "windows_lines.csv": Read(),
    "workbook.xlsx": Read(said="the file is an Excel workbook"),
    "table.parquet": Read(said="the file is a Parquet file"),
    "local_index.parquet": Read(first="2021-01-19T23:00:00", last="2021-01-21T22:00:00", offset="+01:00"),
    "tabs.csv": Read(said="cells are separated by tabs"),
    "bars.csv": Read(said="cells are separated by vertical bars"),
    "semicolons.csv": Read(said="cells are separated by semicolons"),
    "comments.csv": Read(),
    "commented_header.csv": Read(),
    "comment_at_end.csv": Read(),
    "blank_first.csv": Read(),
    "blank_between.csv": Read(),
    "unnamed_index.csv": Read(said="the first column, without a name, counts the rows and is left out"),
    "unnamed_index_from_1.csv": Read(),
    "trailing_commas.csv": Read(),
    "comma_in_name.csv": Read(columns=("a,b", "c")),
    "decimal_comma.csv": Read(said="numbers have a decimal comma"),
    "thousands.csv": Read(values=LARGE),
    "thousands_blank.csv": Read(values=LARGE),
    "thousands_swiss.csv": Read(values=LARGE),
    "thousands_german.csv": Read(values=LARGE),
    "per_cent.csv": Read(said="the numbers of column 'y' are in %"),
    "dollars.csv": Read(values=LARGE, said="the numbers of column 'y' are in $"),
    "euros.csv": Read(said="the numbers of column 'y' are in €"),
    "accountants.csv": Read(values=-VALUES),
    "typographers_minus.csv": Read(values=-VALUES),
    "tiny.csv": Read(values=[float(f"{value}e-200") for value in VALUES]),
    "dates_day_first.csv": Read(said="the day first (%d/%m/%Y %H:%M)"),
    "dates_month_first.csv": Read(said="the month first (%m/%d/%Y %H:%M)"),
    "dates_told_by_steps.csv": Read(first="2021-01-11T00:00:00", last="2021-01-12T23:00:00"),
    "dates_dots.csv": Read(),
    "dates_two_digit_year.csv": Read(),
    "dates_year_first.csv": Read(),
    "dates_month_names.csv": Read(),
    "dates_long_names.csv": Read(),
    "dates_weekdays.csv": Read(),
    "dates_am_pm.csv": Read(),
    "dates_am_pm_month_first.csv": Read(),
    "dates_24_00.csv": Read(),
    "dates_without_marks.csv": Read(),
    "dates_basic_iso.csv": Read(),
    "days_without_marks.csv": Read(**DAILY),
    "excel_days.csv": Read(**DAILY, said="days as Excel counts"),
    "excel_fractions.csv": Read(said="days as Excel counts"),
    "epoch_seconds.csv": Read(**EPOCH, said="seconds since 1970, in UTC"),
    "epoch_milliseconds.csv": Read(**EPOCH),
    "epoch_microseconds.csv": Read(**EPOCH),
    "epoch_nanoseconds.csv": Read(**EPOCH),
    "months_without_marks.csv": Read(**MONTHLY),
    "months_slash.csv": Read(**MONTHLY),
    "months_by_name.csv": Read(**MONTHLY),
    "years.csv": Read("12MS", "1970-01-01T00:00:00", "2017-01-01T00:00:00"),
    "quarters.csv": Read(**QUARTERLY),
    "quarters_front.csv": Read(**QUARTERLY),
    "iso_weeks.csv": Read("W", "2021-01-18T00:00:00", "2021-12-13T00:00:00"),
    "date_and_time.csv": Read(said="columns 'Date' and 'Time' are joined"),
    "date_and_hour.csv": Read(said="columns 'Date' and 'Hour' are joined"),
    "year_month_day_hour.csv": Read(said="'year', 'month', 'day', 'hour' are joined"),
    "offsets.csv": Read("h", "2021-03-27T03:00:00", "2021-03-29T02:00:00", offset="+02:00"),
    "zulu.csv": Read(offset="Z"),
    "offsets_of_days.csv": Read("D", "2021-03-01T00:00:00", "2021-04-17T00:00:00", offset="+02:00"),
    "month_ends.csv": Read("MS", "2021-01-31T00:00:00", "2024-12-31T00:00:00"),
    "month_ends_of_business.csv": Read("MS", "2021-01-29T00:00:00", "2024-12-31T00:00:00"),
    "weeks_on_wednesday.csv": Read("W", last="2021-12-15T00:00:00"),
    "newest_first.csv": Read(said="rows are newest first"),
}
"""By file, without any flag."""

FFILL, ACROSS = (("missing", "ffill"),), (("missing", "interpolate"),)
DAY_FIRST, MONTH_FIRST = (("date_format", "%d/%m/%Y"),), (("date_format", "%m/%d/%Y"),)
WEEKENDS_FILLED = "14 of 48 rows (29 %) are missing, the first after 2021-01-22; filled with the row before"
TWO_FILLED = (
    "2 of 48 rows (4.2 %) are missing, the first after 2021-01-20 19:00:00; filled with the row before"
)

WITH_FLAGS = [
    ("dates_day_first.csv", Read(options=(("date_format", "%d/%m/%Y %H:%M"),))),
    (
        "dates_ambiguous.csv",
        Read("D", "2021-01-01T00:00:00", "2021-01-12T00:00:00", VALUES[:12], options=DAY_FIRST),
    ),
    (
        "dates_ambiguous.csv",
        Read("MS", "2021-01-01T00:00:00", "2021-12-01T00:00:00", VALUES[:12], options=MONTH_FIRST),
    ),
    (
        "business_days.csv",
        Read(**DAILY, values=forward(*days_off(5, 6)), said=WEEKENDS_FILLED, options=FFILL),
    ),
    ("business_days.csv", Read(**DAILY, values=across(*days_off(5, 6)), options=ACROSS)),
    ("shop_days.csv", Read(**DAILY, values=forward(*days_off(6)), options=(*FFILL, ("freq", "D")))),
    ("gap.csv", Read(values=forward(20, 21), said=TWO_FILLED, options=FFILL)),
    ("gap.csv", Read(values=across(20, 21), said="interpolated values look ahead", options=ACROSS)),
    ("empty_cells.csv", Read(values=forward(4, 5, 30), options=FFILL)),
    ("empty_cells.csv", Read(values=across(4, 5, 30), options=ACROSS)),
]

MESSAGES = json.loads((FILES / "messages.json").read_text(encoding="utf-8"))
REFUSED, REFUSED_BY_SCALE = MESSAGES["refused"], MESSAGES["refused when scaled"]
WARNED = MESSAGES["read with a warning"]
"""By file, without any flag: words of the message."""


def test_there_is_an_expectation_for_every_file() -> None:
    there = {path.name for path in FILES.iterdir() if path.suffix not in (".py", ".json", "")}
    with_flags = {name for name, _ in WITH_FLAGS}
    # Those are in `reading/test_panel_files.py`.
    of_panels = {name for name in there if name.startswith(("panel_", "future_"))}
    expected = READ.keys() | REFUSED.keys() | with_flags | REFUSED_BY_SCALE.keys() | WARNED.keys()
    assert there == expected | of_panels
    assert len(there) >= 60


@pytest.mark.parametrize(("name", "expected"), [*READ.items(), *WITH_FLAGS])
def test_the_right_values_are_read(name: str, expected: Read) -> None:
    series = read_series((FILES / name).read_bytes(), name, **dict(expected.options))
    assert (series.freq, series.columns) == (expected.freq, expected.columns)
    assert (str(series.dates[0]), str(series.dates[-1])) == (expected.first, expected.last)
    np.testing.assert_array_equal(series.values[:, 0], VALUES if expected.values is None else expected.values)
    assert (series.clock.offset if series.clock else None) == expected.offset
    assert expected.said in " | ".join(series.said)


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_what_is_not_certain_is_refused_in_words_that_help(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_series((FILES / name).read_bytes(), name)
    assert words in str(refused.value) and str(refused.value).startswith(name)


@pytest.mark.parametrize(
    ("name", "flags"), [(name, expected.flags()) for name, expected in [*READ.items(), *WITH_FLAGS]]
)
def test_every_file_that_is_read_is_described(
    name: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = '"a,b"' if name == "comma_in_name.csv" else "y"
    split = ["--split", "0.5,0.25,0.25"]
    arguments = ["--dataset", str(FILES / name), "--target", target, "--pred-len", "1", *flags, *split]
    assert main([*arguments, "--out", str(tmp_path / "facts.json")]) == 0, capsys.readouterr().err
    measured = json.loads((tmp_path / "facts.json").read_text())["measured"]
    series = read_series((FILES / name).read_bytes(), name, **dict(_options(flags)))
    assert (measured["freq"], measured["rows"]) == (series.freq, len(series))
    assert measured.get("said", []) == list(series.said)


def _options(flags: list[str]) -> list[tuple[str, str]]:
    names = [flag.removeprefix("--").replace("-", "_") for flag in flags[::2]]
    return list(zip(names, flags[1::2], strict=True))


@pytest.mark.parametrize(("name", "words"), [*REFUSED.items(), *REFUSED_BY_SCALE.items()])
def test_every_file_that_is_refused_is_one_line(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", str(FILES / name), "--target", "all", "--pred-len", "1"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and words in printed


@pytest.mark.parametrize(("name", "words"), WARNED.items())
def test_an_outlier_is_said_before_anything_is_trained(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", str(FILES / name), "--target", "y", "--pred-len", "1"]) == 0
    assert f"WARNING   {words}" in capsys.readouterr().out


def test_a_comma_in_a_name_is_told_from_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", str(FILES / "comma_in_name.csv"), "--target", "a,b", "--pred-len", "1"]) == 2
    words = "there is no column 'a'; a name with a comma stands in double quotes: --target '\"a,b\"'"
    assert words in capsys.readouterr().err


def test_a_small_archive_of_zeros_does_not_fill_the_memory() -> None:
    with pytest.raises(ConfigError, match="gzip archive that unpacks to more than 1 MiB"):
        read_series(gzip.compress(bytes(2**22), mtime=0), "zeros.csv")


def refusal_of(content: str | bytes) -> str:
    with pytest.raises(ConfigError) as refused:
        read_series(content if isinstance(content, bytes) else content.encode(), "own.csv")
    return str(refused.value)


def test_numbers_of_four_digits_are_years_only_under_the_name_of_a_time() -> None:
    rows = "".join(f"\n{2000 + row},{row}" for row in range(5))
    assert "'2000' is not a time stamp" in refusal_of(f"id,y{rows}")
    assert read_series(f"Jahr,y{rows}".encode(), "own.csv").freq == "12MS"


def test_numbers_with_marks_are_no_dates_of_the_year_7() -> None:
    assert "no such time as '1-1-7'" in refusal_of("n,y" + "".join(f"\n{row}-1-7,1" for row in range(1, 9)))


@pytest.mark.parametrize("header", ["1,2", "year,month", "1/2/2020,y", "hour,Time", "#,y", "Q1 2020,y"])
def test_plain_time_stamps_may_stand_under_any_name(header: str) -> None:
    rows = "".join(f"\n2020-0{row},{row}" for row in range(1, 6))
    series = read_series(f"{header}{rows}".encode(), "own.csv")
    assert (series.freq, series.columns, series.said) == ("MS", (header.split(",")[1],), ())


def test_an_archive_of_an_archive_is_not_unpacked_on_and_on() -> None:
    assert "a gzip archive of a gzip archive" in refusal_of(gzip.compress(gzip.compress(b"date,y")))


@pytest.mark.parametrize("text", ["", "%H:%M", "day", "%Q", "%d.%m"])
def test_a_date_format_has_year_and_month(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", str(FILES / "plain.csv"), "--target", "y", f"--date-format={text}"]) == 2
    assert "error: --date-format: the date format" in capsys.readouterr().err


def test_a_format_that_does_not_fit_names_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dataset", str(FILES / "plain.csv"), "--target", "y", "--date-format", "%d/%m/%Y"]
    assert main(arguments) == 2
    assert (
        "plain.csv, line 2, column 'date': '2021-01-20 00:00:00' is not written as --date-format (task"
        in (capsys.readouterr().err)
    )
