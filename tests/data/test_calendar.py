"""Time stamps of the future, checked against pandas' own calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nas_system.data.calendar import dates_after
from nas_system.data.series import frequency_of

STEPS = 30


@pytest.mark.parametrize(
    "pandas_step",
    [
        "s",
        "7s",
        "min",
        "15min",
        "h",
        "6h",
        "D",
        "3D",
        "W-WED",
        "2W-SUN",
        "MS",
        "ME",
        "QS",
        "QE",
        "YS",
        "YE",
        "YE-FEB",
    ],
)
@pytest.mark.parametrize("start", ["2023-11-05 09:30:00", "2024-02-01 00:00:00"])
def test_the_future_goes_on_as_pandas_would(pandas_step: str, start: str) -> None:
    expected = pd.date_range(start, periods=12 + STEPS, freq=pandas_step).to_numpy().astype("datetime64[s]")
    known, future = expected[:12], expected[12:]
    assert (dates_after(known, frequency_of(known), STEPS) == future).all()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # From the start of the month, although three months of 31 days end alike.
        (["2023-01-15", "2023-03-15", "2023-05-15"], ["2023-07-15", "2023-09-15", "2023-11-15"]),
        (["2023-01-31", "2023-03-31", "2023-05-31"], ["2023-07-31", "2023-09-30", "2023-11-30"]),
        # Counted from the end: four days before the month's last.
        (["2023-01-27", "2023-02-24", "2023-03-27"], ["2023-04-26", "2023-05-27", "2023-06-26"]),
        # A day that February does not have.
        (["2024-04-30", "2024-06-30", "2024-08-30"], ["2024-10-30", "2024-12-30", "2025-02-28"]),
        # The 28th of February in a leap year as in others.
        (["2022-02-28", "2023-02-28", "2024-02-28"], ["2025-02-28", "2026-02-28", "2027-02-28"]),
        (
            ["2023-11-30T18", "2023-12-31T18", "2024-01-31T18"],
            ["2024-02-29T18", "2024-03-31T18", "2024-04-30T18"],
        ),
    ],
    ids=["middle", "long months", "from the end", "no such day", "leap year", "evening"],
)
def test_steps_of_months_keep_their_place_in_the_month(known: list[str], expected: list[str]) -> None:
    dates = np.array(known, dtype="datetime64[s]")
    future = dates_after(dates, frequency_of(dates), len(expected))
    assert future.tolist() == np.array(expected, dtype="datetime64[s]").tolist()


def test_one_time_stamp_is_enough_where_the_step_is_known() -> None:
    assert dates_after(np.array(["2024-02-28T23"], dtype="datetime64[s]"), "h", 2).tolist() == [
        np.datetime64("2024-02-29T00:00:00").item(),
        np.datetime64("2024-02-29T01:00:00").item(),
    ]
