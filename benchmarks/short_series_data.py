"""The series of `benchmarks/short_series.py`: generated ones, and real ones that installed packages ship.

Each belongs to a half. Settings may be chosen on `choose`; `report` is only ever reported. Both halves hold
generated and real series of similar kinds. Generated ones come from Python's own generator, whose numbers
no version of a package changes. Packages are not imported: their files are read where they lie.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nas_system.errors import ConfigError
from nas_system.files import write_atomic

Half = Literal["choose", "report", "own"]
"""`own` is a file that somebody names."""
Values = list[float]
Step = tuple[int, Literal["h", "D", "W", "M"]]

TARGET = "y"
DECIMALS = 4

AIRLINE = (
    *(112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118),
    *(115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114, 140),
    *(145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166),
    *(171, 180, 193, 181, 183, 218, 230, 242, 209, 191, 172, 194),
    *(196, 196, 236, 235, 229, 243, 264, 272, 237, 211, 180, 201),
    *(204, 188, 235, 227, 234, 264, 302, 293, 259, 229, 203, 229),
    *(242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278),
    *(284, 277, 317, 313, 318, 374, 413, 405, 355, 306, 271, 306),
    *(315, 301, 356, 348, 355, 422, 465, 467, 404, 347, 305, 336),
    *(340, 318, 362, 348, 363, 435, 491, 505, 404, 359, 310, 337),
    *(360, 342, 406, 396, 420, 472, 548, 559, 463, 407, 362, 405),
    *(417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432),
)
"""Thousands of passengers a month, 1949 to 1960: series G of Box and Jenkins 1970; no package here has it."""


@dataclass(frozen=True)
class ShortSeries:
    """A series of 100 to 3,000 rows, and what is asked of it."""

    name: str
    half: Half
    pred_len: int
    start: str
    """Time stamp of the first row; its precision is that of `step`."""
    step: Step
    values: Callable[[], Sequence[float]]
    """NaN is an empty cell."""
    real: bool = False
    learnable: bool = True
    """Whether it has a pattern; a random walk has none, and its last value is the best forecast."""
    flags: tuple[str, ...] = ()
    """Further flags of `nas run`."""

    def write_csv(self, file: Path) -> int:
        """Write time stamps and values, return the rows. Raises ConfigError if a package is missing."""
        values = self.values()
        count, unit = self.step
        # numpy's weeks begin on Thursdays, those of a series with its first row.
        days, unit = (7, "D") if unit == "W" else (1, unit)
        dates = np.datetime64(self.start, unit) + days * count * np.arange(len(values))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("date", TARGET))
        stamps = dates.astype("datetime64[D]" if unit != "h" else "datetime64[m]")
        for stamp, value in zip(stamps, values, strict=True):
            writer.writerow((stamp, "" if math.isnan(value) else round(value, DECIMALS)))
        write_atomic(file, text.getvalue().encode())
        return len(values)


# --- generated ------------------------------------------------------------------------------


def _noise(seed: int, rows: int, deviation: float, memory: float = 0.0) -> Values:
    """Return AR(1) noise of this standard deviation; `memory` is its coefficient."""
    generator, last, found = random.Random(seed), 0.0, []
    for _ in range(rows):
        last = memory * last + math.sqrt(1 - memory**2) * generator.gauss(0, deviation)
        found.append(last)
    return found


def _walk(seed: int, rows: int, drift: float) -> Values:
    generator, last, found = random.Random(seed), 100.0, []
    for _ in range(rows):
        last += drift + generator.gauss(0, 1)
        found.append(last)
    return found


def _sales(seed: int, rows: int, chances: Sequence[float]) -> Values:
    """Return zero on most days; the chance of a sale goes round `chances`."""
    generator = random.Random(seed)
    days = (generator.random() < chances[day % len(chances)] for day in range(rows))
    return [1.0 + math.floor(generator.expovariate(0.4)) if sold else 0.0 for sold in days]


def _wave(step: int, period: float, shift: float = 0.0) -> float:
    return math.sin(2 * math.pi * (step - shift) / period)


WEEK = (-20.0, -18.0, -8.0, -2.0, 4.0, 32.0, 12.0)


def _weekly() -> Values:
    return [120 + WEEK[day % 7] + e for day, e in enumerate(_noise(1, 730, 3))]


def _weekly_growing() -> Values:
    return [(60 + 0.5 * WEEK[day % 7]) * (1 + day / 800) + e for day, e in enumerate(_noise(2, 1000, 2.5))]


def _yearly() -> Values:
    return [50 + 12 * _wave(m, 12, 3) + 4 * _wave(m, 6, 1) + e for m, e in enumerate(_noise(3, 240, 2))]


def _yearly_growing() -> Values:
    return [
        200 * math.exp(0.008 * m + 0.2 * _wave(m, 12, 2) + 0.08 * _wave(m, 4) + e)
        for m, e in enumerate(_noise(4, 180, 0.03))
    ]


def _trend() -> Values:
    return [20 + 0.08 * day + e for day, e in enumerate(_noise(5, 400, 1.5, 0.5))]


def _exponential() -> Values:
    return [5 * math.exp(0.01 * week + e) for week, e in enumerate(_noise(6, 300, 0.04, 0.4))]


def _two_seasons() -> Values:
    """Return hours: a day's wave that is flatter at weekends, and lower then."""
    return [
        40 + (10 if _is_workday(h) else 4) * _wave(h, 24, 8) + (0 if _is_workday(h) else -8) + e
        for h, e in enumerate(_noise(7, 2016, 1.5, 0.6))
    ]


def _two_seasons_peaked() -> Values:
    """Return hours: two narrow peaks on workdays, one broad one at weekends."""
    return [
        30 + (_peak(h, 8, 2) + 1.3 * _peak(h, 18, 3) if _is_workday(h) else 0.8 * _peak(h, 14, 5)) * 20 + e
        for h, e in enumerate(_noise(8, 3000, 2, 0.7))
    ]


def _is_workday(hour: int) -> bool:
    return hour // 24 % 7 < 5


def _peak(hour: int, centre: float, width: float) -> float:
    return math.exp(-(((hour % 24 - centre) / width) ** 2))


def _level_shift() -> Values:
    """Return a weekly pattern whose level moves within the training part and within the validation part."""
    return [
        100 + (40 if day >= 260 else 0) - (25 if day >= 410 else 0) + 0.4 * WEEK[day % 7] + e
        for day, e in enumerate(_noise(9, 600, 3))
    ]


def _level_shift_yearly() -> Values:
    """Return a yearly pattern whose level moves twice within the training part and before the test part."""
    return [
        300
        - (60 if m >= 70 else 0)
        + (90 if m >= 130 else 0)
        + (40 if m >= 224 else 0)
        + 20 * _wave(m, 12)
        + e
        for m, e in enumerate(_noise(10, 300, 6, 0.3))
    ]


# --- real -----------------------------------------------------------------------------------


def _rows_of(package: str, file: str) -> list[list[str]]:
    """Return the rows below the header of a CSV file in an installed package. Raises ConfigError."""
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / file
    if path is None or not path.is_file():
        raise ConfigError(f"{package} with its {file} is not installed: pip install {package}")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.reader(lines))[1:]


def _statsmodels(name: str, column: int) -> Values:
    rows = _rows_of("statsmodels", f"datasets/{name}/{name}.csv")
    return [float(row[column]) if row[column] else math.nan for row in rows]


def _elnino() -> Values:
    """Return the monthly rows of a table with a line per year."""
    return [float(cell) for row in _rows_of("statsmodels", "datasets/elnino/elnino.csv") for cell in row[1:]]


def _ibm() -> Values:
    """Return the price of a share at the first of every month; rows between them are dividends."""
    rows = _rows_of("matplotlib", "mpl-data/sample_data/Stocks.csv")
    return [float(row[1]) for row in rows if row[0].endswith("-01") and row[1]]


HOUR: Step = (1, "h")
DAY: Step = (1, "D")
SEVEN_DAYS: Step = (1, "W")
MONTH: Step = (1, "M")
QUARTER: Step = (3, "M")
YEAR: Step = (12, "M")

SERIES = (
    ShortSeries("weekly", "choose", 14, "2020-01-01", DAY, _weekly),
    ShortSeries("yearly", "choose", 12, "2000-01", MONTH, _yearly),
    ShortSeries("trend", "choose", 10, "2021-01-01", DAY, _trend),
    ShortSeries("intermittent", "choose", 7, "2021-01-01", DAY, lambda: _sales(11, 700, [0.2])),
    ShortSeries("two_seasons", "choose", 24, "2023-01-02T00", HOUR, _two_seasons),
    ShortSeries("level_shift", "choose", 7, "2021-01-01", DAY, _level_shift),
    ShortSeries("walk", "choose", 5, "2021-01-01", DAY, lambda: _walk(13, 500, 0), learnable=False),
    ShortSeries("airline", "choose", 12, "1949-01", MONTH, lambda: AIRLINE, real=True),
    ShortSeries("sunspots", "choose", 10, "1700-01", YEAR, lambda: _statsmodels("sunspots", 1), real=True),
    ShortSeries("elnino", "choose", 12, "1950-01", MONTH, _elnino, real=True),
    ShortSeries("gdp", "choose", 4, "1959-01", QUARTER, lambda: _statsmodels("macrodata", 2), real=True),
    ShortSeries("weekly_growing", "report", 14, "2020-01-01", DAY, _weekly_growing),
    ShortSeries("yearly_growing", "report", 12, "2000-01", MONTH, _yearly_growing),
    ShortSeries("exponential", "report", 8, "2015-01-05", SEVEN_DAYS, _exponential),
    ShortSeries(
        "intermittent_weekly",
        "report",
        14,
        "2020-01-06",
        DAY,
        lambda: _sales(12, 1000, [0.05, 0.05, 0.1, 0.1, 0.3, 0.6, 0.4]),
    ),
    ShortSeries("two_seasons_peaked", "report", 48, "2023-01-02T00", HOUR, _two_seasons_peaked),
    ShortSeries("level_shift_yearly", "report", 6, "1995-01", MONTH, _level_shift_yearly),
    ShortSeries("walk_drift", "report", 10, "2020-01-01", DAY, lambda: _walk(14, 800, 0.1), learnable=False),
    ShortSeries("nile", "report", 5, "1871-01", YEAR, lambda: _statsmodels("nile", 1), real=True),
    ShortSeries(
        "elec_equip", "report", 12, "1995-01", MONTH, lambda: _statsmodels("elec_equip", 1), real=True
    ),
    ShortSeries(
        "unemployment", "report", 4, "1959-01", QUARTER, lambda: _statsmodels("macrodata", 10), real=True
    ),
    ShortSeries("ibm", "report", 6, "1990-01", MONTH, _ibm, real=True, learnable=False),
    ShortSeries(
        "co2",
        "report",
        13,
        "1958-03-29",
        SEVEN_DAYS,
        lambda: _statsmodels("co2", 1),
        real=True,
        flags=("--missing", "ffill"),
    ),
)
