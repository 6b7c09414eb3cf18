"""Forecast the future: `python -m nas_system.predict` in the folder of a search that has ended.

With what the search recommends: an ensemble, a run or a baseline, refitted on all rows unless `--as-searched`
is given. Or with any run, `--run runs/run_0003`, and any row of the leaderboard by its name: `--run theta`.

Reads the last rows of the run's own series, or of another file with `--csv`, and writes the steps
after them, in the units of the data. With `--csv`, `best_model.pth` and `config_used.py` of the
run's folder are all that is needed, so both can be taken to another machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.command_line import Parser, add_data_dir, add_device, exit_code_of
from nas_system.errors import ConfigError

if TYPE_CHECKING:
    from nas_system.data import DataSource, Series
    from nas_system.data.series import Forecast
    from nas_system.ensembles.choice import Chosen
    from nas_system.ensembles.forecaster import EnsembleForecaster
    from nas_system.tasks.baseline_forecaster import BaselineForecaster
    from nas_system.tasks.saved_forecaster import SavedForecaster

    Forecaster = SavedForecaster | BaselineForecaster | EnsembleForecaster

MOST_LEVELS = 5
MOST_NOTES = 12
MISSING = ("refuse", "ffill", "interpolate")
"""As the task has them, whose module would load pydantic for a help text."""


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str = "python -m nas_system.predict",
    backtest: Callable[[argparse.Namespace, Path], int] | None = None,
) -> int:
    """Forecast and return 0; or 2 when there is nothing to forecast with or from.

    `backtest` does what `--backtest` asks for, which takes trainings: it is given the arguments and the file
    for its table, and returns the exit code.
    """
    arguments = build_parser(prog).parse_args(argv)

    def work() -> int:
        if arguments.backtest is not None:
            _check_backtest(arguments, backtest is not None)
        _predict(arguments)
        if arguments.backtest is None or backtest is None:
            return 0
        return backtest(arguments, backtest_table(arguments.out))

    return exit_code_of(work)


def _check_backtest(arguments: argparse.Namespace, can_train: bool) -> None:
    """Raise ConfigError for flags that do not go with `--backtest`."""
    if not can_train:
        raise ConfigError(
            "--backtest trains, which this program does not; give it to nas predict, or to "
            "python -m nas_agent_graph.cli predict"
        )
    for name in ("run", "csv", "facts", "data_dir", "as_searched"):
        if getattr(arguments, name):
            raise ConfigError(
                "--backtest is about what the search recommends, on its own rows; leave out "
                f"--{name.replace('_', '-')}"
            )


def _predict(arguments: argparse.Namespace) -> None:
    if arguments.csv is not None and (arguments.facts or arguments.data_dir):
        raise ConfigError("--csv brings the rows; leave out --facts and --data-dir")
    for flag, value in (("--missing", arguments.missing), ("--date-format", arguments.date_format)):
        if value is not None and arguments.csv is None:
            raise ConfigError(f"{flag} is about the file of --csv; leave it out, or name one")
    if arguments.plot is not None and arguments.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {arguments.plot}: the picture is a PNG; name it so")
    if arguments.export is not None and arguments.export.suffix.lower() != ".onnx":
        raise ConfigError(f"--export {arguments.export}: the file is an ONNX graph; name it so")
    written = [path for path in (arguments.out, arguments.plot, arguments.export) if path is not None]
    if len({path.absolute() for path in written}) != len(written):
        raise ConfigError("--out, --plot and --export name the same file; give each a name of its own")
    table = backtest_table(arguments.out)
    if arguments.backtest is not None and table.absolute() in [path.absolute() for path in written]:
        raise ConfigError(f"{table} is what --backtest writes; name another file")
    from nas_system.ensembles.choice import chosen_by
    from nas_system.ensembles.forecast_table import ForecastTable
    from nas_system.nas_agent.log_text import one_line

    chosen = chosen_by(arguments)
    forecaster, run = chosen.forecaster, chosen.run
    if arguments.backtest is not None and forecaster.task.series_columns:
        problem = "--backtest is for one series, and this search is about several (--series-column)"
        raise ConfigError(f"{problem}; leave it out")
    every, file = _rows(arguments, forecaster, run)
    for target in (*written, *([table] if arguments.backtest is not None else [])):
        if file is not None and target.exists() and target.samefile(file):
            raise ConfigError(f"{target} is the file that the rows come from; write to another one")
    name = file.name if file is not None else forecaster.task.dataset
    found, notes = _forecasts(every, chosen, arguments, str(file or name))
    clock = every[0].clock
    if clock is not None:
        offset = "UTC" if clock.offset == "Z" else f"UTC{clock.offset}"
        notes.append(f"time stamps are those of the last row's clock, {offset}")
    title = run.resolve().name
    forecasts = ForecastTable(
        [(series.name, forecast) for series, forecast in found], forecaster.task.series_columns, clock
    )
    # Before anything is printed: whoever reads that may have seen enough.
    _write(arguments.out, lambda: forecasts.save(arguments.out))
    if arguments.plot is not None:
        _write(arguments.plot, lambda: notes.extend(_draw(arguments.plot, found, title)))
    if chosen.why:
        print(one_line(chosen.why, 600))
    print(one_line(f"{title} {forecaster.summarize(found[0][0])} of {_what(found, name)}", 400))
    print(forecasts.shown())
    for note in dict.fromkeys(notes):
        print(one_line(note, 400))
    for path in filter(None, (arguments.out, arguments.plot)):
        print(f"wrote {path}")
    if arguments.export is not None:
        from nas_system.ensembles.exported import export_forecaster

        print(export_forecaster(forecaster, found[0][0], arguments.export))


def _forecasts(
    every: Sequence[Series], chosen: Chosen, arguments: argparse.Namespace, name: str
) -> tuple[list[tuple[Series, Forecast]], list[str]]:
    """Return the forecast of every series, with its intervals, and what has to be said of them.

    Raises ConfigError for a series that cannot be forecast; one of several is left out and said, unless none
    is left.
    """
    from nas_system.ensembles.choice import intervals_behind

    found: list[tuple[Series, Forecast]] = []
    notes: list[str] = []
    refused: list[str] = []
    with_intervals = intervals_behind(chosen, arguments) if arguments.intervals else None
    for series in every:
        of_series = f"{name}, series {series.name!r}" if series.name else name
        try:
            forecast = chosen.forecaster.forecast(series, of_series)
        except ConfigError as error:
            if len(every) == 1:
                raise
            refused.append(str(error))
            continue
        notes += forecast.said
        if with_intervals is not None:
            forecast, said = with_intervals(forecast, series)
            notes += [f"series {series.name!r}: {text}" for text in said] if series.name else said
        found.append((series, forecast))
    if not found:
        raise ConfigError(f"none of the {len(every)} series can be forecast: {refused[0]}")
    notes = [f"not forecast: {text}" for text in refused[:MOST_NOTES]] + notes
    more = len(notes) - MOST_NOTES
    return found, [*notes[:MOST_NOTES], *([f"and {more} more notes of this kind"] if more > 0 else [])]


def _what(found: Sequence[tuple[Series, Forecast]], name: str) -> str:
    """Say of which rows a forecast is."""
    from nas_system.data.calendar import spelled_dates

    last = max((series for series, _ in found), key=lambda series: series.dates[-1])
    until = spelled_dates(last.dates, last.clock)[-1]
    several = f"{len(found)} series of " if last.name else ""
    return f"{several}{name}, up to {until}"


# --- where the rows come from ---------------------------------------------------------------


def _rows(
    arguments: argparse.Namespace, forecaster: Forecaster, run: Path
) -> tuple[tuple[Series, ...], Path | None]:
    """Return the series to continue, with what is known of their future, and their file if they have one."""
    from nas_system.data.known_future.future_values import all_with_given
    from nas_system.data.reading.panel.ahead_file import read_ahead

    found, file = _known_rows(arguments, forecaster, run)
    given, task = arguments.future_csv, forecaster.task
    if given is None:
        return found, file
    if not task.future:
        raise ConfigError(
            f"--future-csv {given}: the search has no columns whose future is known; leave it out"
        )
    ahead = read_ahead(
        _content(given),
        str(given),
        task.future,
        series_columns=task.series_columns,
        date_format=task.date_format,
        like=found[0],
    )
    return all_with_given(found, ahead, task.pred_len, str(given)), file


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None


def _known_rows(
    arguments: argparse.Namespace, forecaster: Forecaster, run: Path
) -> tuple[tuple[Series, ...], Path | None]:
    from nas_system.data import load_all
    from nas_system.data.loading import read_for

    task = forecaster.task
    if arguments.csv is not None:
        # What is missing is dealt with as in training, if nothing else is said.
        given = {"missing": arguments.missing, "date_format": arguments.date_format}
        found = read_for(
            task.model_copy(update={name: value for name, value in given.items() if value is not None}),
            _content(arguments.csv),
            str(arguments.csv),
        )
        for text in found[0].said:
            print(f"note: {text}")
        return found, arguments.csv
    try:
        source = _own_source(arguments, forecaster, run)
        if source.sha256 != forecaster.data_sha256:
            raise ConfigError(_not_the_same(source, task.dataset))
        if source.notice:
            print(f"note: {source.notice}")
        return load_all(source, task), source.path
    except ConfigError as error:
        raise ConfigError(f"{error}; or forecast from any file as it is: --csv FILE") from None


def _not_the_same(source: DataSource, dataset: str) -> str:
    if source.path is None:
        return f"{dataset}, the data of the training, is not here; name its folder by --data-dir"
    return f"{source.path} is not, or no longer, the data of the training; put that back"


def _own_source(arguments: argparse.Namespace, forecaster: Forecaster, run: Path) -> DataSource:
    """Return the run's own data: as in `--facts` or the facts next to the run, else where it is found."""
    from nas_system.data import locate
    from nas_system.files import find_moved, read_record
    from nas_system.processes.run_files import FACTS_FILE
    from nas_system.space.task_info import source_from

    neighbour = run.resolve().parent / FACTS_FILE
    if arguments.facts is not None:
        record = read_record(arguments.facts)
        if record is None:
            raise ConfigError(f"{arguments.facts}: not the task info of a search")
        return source_from(record)
    # A run trained by hand may lie in the folder of a search about something else.
    record = read_record(neighbour)
    source = None if record is None else source_from(record)
    if source is not None and source.sha256 == forecaster.data_sha256:
        if arguments.data_dir is None and (source.path is None or source.path.is_file()):
            return source
        # The project may have been moved, or come from another machine.
        workspace = run.resolve().parent.parent
        folders = [Path.cwd(), workspace, workspace.parent]
        if arguments.data_dir is not None:
            folders.insert(0, arguments.data_dir.expanduser())
        if source.kind == "csv" and source.path is not None:
            moved = find_moved(source.path, source.sha256, folders)
            if moved is not None:
                return replace(source, path=moved)
    return locate(forecaster.task, arguments.data_dir)


# --- what is written ------------------------------------------------------------------------


def _draw(path: Path, found: Sequence[tuple[Series, Forecast]], run: str) -> list[str]:
    """Draw a panel per target, or per series of the first target; say what is not drawn."""
    import numpy as np

    from nas_system.visualization.future import MOST_PANELS, future_forecast

    series, forecast = found[0]
    past = series.values[:, list(series.column_indices(forecast.columns))]
    columns, values, intervals = forecast.columns, forecast.values, forecast.intervals
    notes: list[str] = []
    dates, of_several = series.dates, ""
    if series.name:
        # One axis of time: those that end on another date would need one of their own.
        drawn = [(one, its) for one, its in found if one.dates[-1] == series.dates[-1]][:MOST_PANELS]
        rows = min(len(one) for one, _ in drawn)
        dates, columns = series.dates[-rows:], tuple(one.name for one, _ in drawn)
        of_several = forecast.columns[0]
        target = series.column_indices((of_several,))[0]
        past = np.stack([one.values[-rows:, target] for one, _ in drawn], axis=1)
        values = np.stack([its.values[:, 0] for _, its in drawn], axis=1)
        bounds = {
            level: np.array([its.intervals[level] for _, its in drawn])[..., 0].transpose(1, 2, 0)
            for level in set(intervals).intersection(*(its.intervals for _, its in drawn))
        }
        intervals = {level: (low, high) for level, (low, high) in bounds.items()}
        if len(drawn) < len(found):
            notes.append(f"{len(drawn)} of {len(found)} series are drawn in {path}")
    future_forecast(
        dates,
        past,
        forecast.dates,
        values,
        path,
        columns=columns,
        title=run,
        target=of_several,
        intervals=intervals,
    )
    return notes


def _write(path: Path, write: Callable[[], None]) -> None:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    try:
        write()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from None


def backtest_table(out: Path) -> Path:
    """Return the file of `--backtest`, next to the forecast."""
    return out.with_name("backtest.csv")


def _levels(text: str) -> tuple[int, ...]:
    """Return the levels of intervals in a flag: `80,90`, or `none`."""
    if text == "none":
        return ()
    named = text.split(",")
    levels = sorted({int(level) for level in named if level.isdecimal() and 1 <= int(level) <= 99})
    if len(levels) != len(named) or len(levels) > MOST_LEVELS:
        raise argparse.ArgumentTypeError(
            f"{text!r}: name up to {MOST_LEVELS} different levels between 1 and 99, as in 80,90, or none"
        )
    return tuple(levels)


def _date_format(text: str) -> str:
    from nas_system.space.time_steps import checked_format

    try:
        return checked_format(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _dates(text: str) -> int:
    """Return how many earlier dates a flag asks for."""
    from nas_system.nas_agent.backtest import MOST_DATES

    if not text.isdecimal() or not 1 <= int(text) <= MOST_DATES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dates from 1 to {MOST_DATES}")
    return int(text)


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas predict`."""
    parser = Parser(prog=prog, description="Forecast the future with a finished run or a baseline.")
    parser.add_argument(
        "--run",
        type=Path,
        help="a run's folder (runs/run_0003), or a row of a search's leaderboard: run_0003, ensemble, theta "
        "(default: what the search recommends)",
    )
    parser.add_argument(
        "--as-searched",
        action="store_true",
        help="with the weights of the search, not those refitted on all rows",
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path(), help="folder of the search that a name is looked up in"
    )
    parser.add_argument(
        "--csv", type=Path, help="forecast from this file's last rows, not the run's own data"
    )
    parser.add_argument(
        "--missing",
        choices=MISSING,
        help="with --csv: what to do about its empty cells and missing rows (default: as the search did)",
    )
    parser.add_argument(
        "--date-format",
        type=_date_format,
        metavar="FORMAT",
        help="with --csv: how its time stamps are written, as strptime spells it: %%d/%%m/%%Y (default: as "
        "the search read them)",
    )
    parser.add_argument(
        "--future-csv",
        type=Path,
        metavar="FILE",
        help="the values of columns whose future is known (--future of the search) at the steps to forecast; "
        "without it they are read from rows with empty targets at the end of the data",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("forecast.csv"), help="where it goes (default: forecast.csv)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw it")
    parser.add_argument(
        "--intervals",
        type=_levels,
        default=(80, 90),
        metavar="L,L|none",
        help="prediction intervals, in per cent (default: 80,90)",
    )
    parser.add_argument(
        "--backtest",
        type=_dates,
        metavar="K",
        help="also tell how choosing, refitting and forecasting would have done at K earlier dates; trains "
        "again at each, and writes backtest.csv next to the forecast",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE.onnx",
        help='also write what forecasts as an ONNX file: needs pip install -e ".[onnx]"',
    )
    parser.add_argument(
        "--facts",
        type=Path,
        help="task_facts.json of the search: use exactly its data (default: next to the run)",
    )
    add_data_dir(parser)
    add_device(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
