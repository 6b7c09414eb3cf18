"""The leaderboard: every run and every baseline in one list, best validation score first.

Pure functions of the search's state and of task_facts.json; no run folder is opened here. Test
scores are shown for people, under a header that says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_agent_graph.show.contenders import Contender, axis_of, contenders_of
from nas_agent_graph.show.data_source import data_lines
from nas_agent_graph.show.remarks import conclusion_lines, remarks
from nas_agent_graph.show.rows import (
    Row,
    failures_of,
    format_score,
    group_size,
    pruned_of,
    rows_of,
    shown_rows,
)
from nas_agent_graph.show.seeds import format_in_progress, spread_of
from nas_agent_graph.text.intervals import BARS, BRACKETS, Scale, draw_interval
from nas_agent_graph.text.terminal import COLUMN_GAP, Column, Line, printable, table, wrapped
from nas_system.nas_agent.agent_state import AgentState, RunInfo, get_best_run, mean_score
from nas_system.nas_agent.recommended import Recommended
from nas_system.processes.run_files import next_run_id
from nas_system.space import metric_name_of
from nas_system.space.data_card import series_lines, warnings_of
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

LIMIT = 15
"""Rows of runs that are shown; baselines and the best run come on top."""
_ROOM_FOR_CHANGES = 24
"""Columns that have to be left over for the changes to be shown at all."""
_FEWEST_FAILURES = 3
_MOST_NAMED = 3
"""Runs in progress whose steps are told one by one."""
_MOST_RANGES = 6
_INTERVAL_WIDTHS = (31, 19)
"""Columns of a drawn interval, where there is plenty of room and where there is not."""
TEST_HEADER = "test (not used by the search)"

Changes = Callable[[str], str]
"""run id -> its changes relative to its parent, in short; called only for the rows that are shown."""


def leaderboard_lines(
    state: AgentState,
    info: TaskInfo | None,
    *,
    width: int = 80,
    limit: int = LIMIT,
    changes: Changes = lambda run_id: "",
    conclusion: Conclusion | None = None,
    recommended: Recommended | None = None,
    say_conclusion: bool = True,
) -> list[Line]:
    """Return the whole page with its styles, no line wider than `width`.

    `conclusion` is what the search said at its end, `recommended` what it hands over; their sentences are
    left out where they were just printed.
    """
    rows, failures = rows_of(state, info, conclusion, recommended), failures_of(state)
    lines = [*headline(state, width), *card_lines(info, width), Line("")]
    if not state.runs:
        lines.append(Line("No run has finished yet."))
    if rows:
        lines += _scores(state, rows, width, limit, changes, conclusion)
    if pruned := pruned_of(state):
        lines += [Line(""), *_pruned(pruned, width, limit)]
    if failures:
        lines += [Line(""), *_failed(failures, width, limit)]
    said = conclusion_lines(conclusion, state, width, recommended) if say_conclusion else []
    return [*lines, *said, Line(""), *remarks(state, info, rows, width, conclusion)]


def leaderboard(
    state: AgentState,
    info: TaskInfo | None,
    *,
    width: int = 80,
    limit: int = LIMIT,
    changes: Changes = lambda run_id: "",
    conclusion: Conclusion | None = None,
) -> str:
    """Return the whole page as plain text."""
    lines = leaderboard_lines(state, info, width=width, limit=limit, changes=changes, conclusion=conclusion)
    return "\n".join(line.text for line in lines)


def headline(state: AgentState, width: int) -> list[Line]:
    """State how far the search is, its task, and its data."""
    progress = f"{len(state.runs)} of {state.max_runs} runs finished"
    if state.repeats:
        progress += f" and {len(state.repeats)} repeat" + "s" * (len(state.repeats) != 1)
    progress += _in_progress(state)
    lines = wrapped(progress, width, style="bold", indent=2)
    if state.task is not None:
        text = f"Task: {printable(state.labels.goal, 200)}; {state.task.winning} wins"
        lines += wrapped(text, width, indent=2)
    return lines + data_lines(state.data, width)


def _in_progress(state: AgentState) -> str:
    """Name what has begun and not ended: few with the step each is at, many without."""
    if len(state.in_progress) <= _MOST_NAMED:
        return "".join(
            f", {printable(format_in_progress(run), 100)} begun (at {printable(run.step, 40)})"
            for run in state.in_progress
        )
    runs = [run.run_id for run in state.runs_in_progress]
    repeats = [format_in_progress(run) for run in state.in_progress if run.is_repeat]
    text = f", {len(runs)} runs in progress: {format_run_ids(runs)}" if runs else ""
    if repeats:
        more = len(repeats) - _MOST_NAMED
        named = ", ".join(printable(name, 100) for name in repeats[:_MOST_NAMED])
        text += f", {len(repeats)} repeats in progress: {named}" + (f" and {more} more" if more > 0 else "")
    return text


def format_run_ids(run_ids: Sequence[str]) -> str:
    """Name runs by ascending number, neighbours as one: `run_0003 to run_0006, run_0009`."""
    ranges: list[list[str]] = []
    for run_id in sorted(run_ids, key=lambda name: (len(name), name)):
        if ranges and next_run_id(ranges[-1][-1:]) == run_id:
            ranges[-1].append(run_id)
        else:
            ranges.append([run_id])
    names = [printable(ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}", 140) for ids in ranges]
    hidden = sum(map(len, ranges[_MOST_RANGES:]))
    return ", ".join(names[:_MOST_RANGES]) + (f" and {hidden} more" if hidden else "")


def card_lines(info: TaskInfo | None, width: int) -> list[Line]:
    """Describe the series and warn of what makes its scores hard to read; nothing for other kinds of data."""
    if info is None:
        return []
    lines = []
    for text in series_lines(info):
        lines += wrapped(printable(text, 400), width, indent=2)
    for warning in warnings_of(info):
        lines += wrapped(f"Warning: {printable(warning, 600)}", width, style="yellow", indent=2)
    return lines


@dataclass(frozen=True)
class _Standings:
    """The recommended run's and its contenders' intervals, by name and whether of a baseline."""

    contenders: Mapping[tuple[str, bool], Contender]
    recommended: Contender

    @classmethod
    def of(cls, conclusion: Conclusion, state: AgentState) -> _Standings:
        found = contenders_of(conclusion, state)
        # A baseline is shown under a printable name.
        named = {(printable(one.name, 40), one.is_baseline): one for one in found}
        return cls(named, found[0])

    def of_row(self, row: Row) -> Contender | None:
        return None if row.members else self.contenders.get((row.name, row.run is None))


def _scores(
    state: AgentState,
    rows: Sequence[Row],
    width: int,
    limit: int,
    changes: Changes,
    conclusion: Conclusion | None,
) -> list[Line]:
    """Return the table; rows that are left out are counted where they would be."""
    best_run = get_best_run(state)
    shown = shown_rows(state, rows, limit)
    standings = None if conclusion is None else _Standings.of(conclusion, state)
    header, *lines = table(_columns(state, shown, changes, width, standings), _styles(shown, best_run), width)
    result = [*_test_header(header.text, state.metric), header]
    previous, group = 0, group_size(rows)
    for row, line in zip(shown, lines, strict=True):
        result += _gap(row.rank - previous - 1)
        if conclusion is not None and previous <= group < row.rank and group:
            result += wrapped(_under_ties(conclusion, rows, group), width, style="dim", indent=4)
        result.append(line)
        previous = row.rank
    hidden = len(rows) - previous
    result += _gap(hidden, f", the worst {format_score(rows[-1].val_score)}" if hidden > 0 else "")
    if len(shown) < len(rows):
        runs = sum(row.run is not None for row in rows)
        result.append(Line(f"    --limit {runs} shows all", "dim"))
    legend = _legend(state, rows, standings, header.text)
    return result + wrapped(legend, width, style="dim", indent=4)


_INTERVAL_HEADER = "90 % interval"


def _under_ties(conclusion: Conclusion, rows: Sequence[Row], group: int) -> str:
    """Close the group of rows that tie; of many runs some may tie further down, without a mark."""
    marked = sum(row.tie and row.run is not None for row in rows)
    more = len(conclusion.ties) + conclusion.ties_left_out - marked
    others = f", nor from {more} of the runs below" if more > 0 else ""
    others_above = group - 1 - any(row.members for row in rows)
    above = "the other one above" if others_above == 1 else f"the other {others_above} above"
    return f"    {'-' * 8} {conclusion.recommended} cannot be told apart from {above}{others}"


def _legend(state: AgentState, rows: Sequence[Row], standings: _Standings | None, header: str) -> str:
    accepted = "+ accepted when it was evaluated"
    if state.leads_by == "margin":
        legend = f"* best run   {accepted}   delta: {state.metric} minus the best run's"
        return legend + ("   noise: delta / noise" if state.noise else "")
    parts = ["* best run", accepted]
    if any(row.tie for row in rows):
        parts.append("= cannot be told apart from the best run")
    parts.append(f"{state.metric}: mean over n seeds, sd their standard deviation")
    if standings is not None and _INTERVAL_HEADER in header:
        name = printable(standings.recommended.name, 64)
        parts.append(f"o score and |--| margin of its distance to {name} (:) from seeds and validation rows")
        if any(one.over_seeds and not one.over_both for one in standings.contenders.values()):
            parts.append("(..) from seeds alone, where the rows cannot tell")
    elif " delta " in header:
        parts.append(f"delta: {state.metric} minus the best run's")
    return "   ".join(parts)


def _test_header(header: str, metric: str) -> list[Line]:
    """Return the second header, which ends above the test scores; none where their column is left out."""
    column = re.search(rf" {re.escape(metric_name_of(metric))}(?= |$)", header)
    return [Line(TEST_HEADER.rjust(column.end()), "dim")] if column else []


def _gap(count: int, more: str = "") -> list[Line]:
    return [Line(f"    … {count} more{more}", "dim")] if count > 0 else []


def _styles(rows: Sequence[Row], best_run: RunInfo | None) -> list[str]:
    return [
        "cyan"
        if row.is_baseline
        else "bold green"
        if row.members or (best_run and row.name == best_run.run_id)
        else ""
        for row in rows
    ]


def _columns(
    state: AgentState, rows: Sequence[Row], changes: Changes, width: int, standings: _Standings | None
) -> list[Column]:
    best_run = get_best_run(state)
    runs = [row.run for row in rows]
    rank_width = len(str(max(row.rank for row in rows)))
    families = [_family(row) for row in rows]
    ties = any(row.tie for row in rows)
    names = [
        f"{row.rank:>{rank_width}} {('=' if row.tie else ' ') * ties}{_mark(row.run, best_run)} {row.name}"
        for row in rows
    ]
    columns = [
        Column(f"{'#':>{rank_width}}   {' ' * ties}run", names, least=rank_width + ties + 11),
        Column("family", families, least=8, drop=1),
        Column(state.metric, [format_score(row.val_score) for row in rows], "right"),
    ]
    if any(len(row.scores) > 1 for row in rows):
        columns.append(Column("sd (n)", [_spread(row) for row in rows], "right", drop=2))
    columns += _distances(state, rows, best_run, drop=7 if standings else 3)
    tests = [format_score(row.test_score) for row in rows]
    columns += [
        Column(metric_name_of(state.metric), tests, "right", drop=5),
        Column("by", [printable(run.proposer or "?", 20) if run else "" for run in runs], least=6, drop=9),
        Column("sec", [_seconds(run.seconds) if run else "" for run in runs], "right", drop=8),
    ]
    taken = sum(column.natural + COLUMN_GAP for column in columns)
    cells = [changes(run.run_id) if run else "" for run in runs]
    least = _INTERVAL_WIDTHS[-1] + COLUMN_GAP if standings else 0
    with_changes = any(cells) and width - taken >= _ROOM_FOR_CHANGES + least
    if standings is not None:
        left = width - taken - COLUMN_GAP - (_ROOM_FOR_CHANGES if with_changes else 0)
        room = next((size for size in _INTERVAL_WIDTHS if size <= left), _INTERVAL_WIDTHS[-1])
        columns.append(Column(_INTERVAL_HEADER, _intervals(state, rows, standings, room), drop=4))
    if with_changes:
        columns.append(Column("changes to its parent", cells, least=_ROOM_FOR_CHANGES - COLUMN_GAP))
    return columns


def _distances(state: AgentState, rows: Sequence[Row], best_run: RunInfo | None, drop: int) -> list[Column]:
    """Return the column of differences to the best run; in a search that leads by a margin also in units of
    the noise of the base config."""
    best = None if best_run is None else mean_score(state, best_run)
    if best is None:
        return []
    # A plain difference in either direction: `gain_of` is for sentences.
    deltas = [None if row.run and row.run is best_run else row.val_score - best for row in rows]
    columns = [Column("delta", [format_score(delta, "+") for delta in deltas], "right", drop=drop)]
    if state.leads_by == "margin" and (noise := state.noise):
        cells = ["" if delta is None else _in_noise(delta / noise) for delta in deltas]
        columns.append(Column("noise", cells, "right", drop=drop + 1))
    return columns


def _family(row: Row) -> str:
    if row.members:
        return f"mean of {row.members}"
    return "baseline" if row.run is None else printable(row.run.family or "?", 40)


def _spread(row: Row) -> str:
    """Return the standard deviation over seeds and their number: `0.00042 (4)`."""
    if row.run is None:
        return ""
    spread = spread_of(row.scores)
    return f"({len(row.scores)})" if spread is None else f"{format_score(spread)} ({len(row.scores)})"


def _intervals(state: AgentState, rows: Sequence[Row], standings: _Standings, width: int) -> list[str]:
    """Draw each row's score and interval on the scale that all share."""
    found = [standings.of_row(row) for row in rows]
    scores = [row.val_score if one is None else one.score for row, one in zip(rows, found, strict=True)]
    axis = axis_of(scores, [one.bounds for one in found if one and one.bounds], state.direction)
    scale = Scale(axis.low, axis.high, width)
    drawn = []
    for score, one in zip(scores, found, strict=True):
        bounds = one.bounds if one else None
        drawn.append(
            draw_interval(
                scale,
                score,
                bounds.low if bounds else None,
                bounds.high if bounds else None,
                reference=standings.recommended.score,
                glyphs=BRACKETS if one and one.comparison and not one.over_both else BARS,
            )
        )
    return drawn


def _mark(run: RunInfo | None, best_run: RunInfo | None) -> str:
    if run is None:
        return " "
    # A run may come to lead later, by the mean over its seeds.
    return "*" if run is best_run else "+" if run.accepted else " "


def _pruned(pruned: Sequence[RunInfo], width: int, limit: int) -> list[Line]:
    """Count the runs that were stopped early, and list the latest of them."""
    latest = _latest(pruned, limit)
    head = f"{len(pruned)} stopped early"
    lines = wrapped(head + (", the latest:" if len(latest) < len(pruned) else ":"), width, indent=4)
    whys = [printable(run.cause or "stopped early").removeprefix("stopped early at ") for run in latest]
    columns = [
        Column("  run", [f"  {run.run_id}" for run in latest]),
        Column("family", [printable(run.family or "?", 40) for run in latest], least=8, drop=1),
        Column("at", whys, least=12),
    ]
    return lines + table(columns, [""] * len(latest), width)


def _latest(runs: Sequence[RunInfo], limit: int) -> Sequence[RunInfo]:
    return runs[-max(_FEWEST_FAILURES, limit // 3) :]


def _failed(failures: Sequence[RunInfo], width: int, limit: int) -> list[Line]:
    """Count the failures by status, and list the latest of them."""
    latest = _latest(failures, limit)
    counts = ", ".join(f"{printable(name, 20)} {count}" for name, count in _statuses(failures))
    head = f"{len(failures)} without a score: {counts}"
    lines = wrapped(head + ("; the latest:" if len(latest) < len(failures) else ""), width, indent=4)
    rows = table(
        [
            Column("  run", [f"  {run.run_id}" for run in latest]),
            Column("end", [printable(run.status, 20) for run in latest]),
            Column("family", [printable(run.family or "?", 40) for run in latest], least=8, drop=1),
            Column("cause", [printable(run.cause or "no finite score") for run in latest], least=12),
        ],
        ["red"] * len(latest),
        width,
    )
    return lines + rows


def _statuses(failures: Sequence[RunInfo]) -> list[tuple[str, int]]:
    counts = Counter(run.status if run.status != "OK" else "no score" for run in failures)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _in_noise(ratio: float) -> str:
    return f"{ratio:+.1f}" if abs(ratio) < 10_000 else f"{ratio:+.0e}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
