"""What the series of one file must share: a step, and a calendar on which all of them stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.table import shown_series
from nas_system.data.series import business_day
from nas_system.errors import ConfigError
from nas_system.space.time_steps import SECONDS

Dates = NDArray[np.datetime64]

ADVICE = "one model is trained on all series: resample them, or give one of them a file of its own"


@dataclass(frozen=True, eq=False)
class Steps:
    """The time stamps of one series."""

    name: str
    dates: Dates
    freq: str


def check_agreement(file: str, all_steps: Sequence[Steps]) -> None:
    """Raise ConfigError, naming two series of `file`, unless all have one step and stand on one calendar."""
    counts = Counter(steps.freq for steps in all_steps)
    usual = counts.most_common(1)[0][0]
    first = next(steps for steps in all_steps if steps.freq == usual)
    for steps in all_steps:
        if steps.freq != usual:
            more = f" and {counts[usual] - 1:,} more" if counts[usual] > 1 else ""
            raise ConfigError(
                f"{file}: the step of {shown_series(steps.name)} is {steps.freq}, but that of "
                f"{shown_series(first.name)}{more} is {usual}; {ADVICE}"
            )
    unit = usual.lstrip("0123456789")
    count = int(usual.removesuffix(unit) or 1)
    if unit == "MS":
        _check_months(file, all_steps, count)
        return
    starts = np.array([steps.dates[0] for steps in all_steps], "datetime64[s]").astype(np.int64)
    off = np.flatnonzero((starts - starts[0]) % (count * SECONDS[unit]))
    if off.size:
        _refuse_calendar(file, all_steps[0], all_steps[int(off[0])])


def _check_months(file: str, all_steps: Sequence[Steps], count: int) -> None:
    first = all_steps[0]
    month, places = first.dates[0].astype("datetime64[M]"), _places_of(first.dates)
    for steps in all_steps[1:]:
        places = places & _places_of(steps.dates)
        apart = int((steps.dates[0].astype("datetime64[M]") - month).astype(np.int64))
        if not places or apart % count:
            _refuse_calendar(file, first, steps)


def _places_of(dates: Dates) -> frozenset[tuple[str, int]]:
    """Return where in their months all dates are: seconds from the start, to the end, or a business day."""
    months = dates.astype("datetime64[M]")
    after = (dates - months.astype(dates.dtype)).astype(np.int64)
    before = ((months + 1).astype(dates.dtype) - dates).astype(np.int64)
    places = {
        (side, int(seconds[0])) for side, seconds in (("start", after), ("end", before)) if _same(seconds)
    }
    days, hours = dates.astype("datetime64[D]"), after % SECONDS["D"]
    for place in (0, -1):
        if _same(hours) and (days == business_day(months, place)).all():
            places.add((f"business day {place} at", int(hours[0])))
    return frozenset(places)


def _same(numbers: NDArray[np.int64]) -> bool:
    return bool((numbers == numbers[0]).all())


def _refuse_calendar(file: str, one: Steps, other: Steps) -> None:
    raise ConfigError(
        f"{file}: {shown_series(one.name)} begins at {one.dates[0]} and {shown_series(other.name)} at "
        f"{other.dates[0]}, which is no whole number of steps of {one.freq} apart; {ADVICE}"
    )
