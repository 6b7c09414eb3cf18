"""Forecast the future: `python -m nas_system.predict` in the folder of a search that has ended.

With what the search recommends: an ensemble, a run or a baseline, refitted on all rows unless `--as-searched`
is given. Or with any run, `--run runs/run_0003`, and any row of the leaderboard by its name: `--run theta`.

Reads the last rows of the run's own series, or of another file with `--csv`, and writes the steps
after them, in the units of the data. With `--csv`, `best_model.pth` and `config_used.py` of the
run's folder are all that is needed, so both can be taken to another machine.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.command_line import Parser, add_data_dir, add_device, exit_code_of
from nas_system.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nas_system.data import DataSource, Series
    from nas_system.data.series import Clock, Forecast
    from nas_system.ensembles.forecaster import EnsembleForecaster
    from nas_system.tasks.baseline_forecaster import BaselineForecaster
    from nas_system.tasks.saved_forecaster import SavedForecaster

    Forecaster = SavedForecaster | BaselineForecaster | EnsembleForecaster

DATE = "date"
FIRST_ROWS, LAST_ROWS, MOST_COLUMNS = 4, 2, 6
"""How much of the forecast is shown in the terminal."""
MOST_LEVELS = 5
MISSING = ("refuse", "ffill", "interpolate")
"""As the task has them, whose module would load pydantic for a help text."""
MOST_DECIMALS = 15
"""Where a forecast takes more it is written with a power of ten."""
FLOAT_DIGITS = 7
"""What a 32-bit network resolves, counted from the size of a standard deviation."""


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
    from nas_system.data.calendar import spelled_dates
    from nas_system.ensembles.choice import chosen_by, intervals_of
    from nas_system.nas_agent.log_text import one_line

    chosen = chosen_by(arguments)
    forecaster, run = chosen.forecaster, chosen.run
    series, file = _rows(arguments, forecaster, run)
    for target in (*written, *([table] if arguments.backtest is not None else [])):
        if file is not None and target.exists() and target.samefile(file):
            raise ConfigError(f"{target} is the file that the rows come from; write to another one")
    name = file.name if file is not None else forecaster.task.dataset
    forecast = forecaster.forecast(series, str(file or name))
    notes: list[str] = []
    if arguments.intervals:
        forecast, notes = intervals_of(forecast, series, chosen, arguments)

    if series.clock is not None:
        notes.append(f"time stamps are those of the last row's clock, {_clock_name(series.clock.offset)}")
    title, last = run.resolve().name, spelled_dates(series.dates, series.clock)[-1]
    # Before anything is printed: whoever reads that may have seen enough.
    _write(arguments.out, lambda: _save_csv(arguments.out, forecast, series.clock))
    if arguments.plot is not None:
        _write(arguments.plot, lambda: _draw(arguments.plot, series, forecast, title))
    if chosen.why:
        print(one_line(chosen.why, 600))
    print(one_line(f"{title} {forecaster.summarize(series)} of {name}, up to {last}", 400))
    print(_table(forecast, series.clock))
    for note in notes:
        print(one_line(note, 400))
    for path in filter(None, (arguments.out, arguments.plot)):
        print(f"wrote {path}")
    if arguments.export is not None:
        from nas_system.ensembles.exported import export_forecaster

        print(export_forecaster(forecaster, series, arguments.export))


# --- where the rows come from ---------------------------------------------------------------


def _rows(arguments: argparse.Namespace, forecaster: Forecaster, run: Path) -> tuple[Series, Path | None]:
    """Return the series to continue, and its file if it has one."""
    from nas_system.data import load_series
    from nas_system.data.reading import read_series

    task = forecaster.task
    if arguments.csv is not None:
        try:
            content = arguments.csv.read_bytes()
        except OSError as error:
            raise ConfigError(f"{arguments.csv} cannot be read: {error.strerror or error}") from None
        # What is missing is dealt with as in training, if nothing else is said.
        series = read_series(
            content,
            str(arguments.csv),
            freq=task.freq,
            missing=arguments.missing or task.missing,
            date_format=arguments.date_format or task.date_format,
        )
        for text in series.said:
            print(f"note: {text}")
        return series, arguments.csv
    try:
        source = _own_source(arguments, forecaster, run)
        if source.sha256 != forecaster.data_sha256:
            raise ConfigError(_not_the_same(source, task.dataset))
        if source.notice:
            print(f"note: {source.notice}")
        return load_series(source, task), source.path
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


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the file: a target's forecast, or a border of its intervals."""

    name: str
    values: NDArray[np.float64]
    """(pred_len,)"""
    decimals: int
    of_interval: bool = False


def _save_csv(path: Path, forecast: Forecast, clock: Clock | None = None) -> None:
    """Write the time stamp, then a column per target, in a file that this program can read as a series.

    After a target `OT` come its intervals, `OT_lo_80`, `OT_hi_80`, ... by ascending level. Raises ConfigError
    where another target has such a name.
    """
    from nas_system.files import write_atomic

    columns = _columns(forecast)
    names = [column.name for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"{path} would have two columns {twice!r}: a target, and a border of an interval; rename one"
        )
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((DATE, *names))
    writer.writerows(_cells(forecast, columns, clock))
    write_atomic(path, buffer.getvalue().encode())


def _columns(forecast: Forecast) -> list[Column]:
    """Return the columns in the order of the file."""
    found: list[Column] = []
    for target, name in enumerate(forecast.columns):
        decimals = _decimals(float(forecast.spread[target]))
        found.append(Column(name, forecast.values[:, target], decimals))
        for level, bounds in sorted(forecast.intervals.items()):
            for side, bound in zip(("lo", "hi"), bounds, strict=True):
                found.append(Column(f"{name}_{side}_{level}", bound[:, target], decimals, of_interval=True))
    return found


def _cells(forecast: Forecast, columns: Sequence[Column], clock: Clock | None) -> list[list[str]]:
    """Return a row per step: its time stamp, and the values with their significant digits."""
    from nas_system.data.calendar import spelled_dates

    texts = [[_spelled(value, column.decimals) for value in column.values] for column in columns]
    return [list(row) for row in zip(spelled_dates(forecast.dates, clock), *texts, strict=True)]


def _clock_name(offset: str) -> str:
    return "UTC" if offset == "Z" else f"UTC{offset}"


def _spelled(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if decimals <= MOST_DECIMALS else f"{value:.{FLOAT_DIGITS}e}"


def _decimals(spread: float) -> int:
    return max(0, FLOAT_DIGITS - 1 - math.floor(math.log10(spread)))


def _table(forecast: Forecast, clock: Clock | None = None) -> str:
    """Format the first and last rows, aligned; intervals are shown of one target, and counted of several."""
    from nas_system.nas_agent.log_text import one_line

    every = _columns(forecast)
    columns = every if len(forecast.columns) == 1 else [column for column in every if not column.of_interval]
    columns = columns[:MOST_COLUMNS]
    header = [DATE, *(one_line(column.name, 16) for column in columns)]
    rows = _cells(forecast, columns, clock)
    if len(rows) > FIRST_ROWS + LAST_ROWS + 1:
        rows = [*rows[:FIRST_ROWS], ["..."] + [""] * (len(header) - 1), *rows[-LAST_ROWS:]]
    shown = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in shown
    ]
    hidden = len(every) - len(columns)
    return "\n".join(lines + ([f"and {hidden} more columns in the file"] if hidden > 0 else []))


def _draw(path: Path, series: Series, forecast: Forecast, run: str) -> None:
    from nas_system.visualization import future_forecast

    past = series.values[:, list(series.column_indices(forecast.columns))]
    future_forecast(
        series.dates,
        past,
        forecast.dates,
        forecast.values,
        path,
        columns=forecast.columns,
        title=run,
        intervals=forecast.intervals,
    )


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
