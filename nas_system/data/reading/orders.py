"""Which of three numbers is the day, which the month and which the year, told from a whole column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.parts import OF_LAST_CENTURY, Parts, slices_of
from nas_system.data.reading.spellings import TextColumn, WrongStamp, format_of
from nas_system.data.series import is_regular

Dates = NDArray[np.datetime64]
Valid = NDArray[np.bool_]

DAY_FIRST, MONTH_FIRST, YEAR_FIRST = "dmy", "mdy", "ymd"
SPELLED = {DAY_FIRST: "the day first", MONTH_FIRST: "the month first", YEAR_FIRST: "the year first"}


@dataclass(frozen=True, eq=False)
class Ordered:
    """Local times, (rows,), and how their order was found if that was a question."""

    dates: Dates
    said: str = ""


def are_even(dates: Dates, series: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether the times of every series are evenly spaced, the newest first or last.

    `series` are the rows of each. Two times always are, so they are no evidence.
    """
    telling = [dates[rows] for rows in series if len(rows) > 2]
    return bool(telling) and all(is_regular(own) or is_regular(own[::-1]) for own in telling)


def ordered(parts: Parts, cells: TextColumn, even: Callable[[Dates], bool]) -> Ordered:
    """Return the times that the numbers mean.

    A day above 12 tells; so do full stops, which stand after days and nowhere after months; and else the
    steps, if only one order makes them `even`. Raises WrongStamp, with both readings, where nothing tells.
    """
    possible = _possible_orders(parts)
    right, all_valid = {}, {}
    for order in possible:
        dates, all_valid[order] = _dates_in(order, parts)
        if all_valid[order].all():
            right[order] = dates
    if not right:
        _refuse_all(all_valid, cells)
    if len(possible) == 1:
        return Ordered(right[possible[0]])
    if len(right) > 1:
        right = _narrowed(right, parts, even)
    if len(right) > 1:
        _refuse_both(right, parts, cells)
    order, dates = next(iter(right.items()))
    match = parts.pattern.fullmatch(str(cells[0]).strip())
    assert match is not None
    return Ordered(dates, f"time stamps are read with {SPELLED[order]} ({format_of(match, order)})")


def _possible_orders(parts: Parts) -> tuple[str, ...]:
    if parts.of(0, "first_length") == 4:
        return (YEAR_FIRST,)
    if parts.of(0, "third_length") == 4:
        return (DAY_FIRST, MONTH_FIRST)
    return (DAY_FIRST, MONTH_FIRST, YEAR_FIRST)


def _dates_in(order: str, parts: Parts) -> tuple[Dates, Valid]:
    """Return the times in this order, and which of them there are."""
    dates, valid = np.empty(len(parts), "datetime64[s]"), np.empty(len(parts), np.bool_)
    for rows in slices_of(len(parts)):
        dates[rows], valid[rows] = _some_dates_in(order, parts.between(rows))
    return dates, valid


def _some_dates_in(order: str, parts: Parts) -> tuple[Dates, Valid]:
    places = dict(zip(order, ("first", "second", "third"), strict=True))
    year, month, day = (parts[places[part]] for part in "ymd")
    digits = parts["first_length" if order == YEAR_FIRST else "third_length"]
    if digits[0] < 4:
        year = year + np.where(year >= OF_LAST_CENTURY, 1900, 2000)
    seconds, valid = parts.seconds_of_day()
    valid &= digits >= 2
    valid &= (month >= 1) & (month <= 12) & (year >= 1) & (year <= 9999) & (day >= 1)
    months = ((year - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("datetime64[M]")
    days_in_month = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    valid &= day <= days_in_month
    return months.astype("datetime64[s]") + ((day - 1) * 86_400 + seconds).astype("timedelta64[s]"), valid


def _narrowed(right: dict[str, Dates], parts: Parts, even: Callable[[Dates], bool]) -> dict[str, Dates]:
    """Return the readings that more than the numbers speaks for."""
    if parts.of(0, "mark") == ord(".") and DAY_FIRST in right:
        return {DAY_FIRST: right[DAY_FIRST]}
    likely = {order: dates for order, dates in right.items() if even(dates)}
    one = next(iter(right.values()))
    if all(np.array_equal(one, other) for other in right.values()):
        return dict([next(iter(right.items()))])
    return likely or right


def _refuse_both(right: dict[str, Dates], parts: Parts, cells: TextColumn) -> NoReturn:
    """Raise WrongStamp for the first row that the readings read differently."""
    (one, first), (other, second), *_ = right.items()
    row = int((first != second).argmax())
    cell = str(cells[row])
    match = parts.pattern.fullmatch(cell.strip())
    assert match is not None
    readings = " and ".join(
        f"{dates[row].astype('datetime64[D]')} with {SPELLED[order]}"
        for order, dates in ((one, first), (other, second))
    )
    raise WrongStamp(
        row,
        f"{cell!r} is ambiguous: {readings}, and no row of the column tells which; say it with "
        f"--date-format '{format_of(match, one)}' or '{format_of(match, other)}'",
    )


def _refuse_all(all_valid: dict[str, Valid], cells: TextColumn) -> NoReturn:
    """Raise WrongStamp for the first row that is wrong in the order that suits most rows."""
    best = max(all_valid, key=lambda order: np.count_nonzero(all_valid[order]))
    row = int((~all_valid[best]).argmax())
    others = [order for order in all_valid if order != best and all_valid[order][row]]
    if not others:
        raise WrongStamp(row, f"there is no such time as {str(cells[row])!r}")
    known = next((int(index) for index in np.flatnonzero(all_valid[best] & ~all_valid[others[0]])), 0)
    raise WrongStamp(
        row,
        f"{str(cells[row])!r} has {SPELLED[others[0]]}, but {str(cells[known])!r} has {SPELLED[best]}; write "
        "all alike",
    )
