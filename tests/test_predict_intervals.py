"""Intervals in the file and in the terminal: columns after their target, in a file that is still a series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_system.data.csv_file import parse_csv
from nas_system.data.series import Forecast
from nas_system.ensembles.forecast_table import ForecastTable
from nas_system.ensembles.intervals import _the_same
from nas_system.errors import ConfigError

STEPS = 4


def forecast_of(*columns: str, levels: tuple[int, ...] = (80, 90)) -> Forecast:
    """Targets at 10, 20, ...; the half-width of a level is a tenth of it, plus the step."""
    values = 10.0 * np.arange(1, len(columns) + 1) + np.zeros((STEPS, 1))
    ahead = np.arange(STEPS)[:, None]
    dates = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]").astype("datetime64[s]")
    bounds = {level: (values - level / 10 - ahead, values + level / 10 + ahead) for level in levels}
    return Forecast(columns, dates, values, np.full(len(columns), 3.0), bounds)


def save(path: Path, forecast: Forecast) -> None:
    ForecastTable([("", forecast)]).save(path)


def shown(forecast: Forecast) -> list[str]:
    return ForecastTable([("", forecast)]).shown().splitlines()


def test_the_intervals_of_a_target_follow_it_in_the_file(tmp_path: Path) -> None:
    # Given in any order, they ascend.
    save(tmp_path / "f.csv", forecast_of("OT", "HUFL", levels=(90, 80)))
    series = parse_csv((tmp_path / "f.csv").read_bytes(), "f.csv")
    borders = ("lo_80", "hi_80", "lo_90", "hi_90")
    assert series.columns == tuple(
        name for target in ("OT", "HUFL") for name in (target, *(f"{target}_{border}" for border in borders))
    )
    assert series.freq == "D"
    np.testing.assert_allclose(series.values[0], [10, 2, 18, 1, 19, 20, 12, 28, 11, 29])
    np.testing.assert_allclose(series.values[3], [10, -1, 21, -2, 22, 20, 9, 31, 8, 32])


def test_without_intervals_the_file_holds_the_targets_alone(tmp_path: Path) -> None:
    save(tmp_path / "f.csv", forecast_of("OT", "HUFL", levels=()))
    assert (tmp_path / "f.csv").read_text().splitlines()[:2] == [
        "date,OT,HUFL",
        "2024-01-01,10.000000,20.000000",
    ]


def test_a_target_with_the_name_of_a_border_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would have two columns 'OT_lo_80'"):
        save(tmp_path / "f.csv", forecast_of("OT", "OT_lo_80"))
    assert not (tmp_path / "f.csv").exists()
    save(tmp_path / "f.csv", forecast_of("OT", "OT_lo_80", levels=(90,)))


def test_levels_that_the_errors_do_not_tell_apart_are_named() -> None:
    half_widths = np.array([[[1.0], [2.0], [np.nan]], [[1.0], [3.0], [np.nan]]])
    (said,) = _the_same(half_widths, (80, 90))
    assert said.startswith(
        "the 80 and 90 % intervals are the same at 1 of 3 steps: earlier errors are too few"
    )
    assert _the_same(half_widths * np.array([1.0, 1.1])[:, None, None], (80, 90)) == []


def test_the_terminal_shows_the_intervals_of_one_target_and_counts_those_of_several() -> None:
    header, *rows = shown(forecast_of("OT"))
    assert header.split() == ["date", "OT", "OT_lo_80", "OT_hi_80", "OT_lo_90", "OT_hi_90"]
    assert rows[-1].split()[1:] == ["10.000000", "-1.000000", "21.000000", "-2.000000", "22.000000"]
    header, *rows = shown(forecast_of("OT", "HUFL"))
    assert header.split() == ["date", "OT", "HUFL"]
    assert rows[-1] == "and 8 more columns in the file"


def test_several_series_follow_each_other_with_what_tells_them_apart(tmp_path: Path) -> None:
    few, many = forecast_of("OT", levels=()), forecast_of("OT", levels=(90,))
    table = ForecastTable([("A / x", few), ("B / y", many)], ("shop", "article"))
    table.save(tmp_path / "f.csv")
    header, *rows = (tmp_path / "f.csv").read_text().splitlines()
    assert header == "date,shop,article,OT,OT_lo_90,OT_hi_90"
    assert rows[0] == "2024-01-01,A,x,10.000000,,", "a series without intervals has empty cells"
    assert rows[STEPS] == "2024-01-01,B,y,10.000000,1.000000,19.000000"
    named = ForecastTable([("A / x / 1", few)], ("shop", "article"))
    assert named.shown().splitlines()[0].split() == ["date", "series", "OT"]
    with pytest.raises(ConfigError, match="would have two columns 'OT'"):
        ForecastTable([("A", few)], ("OT",)).save(tmp_path / "g.csv")
