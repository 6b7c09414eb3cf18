"""A backtest as a table for people, and as rows for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_agent_graph.text.terminal import printable
from nas_system.files import finite
from nas_system.nas_agent.backtest import Backtest, Origin

MEASURES = ("mse_scaled", "mae_scaled", "mse", "mae", "mase")
"""Scaled as the search's scores; in the units of the data; over the seasonal naive error before the date."""
_TITLES = ("mse", "mae", "MSE", "MAE", "MASE")
RECIPE = "recipe"
_DASH = "-"


def backtest_table(backtest: Backtest) -> str:
    """Return the content of `backtest.csv`: a row per date for the recipe and for every baseline."""
    levels = _levels(backtest)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ("date", "row", "forecaster", "members", *MEASURES, *(f"covered_{one}" for one in levels))
    )
    for origin, date in _scored(backtest):
        shown, covered = _date(date), _mapping(date.get("covered"))
        start = (shown, origin.row)
        shares = [_number(covered.get(str(level))) for level in levels]
        recipe = _mapping(date.get("scores"))
        writer.writerow((*start, RECIPE, " ".join(origin.forecaster.names), *_numbers(recipe), *shares))
        for name, scores in _mapping(date.get("baselines")).items():
            writer.writerow((*start, name, name, *_numbers(_mapping(scores)), *([""] * len(levels))))
    return buffer.getvalue()


def backtest_lines(backtest: Backtest) -> Iterator[str]:
    """Yield the lines that people read: a row per date, the mean, baselines, and what was not repeated."""
    evaluation, levels = backtest.evaluation, _levels(backtest)
    dates = list(_scored(backtest))
    header = ("date", "members", *_TITLES, *(f"{level} %" for level in levels), "best baseline")
    rows = [
        _row(_date(date), _members(origin), date, levels, _best(_mapping(date.get("baselines"))))
        for origin, date in dates
    ]
    means = {"scores": evaluation.get("mean"), "covered": evaluation.get("mean_covered")}
    baselines = _mapping(evaluation.get("mean_of_baselines"))
    if len(dates) > 1:
        rows.append(_row("mean", "", means, levels, _best(baselines)))
    yield from _aligned([header, *rows])
    yield (
        "mse and mae are scaled as the scores of the search, MSE and MAE in the units of the data; "
        "MASE is over the seasonal naive error before the date."
    )
    if baselines:
        shown = ", ".join(
            f"{printable(name, 40)} {_score(scores):.5f}" for name, scores in _ranked(baselines)
        )
        yield f"Mean mse of the baselines at the same dates: {shown}."
    for date in _listed(evaluation.get("dates")):
        if "problem" in date:
            yield f"Left out: {_date(date)}, because {printable(str(date['problem']), 300)}."
    yield from _caveats(backtest)


def _caveats(backtest: Backtest) -> Iterator[str]:
    """Say what was chosen by whom, and which rows it had seen."""
    until = printable(str(backtest.evaluation.get("searched_until", "")), 30)
    hows, every = [one.how for one in backtest.origins], len(backtest.origins)
    if n := hows.count("search"):
        yield (
            f"At {n} of {every} dates the choice is the search's; it saw rows up to {until}, before those "
            "dates. The search itself is not repeated."
        )
    if n := hows.count("again"):
        yield (
            f"At {n} of {every} dates it was chosen again by the validation windows known there; the "
            f"configurations and their lengths are the search's, which saw rows up to {until}, after them."
        )
    if n := hows.count("not again"):
        yield (
            f"At {n} of {every} dates the choice is the search's; it saw rows up to {until}, after those "
            "dates, so these are too good."
        )


# --- cells ----------------------------------------------------------------------------------


def _row(
    date: str, members: str, scored: Mapping[str, Any], levels: Sequence[int], best: str
) -> tuple[str, ...]:
    scores, covered = _mapping(scored.get("scores")), _mapping(scored.get("covered"))
    numbers = [finite(scores.get(name)) for name in MEASURES]
    shares = [finite(covered.get(str(level))) for level in levels]
    return (
        date,
        members,
        *(_DASH if number is None else f"{number:.4g}" for number in numbers),
        *(_DASH if share is None else f"{100 * share:.0f} %" for share in shares),
        best,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _members(origin: Origin) -> str:
    names = origin.forecaster.names
    return printable(names[0], 30) if len(names) == 1 else f"mean of {len(names)}"


def _best(baselines: Mapping[str, Any]) -> str:
    name, scores = next(iter(_ranked(baselines)), ("", {}))
    return f"{printable(name, 30)} {_score(scores):.4g}" if name else _DASH


def _ranked(baselines: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the baselines, that with the lowest error first."""
    known = [(name, _mapping(scores)) for name, scores in baselines.items()]
    return sorted((one for one in known if "mse_scaled" in one[1]), key=lambda one: _score(one[1]))


def _score(scores: Mapping[str, Any]) -> float:
    return finite(scores.get("mse_scaled")) or 0.0


def _date(date: Mapping[str, Any]) -> str:
    return printable(str(date.get("date", "")), 30)


# --- what the program has printed -----------------------------------------------------------


def _scored(backtest: Backtest) -> Iterator[tuple[Origin, Mapping[str, Any]]]:
    """Yield the dates that have scores."""
    known = {date.get("row"): date for date in _listed(backtest.evaluation.get("dates"))}
    for origin in backtest.origins:
        if "scores" in (date := known.get(origin.row, {})):
            yield origin, date


def _levels(backtest: Backtest) -> list[int]:
    levels = backtest.evaluation.get("levels")
    return [level for level in levels if type(level) is int] if isinstance(levels, list) else []


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(scores: Mapping[str, Any]) -> list[str]:
    return [_number(scores.get(name)) for name in MEASURES]


def _number(value: Any) -> str:
    number = finite(value)
    return "" if number is None else f"{number:.7g}"
