"""A baseline of a search's leaderboard, to forecast the rows after the last known one. Needs no torch.

forecaster = load_baseline("theta", Path("runs/task_facts.json"))
forecast = forecaster.forecast(series)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_system.data.baselines.bounded import LIBRARY
from nas_system.data.baselines.by_name import check_installed, forecast_future, method_named
from nas_system.data.baselines.method import Method
from nas_system.data.calendar import dates_after
from nas_system.data.scaling import Scaler
from nas_system.data.series import Forecast, Series
from nas_system.errors import ConfigError
from nas_system.files import read_record
from nas_system.nas_agent.log_text import one_line
from nas_system.space import ForecastingTask
from nas_system.space.task_info import Baseline, TaskInfo


@dataclass(frozen=True)
class BaselineForecaster:
    """A baseline with the task of the search that it stands in."""

    method: Method
    task: ForecastingTask
    row: Baseline
    """Of the leaderboard."""
    data_sha256: str
    """The checksum of the search's data."""
    freq: str | None
    """The step of the search's data; None where its file does not say."""

    def forecast(self, series: Series, name: str = "the series") -> Forecast:
        """Forecast the `pred_len` steps after the last row of `series`, fitted to its own rows.

        Raises ConfigError, naming `name`, for a series with another step, without a target or with too few
        rows.
        """
        if self.freq not in (None, series.freq):
            raise ConfigError(
                f"{name}: the step between rows is {series.freq}, but that of the search is {self.freq}; "
                "resample the rows"
            )
        try:
            targets = series.column_names(self.task.targets)
            columns = list(series.column_indices(targets))
            values, spread = forecast_future(
                self.method, series.values[:, columns], series.freq, self.task.pred_len
            )
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        if not np.isfinite(values).all():
            raise ConfigError(f"{name}: the forecast is not a finite number; check the units of its rows")
        return Forecast(targets, dates_after(series.dates, series.freq, self.task.pred_len), values, spread)

    def forecast_windows(self, series: Series, origins: range, fitted_to: int) -> NDArray[np.float64]:
        """Forecast from each of `origins`, fitted to the first `fitted_to` rows alone.

        Return (origins, pred_len, targets), in the units of the data. Raises ConfigError for too few rows,
        and for a baseline of the extra `stats`, which is too slow for many origins.
        """
        if self.method.name in LIBRARY:
            raise ConfigError(f"{self.method.name} is too slow to forecast from many origins")
        pred_len, columns = self.task.pred_len, list(series.column_indices(self.task.targets))
        if fitted_to < self.method.rows_needed(pred_len):
            raise ConfigError(
                f"{self.method.name} is fitted to rows before the latest part, of which there are "
                f"{fitted_to} and not {self.method.rows_needed(pred_len)}; bring earlier rows as well"
            )
        try:
            scaler = Scaler.of_rows(series.values[:fitted_to, columns], columns, self.task.scaling)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        table = scaler.transform(series.values[:, columns])
        forecast = self.method.fit(table[:fitted_to], pred_len)
        found = [forecast(column, origins, n) for n, column in enumerate(np.ascontiguousarray(table.T))]
        return scaler.inverse(np.stack(found, axis=2))

    def summarize(self, series: Series) -> str:
        """Say what forecasts `series`, and from which of its rows."""
        score = self.row.scores.get("val_mse")
        shown = "baseline" if score is None else f"baseline, val_mse {score:.5f}"
        return f"({shown}) {self.method.reads(len(series))}"


def load_baseline(name: str, facts: Path) -> BaselineForecaster:
    """Return the baseline of this name in a search's task info. Raises ConfigError for any other name."""
    record = read_record(facts)
    if record is None:
        raise ConfigError(f"{facts}: not the task info of a search")
    info = TaskInfo.from_json(record)
    if not isinstance(info.task, ForecastingTask):
        raise ConfigError(
            f"{name}: the search of {facts} is about {info.task.name}, so there is nothing to forecast"
        )
    rows = {row.name: row for row in info.baselines}
    method = method_named(name)
    if method is not None:
        check_installed(name)
    if method is None or name not in rows:
        known = [row for row in rows if method_named(row) is not None]
        raise ConfigError(
            f"there is no run and no baseline {one_line(name, 60)!r} in this search; "
            f"the baselines are {one_line(', '.join(known), 300) or 'none'}"
        )
    freq = info.measured.get("freq")
    return BaselineForecaster(
        method, info.task, rows[name], info.source.sha256, freq if isinstance(freq, str) else None
    )
