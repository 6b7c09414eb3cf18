"""The tables of a model card: scores of the search, of what it recommends, and how its intervals did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_agent_graph.report.markdown import code, table
from nas_agent_graph.show.rows import Row, format_score
from nas_system.files import finite
from nas_system.nas_agent.agent_state import AgentState
from nas_system.space.task_info import HOLD_OUT, TaskInfo

MOST_RUNS = 8
"""Rows of runs; baselines have one each."""
PARTS = {"val": "validation", "test": "test", HOLD_OUT: "hold-out"}
TRAINED = {
    "as_searched": "trained as in the search",
    "refitted": "refitted on all rows before the part",
}
MEASURES = {"mase": "MASE", "smape": "sMAPE, %", "rmse": "RMSE", "mae": "MAE"}
"""In the units of the data, but for the first two."""


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def scores(
    state: AgentState, rows: Sequence[Row], info: TaskInfo | None, recommended: Mapping[str, Any]
) -> list[str]:
    """Return the section; `recommended` is `runs/recommended.json`."""
    lines = _leaderboard(state, rows, info)
    evaluation = as_mapping(recommended.get("evaluation"))
    if evaluated := _evaluated(evaluation):
        name = recommended.get("recommended")
        lines += ["", f"Of what is recommended, {code(name)}:", "", *evaluated, "", _UNITS]
    if covered := _covered(evaluation):
        lines += ["", "Its forecast intervals, which should cover their share of the values:", "", *covered]
    return lines


_UNITS = (
    "`mse` and `mae (scaled)` are of scaled values, RMSE and MAE in the units of the data, means over "
    "targets and series. MASE below 1 is better than repeating the last season in the training rows."
)


def _leaderboard(state: AgentState, rows: Sequence[Row], info: TaskInfo | None) -> list[str]:
    """Return the best runs and all baselines, with the scores that chose and those that nobody read."""
    hold_out = {row.name: row.on(HOLD_OUT, state.metric) for row in (info.baselines if info else ())}
    shown, runs = [], 0
    for row in rows:
        runs += row.run is not None
        if row.run is not None and runs > MOST_RUNS:
            continue
        last = state.hold_out.get(row.name) if row.run is not None else hold_out.get(row.name)
        kind = code(row.run.family or "") if row.run is not None else "baseline"
        seeds = str(len(row.scores)) if row.run is not None else ""
        shown.append(
            (
                code(row.name),
                kind,
                seeds,
                *(format_score(value) for value in (row.val_score, row.test_score, last)),
            )
        )
    left_out = max(runs - MOST_RUNS, 0)
    lines = [
        f"In {code(state.metric)} and the same on the other parts; of several seeds the validation score is "
        "the mean.",
        "",
        *table(("row", "family", "seeds", "validation", "test", "hold-out"), shown, texts=2),
    ]
    if not shown:
        return ["No run and no baseline has a score."]
    return lines + (["", f"{left_out} more runs have a score."] if left_out else [])


def _evaluated(evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for trained, words in TRAINED.items():
        for part, name in PARTS.items():
            values = as_mapping(as_mapping(evaluation.get(trained)).get(part))
            accuracy = as_mapping(values.get("accuracy"))
            numbers = [finite(values.get("mse")), finite(values.get("mae"))]
            numbers += [finite(accuracy.get(measure)) for measure in MEASURES]
            if any(number is not None for number in numbers):
                windows = finite(values.get("windows"))
                shown = "" if windows is None else f"{windows:,.0f}"
                rows.append((f"{name}, {words}", shown, *map(number_in_cell, numbers)))
    return table(("part", "windows", "mse", "mae (scaled)", *MEASURES.values()), rows)


def _covered(evaluation: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            f"{level:g} %",
            name,
            "" if coverage is None else f"{coverage:.1%}",
            number_in_cell(finite(values.get("width"))),
            number_in_cell(finite(values.get("wql"))),
        )
        for name, level, coverage, values in coverages(evaluation)
    ]
    header = ("interval", "part", "covered", "mean width, data units", "weighted quantile loss")
    return table(header, rows, texts=2)


def coverages(evaluation: Mapping[str, Any]) -> list[tuple[str, float, float | None, Mapping[str, Any]]]:
    """Return what is known of the intervals: the part, the level in percent, the share covered, and
    the rest as it was read."""
    intervals, found = as_mapping(evaluation.get("intervals")), []
    for part, name in {**PARTS, "recent": "most recent rows"}.items():
        for spelled, values in as_mapping(intervals.get(part)).items():
            level = _level(spelled)
            if level is not None and isinstance(values, Mapping):
                coverage = finite(values.get("coverage"))
                known = coverage is not None and 0 <= coverage <= 1
                found.append((name, level, coverage if known else None, values))
    return found


def _level(spelled: object) -> float | None:
    try:
        level = float(str(spelled)[:10])
    except ValueError:
        return None
    return level if 0 < level < 100 else None


def number_in_cell(value: float | None) -> str:
    """Return a number with four significant digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"
