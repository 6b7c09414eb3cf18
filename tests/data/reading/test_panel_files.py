"""Files with several series, and with columns whose future is known: what is read of each, and what refused.

They are in `../files/` with the other awkward ones, `panel_*.csv` and `future_*.csv`.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.data.reading import read_all, read_series
from nas_system.errors import ConfigError
from nas_system.space.task_flags import columns_of

FILES = Path(__file__).parents[1] / "files"
VALUES = np.array([round(50 + 10 * math.sin(row / 4) + row % 7 / 10, 2) for row in range(20)])
OFFSETS = {"A": 0, "B": 100, "C": 200}
SHOP = {"series_columns": ("shop",)}
TWO_KNOWN = {"future": ("promo", "price")}
REFUSED = json.loads((FILES / "messages.json").read_text(encoding="utf-8"))["refused with flags"]


def of_shop(shop: str, rows: int = 20) -> list[float]:
    return [round(value + OFFSETS[shop], 2) for value in VALUES[:rows].tolist()]


def shops(names: str) -> dict[str, list[float]]:
    return {shop: of_shop(shop) for shop in names}


def forward(values: list[float], *missing: int) -> list[float]:
    for row in missing:
        values[row] = values[row - 1]
    return values


@dataclass(frozen=True)
class Panel:
    """What must be read: the values of the first column by series, in this order."""

    values: dict[str, list[float]]
    options: dict[str, Any] = field(default_factory=lambda: SHOP)
    freq: str = "D"
    first: tuple[str, ...] = ("2021-01-20",)
    """By series; one for all."""
    said: tuple[str, ...] = ()
    ahead: dict[str, list[list[float]]] = field(default_factory=dict)
    """Known columns of the rows after the last, by series."""


READ = {
    "panel_key_first.csv": Panel(
        shops("ABC"), said=("the file holds 3 series, told apart by column 'shop'",)
    ),
    "panel_side_by_side.csv": Panel(shops("ABC")),
    "panel_newest_first.csv": Panel(
        shops("CBA"), said=("rows of 3 series are newest first, and were turned round",)
    ),
    "panel_unequal.csv": Panel(
        {"A": of_shop("A"), "B": of_shop("B", 12)},
        first=("2021-01-20", "2021-01-25"),
        said=("the file holds 2 series", "series 'C' is left out: it has 2 rows"),
    ),
    "panel_two_keys.csv": Panel(
        {f"{shop} / {article}": of_shop(shop) for shop in "AB" for article in "xy"},
        {"series_columns": ("shop", "article")},
        said=("the file holds 4 series, told apart by column 'shop' and 'article'",),
    ),
    "panel_gap.csv": Panel(
        {"A": of_shop("A"), "B": forward(of_shop("B"), 7, 8), "C": forward(of_shop("C"), 4)},
        {**SHOP, "missing": "ffill"},
        said=(
            "3 of 60 rows (5 %) are missing, in 2 of 3 series, the longest gap of 2 in series 'B'; filled "
            "with the row before (--missing ffill)",
        ),
    ),
    "panel_told_by_steps.csv": Panel(
        shops("ABC"), freq="h", first=("2021-01-11",), said=("the day first (%d/%m/%Y %H:%M)",)
    ),
    "panel_month_ends.csv": Panel(
        {"A": of_shop("A"), "B": of_shop("B", 17)}, freq="MS", first=("2020-12-31", "2021-03-31")
    ),
    "panel_comma_in_key.csv": Panel(shops("ABC"), {"series_columns": ("shop,town",)}),
    "panel_semicolons.csv": Panel(
        shops("ABC"), said=("cells are separated by semicolons", "numbers have a decimal comma")
    ),
    "future_two.csv": Panel(
        {"": of_shop("A", 15)},
        TWO_KNOWN,
        ahead={"": [[row % 3, row % 5] for row in range(15, 20)]},
    ),
    "future_newest_first.csv": Panel(
        {"": of_shop("A", 15)},
        {"future": ("price", "promo")},  # in the order of the columns all the same
        ahead={"": [[row % 3, row % 5] for row in range(15, 20)]},
    ),
    "future_empty.csv": Panel(
        {"": of_shop("A", 15)},
        TWO_KNOWN,
        ahead={"": [[0, 0], [1, 1], [2, 2], [math.nan, 3]]},
    ),
    "future_of_shops.csv": Panel(
        {"A": of_shop("A", 16), "B": of_shop("B", 15), "C": of_shop("C", 14)},
        {**SHOP, "future": ("promo",)},
        ahead={
            shop: [[(20 * number + row) % 3] for row in range(16 - number, 20)]
            for number, shop in enumerate("ABC")
        },
    ),
}


def read(name: str, options: dict[str, Any]) -> Any:
    return read_all((FILES / name).read_bytes(), name, **options)


@pytest.mark.parametrize(("name", "expected"), READ.items())
def test_every_series_has_its_own_values_and_times(name: str, expected: Panel) -> None:
    series = read(name, expected.options)
    assert [one.name for one in series] == list(expected.values)
    assert {one.freq for one in series} == {expected.freq}
    firsts = [str(one.dates[0].astype("datetime64[D]")) for one in series]
    assert firsts == list(expected.first * (len(series) // len(expected.first)))
    for one in series:
        assert one.values[:, 0].tolist() == expected.values[one.name]
        assert len(one.dates) == len(one.values) and not np.isnan(one.values).any()
    for text in expected.said:
        assert text in " | ".join(series[0].said)
    assert not any(one.said for one in series[1:])


@pytest.mark.parametrize(("name", "expected"), READ.items())
def test_the_future_begins_a_step_after_the_last_row(name: str, expected: Panel) -> None:
    for one in read(name, expected.options):
        known = tuple(column for column in one.columns if column in expected.options.get("future", ()))
        assert one.known == known
        if one.name not in expected.ahead:
            assert one.ahead is None
            continue
        assert one.ahead.columns == known
        np.testing.assert_array_equal(one.ahead.values, expected.ahead[one.name])
        days = np.diff(np.concatenate([one.dates[-1:], one.ahead.dates])).astype("timedelta64[D]")
        assert (days.astype(int) == 1).all()


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_what_is_wrong_names_the_line_and_the_series(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(name, options)
    assert words in str(refused.value) and str(refused.value).startswith(name)


def test_there_is_an_expectation_for_every_file() -> None:
    there = {path.name for path in FILES.glob("panel_*")} | {path.name for path in FILES.glob("future_*")}
    assert there == READ.keys() | {name for name, _, _ in REFUSED if not name.startswith("shops_")}


def test_what_was_filled_is_counted_in_its_series() -> None:
    series = read("panel_gap.csv", {**SHOP, "missing": "ffill"})
    assert [dict(one.filled) for one in series] == [{}, {"sales": 2}, {"sales": 1}]


SEVERAL = [path.name for path in FILES.glob("shops_*.csv")] + [
    "panel_key_first.csv",
    "panel_side_by_side.csv",
    "panel_two_keys.csv",
    "panel_comma_in_key.csv",
    "panel_semicolons.csv",
    "panel_newest_first.csv",
]


def flag_in(message: str, flag: str) -> tuple[str, ...]:
    """Return the columns that the advice of a message names, as a shell and the program read them."""
    words = shlex.split(re.split(rf"{flag} ", message)[1].split(" (task.", 1)[0])
    return columns_of(words[0], flag)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_advised_series_columns_tell_the_series_of_the_file_apart(name: str) -> None:
    content = (FILES / name).read_bytes()
    with pytest.raises(ConfigError) as refused:
        read_series(content, name)
    columns = flag_in(str(refused.value), "--series-column")
    assert len(read_all(content, name, series_columns=columns)) in (3, 4)


@pytest.mark.parametrize(("name", "options"), [("future_two.csv", {}), ("future_of_shops.csv", SHOP)])
def test_the_advised_columns_of_the_future_are_read(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        read(name, options)
    future = flag_in(str(refused.value), "--future")
    assert all(one.ahead is not None for one in read(name, {**options, "future": future}))


def test_a_future_that_is_filled_as_if_it_were_the_past_is_said() -> None:
    series = read("future_of_shops.csv", {**SHOP, "missing": "ffill"})
    said = (
        "the last 4 values of column 'sales' of series 'A' were filled; if the future of 'promo' is known: "
    )
    assert said + "--future promo" in series[0].said
    assert not any(
        "were filled;" in text for text in read("panel_gap.csv", {**SHOP, "missing": "ffill"})[0].said
    )


def test_a_known_column_before_the_time_stamp_is_not_taken_for_a_key() -> None:
    rows = [f"{day % 2},2024-01-{day:02d},{shop},5" for day in range(1, 9) for shop in "AB"]
    content = "\n".join(["promo,date,shop,sales", *rows]).encode()
    with pytest.raises(ConfigError, match="column 'date' holds them; make that the first") as refused:
        read_all(content, "shops.csv", series_columns=("shop",), future=("promo",))
    assert "--series-column" not in str(refused.value)
