"""The leaderboard: every run and every baseline in one list, best validation score first.

Pure functions of the search's state and of task_facts.json; no run folder is opened here. Test
scores are shown for people, under a header that says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas_agent_graph.budget import Spent
from nas_agent_graph.text.terminal import COLUMN_GAP, Column, Line, dollars, printable, table, wrapped
from nas_system.nas_agent.agent_state import AgentState, RunInfo, get_best_run
from nas_system.nas_agent.outcome import Status
from nas_system.nas_agent.pruned import epochs_saved
from nas_system.space import metric_name_of
from nas_system.space.data_card import series_lines, warnings_of
from nas_system.space.score import gain_of, is_better, loss_of
from nas_system.space.task_info import HOLD_OUT, TaskInfo

LIMIT = 15
"""Rows of runs that are shown; baselines and the best run come on top."""
_ROOM_FOR_CHANGES = 24
"""Columns that have to be left over for the changes to be shown at all."""
_FEWEST_FAILURES = 3
TEST_HEADER = "test (not used by the search)"

Changes = Callable[[str], str]
"""run id -> its changes relative to its parent, in short; called only for the rows that are shown."""


@dataclass(frozen=True)
class Row:
    """A run with a score, or a baseline (then `run` is None)."""

    rank: int
    name: str
    val_score: float
    test_score: float | None
    run: RunInfo | None = None


def rows_of(state: AgentState, info: TaskInfo | None) -> list[Row]:
    """Return runs and baselines together, best first; of equals the baseline comes first."""
    unranked = [
        Row(0, printable(baseline.name, 40), score, baseline.on("test", state.metric))
        for baseline in (info.baselines if info else ())
        if (score := baseline.on("val", state.metric)) is not None
    ]
    unranked += [
        Row(0, run.run_id, run.val_score, run.test_score, run)
        for run in state.runs
        if run.status == "OK" and run.val_score is not None
    ]
    unranked.sort(key=lambda row: (loss_of(row.val_score, state.direction), row.run is not None, row.name))
    return [replace(row, rank=rank) for rank, row in enumerate(unranked, start=1)]


def failures_of(state: AgentState) -> list[RunInfo]:
    """Return the runs that ended without a score, in the order they were tried; not those stopped early."""
    return [run for run in state.runs if not is_pruned(run) and (run.status != "OK" or run.val_score is None)]


def pruned_of(state: AgentState) -> list[RunInfo]:
    """Return the runs that the search stopped early, in the order they were tried."""
    return [run for run in state.runs if is_pruned(run)]


def is_pruned(run: RunInfo) -> bool:
    """Return whether the search stopped the run early, which is no failure."""
    return run.status == Status.PRUNED


def leaderboard_lines(
    state: AgentState,
    info: TaskInfo | None,
    *,
    width: int = 80,
    limit: int = LIMIT,
    changes: Changes = lambda run_id: "",
) -> list[Line]:
    """Return the whole page with its styles, no line wider than `width`."""
    rows, failures = rows_of(state, info), failures_of(state)
    lines = [*headline(state, width), *card_lines(info, width), Line("")]
    if not state.runs:
        lines.append(Line("No run has finished yet."))
    if rows:
        lines += _scores(state, rows, width, limit, changes)
    if pruned := pruned_of(state):
        lines += [Line(""), *_pruned(pruned, width, limit)]
    if failures:
        lines += [Line(""), *_failed(failures, width, limit)]
    return [*lines, Line(""), *remarks(state, info, rows, width)]


def leaderboard(
    state: AgentState,
    info: TaskInfo | None,
    *,
    width: int = 80,
    limit: int = LIMIT,
    changes: Changes = lambda run_id: "",
) -> str:
    """Return the whole page as plain text."""
    lines = leaderboard_lines(state, info, width=width, limit=limit, changes=changes)
    return "\n".join(line.text for line in lines)


def headline(state: AgentState, width: int) -> list[Line]:
    """State how far the search is, its task, and its data."""
    progress = f"{len(state.runs)} of {state.max_runs} runs finished"
    for run in state.in_progress:
        progress += f", {run.run_id} begun (at {printable(run.step, 40)})"
    lines = wrapped(progress, width, style="bold", indent=2)
    if state.task is not None:
        text = f"Task: {printable(state.labels.goal, 200)}; {state.task.winning} wins"
        lines += wrapped(text, width, indent=2)
    return lines + data_lines(state.data, width)


def data_lines(source: Any, width: int) -> list[Line]:
    """Name the data; a generated series in place of a real one is shouted."""
    if not isinstance(source, dict):
        return [Line("Data: unknown", "bold red")]
    name, kind = printable(source.get("name"), 60), printable(source.get("kind"), 20)
    checksum = printable(source.get("sha256", "?"), 64)[:12]
    lines = wrapped(f"Data: {name} ({kind}, sha256 {checksum}...)", width, indent=2)
    if source.get("notice"):
        shouted = f"!!! SYNTHETIC STAND-IN, NOT THE REAL DATA !!! {printable(source['notice'], 600)}"
        if kind != "synthetic":
            shouted = f"!!! {printable(source['notice'], 600)}"
        lines += wrapped(shouted, width, style="bold red", indent=4)
    return lines


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


def _scores(state: AgentState, rows: Sequence[Row], width: int, limit: int, changes: Changes) -> list[Line]:
    """Return the table; rows that are left out are counted where they would be."""
    best_run = get_best_run(state)
    shown = shown_rows(state, rows, limit)
    header, *lines = table(_columns(state, shown, changes, width), _styles(shown, best_run), width)
    result = [*_test_header(header.text, state.metric), header]
    previous = 0
    for row, line in zip(shown, lines, strict=True):
        result += _gap(row.rank - previous - 1)
        result.append(line)
        previous = row.rank
    hidden = len(rows) - previous
    result += _gap(hidden, f", the worst {_score(rows[-1].val_score)}" if hidden > 0 else "")
    if len(shown) < len(rows):
        runs = sum(row.run is not None for row in rows)
        result.append(Line(f"    --limit {runs} shows all", "dim"))
    legend = f"* best run   + accepted when it was evaluated   delta: {state.metric} minus the best run's"
    if state.noise:
        legend += "   noise: delta / noise"
    return result + wrapped(legend, width, style="dim", indent=4)


def _test_header(header: str, metric: str) -> list[Line]:
    """Return the second header, which ends above the test scores; none where their column is left out."""
    column = re.search(rf" {re.escape(metric_name_of(metric))}(?= |$)", header)
    return [Line(TEST_HEADER.rjust(column.end()), "dim")] if column else []


def shown_rows(state: AgentState, rows: Sequence[Row], limit: int) -> list[Row]:
    """Return the best `limit` runs, the best run and all baselines, in order."""
    shown, runs = [], 0
    for row in rows:
        runs += row.run is not None
        if row.run is None or runs <= limit or row.name == state.best_run_id:
            shown.append(row)
    return shown


def _gap(count: int, more: str = "") -> list[Line]:
    return [Line(f"    … {count} more{more}", "dim")] if count > 0 else []


def _styles(rows: Sequence[Row], best_run: RunInfo | None) -> list[str]:
    return [
        "cyan" if row.run is None else "bold green" if best_run and row.name == best_run.run_id else ""
        for row in rows
    ]


def _columns(state: AgentState, rows: Sequence[Row], changes: Changes, width: int) -> list[Column]:
    best_run, noise = get_best_run(state), state.noise
    best = best_run.val_score if best_run else None
    runs = [row.run for row in rows]
    rank_width = len(str(rows[-1].rank))
    families = [printable(run.family or "?", 40) if run else "baseline" for run in runs]
    names = [f"{row.rank:>{rank_width}} {_mark(row.run, best_run)} {row.name}" for row in rows]
    columns = [
        Column(f"{'#':>{rank_width}}   run", names, least=rank_width + 11),
        Column("family", families, least=8, drop=1),
        Column(state.metric, [_score(row.val_score) for row in rows], "right"),
    ]
    if best is not None:
        # A plain difference in either direction: `gain_of` is for sentences.
        deltas = [None if row.run and row.run is best_run else row.val_score - best for row in rows]
        columns.append(Column("delta", [_score(delta, "+") for delta in deltas], "right", drop=2))
        if noise:
            cells = ["" if delta is None else _in_noise(delta / noise) for delta in deltas]
            columns.append(Column("noise", cells, "right", drop=3))
    scores = [_score(row.test_score) for row in rows]
    columns += [
        Column(metric_name_of(state.metric), scores, "right", drop=4),
        Column("by", [printable(run.proposer or "?", 20) if run else "" for run in runs], least=6, drop=6),
        Column("sec", [_seconds(run.seconds) if run else "" for run in runs], "right", drop=5),
    ]
    taken = sum(column.natural + COLUMN_GAP for column in columns)
    if width - taken >= _ROOM_FOR_CHANGES:
        cells = [changes(run.run_id) if run else "" for run in runs]
        if any(cells):
            columns.append(Column("changes to its parent", cells, least=_ROOM_FOR_CHANGES - COLUMN_GAP))
    return columns


def _mark(run: RunInfo | None, best_run: RunInfo | None) -> str:
    if run is None or not run.accepted:
        return " "
    return "*" if run is best_run else "+"


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


def early_stopping_remark(state: AgentState) -> str:
    """State how many runs were stopped early and what that saved at most; empty if none was."""
    pruned = pruned_of(state)
    if not pruned:
        return ""
    saved = sum(epochs_saved(run.cause) for run in pruned)
    runs = "1 run" if len(pruned) == 1 else f"{len(pruned)} runs"
    return f"{runs} stopped early, up to {saved:,} epochs saved"


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


def remarks(state: AgentState, info: TaskInfo | None, rows: Sequence[Row], width: int) -> list[Line]:
    """State what a person has to know to read the table honestly."""
    lines = wrapped(noise_remark(state), width, indent=2)
    best_run = get_best_run(state)
    if best_run is not None and best_run.val_score is not None:
        best = best_run.val_score
        better = [
            (row.name, gain_of(row.val_score, best, state.direction))
            for row in rows
            if row.run is None and is_better(row.val_score, best, state.direction)
        ]
        if better:
            names = ", ".join(f"{name} by {_score(gain)}" for name, gain in better)
            verb = "is WORSE than"
            if state.noise is not None and all(gain < state.noise for _, gain in better):
                verb = "does not beat"
                names += " (less than the noise)"
            text = f"The best run {best_run.run_id} ({best:.5f}) {verb} {state.labels.baselines}: {names}"
            lines += wrapped(text, width, style="bold yellow", indent=2)
    if info is None or not info.baselines:
        text = "No baselines (runs/task_facts.json is missing or unreadable): a score alone says little"
        lines += wrapped(text, width, style="yellow", indent=2)
    lines += wrapped(early_stopping_remark(state), width, indent=2)
    lines += wrapped(_windows_remark(info), width, indent=2)
    lines += wrapped(hold_out_remark(state, info), width, indent=2)
    return lines + wrapped(spent_remark(state), width, indent=2)


def _windows_remark(info: TaskInfo | None) -> str:
    """Name the baselines whose scores are of a part of the windows; empty if there are none."""
    rows = [row for row in (info.baselines if info else ()) if row.windows]
    names = ", ".join(f"{printable(row.name, 40)} ({printable(row.windows, 40)})" for row in rows)
    return f"Scored on some of the windows only: {names}" if rows else ""


def noise_remark(state: AgentState) -> str:
    """State how far two scores have to differ to mean something."""
    if state.noise is None:
        return "Noise unknown, counted as 0: a small gain may be luck; run with --repeat-base 2"
    seeds = f"{state.noise_runs} seeds"
    return f"Noise {state.noise:.5f} over {seeds} (standard deviation of the base config's {state.metric})"


def hold_out_remark(state: AgentState, info: TaskInfo | None) -> str:
    """State the best run's score on the hold-out set, which the search never reads."""
    if info is not None and not info.has_hold_out:
        return f"This split has no hold-out {state.labels.samples}: nothing here was kept from the search"
    if not state.hold_out:
        return "Best run on the hold-out set: not scored yet (once, when the search ends)"
    current = state.best_run_id in state.hold_out
    run_id = state.best_run_id if state.best_run_id and current else list(state.hold_out)[-1]
    score = f"{metric_name_of(state.metric)} {_score(state.hold_out[run_id]) or 'none'}"
    text = f"Best run on the hold-out set: {run_id} {score}"
    if not current:
        text += " (the best run then; the best run now is not scored yet)"
    baselines = info.baselines if info else ()
    rows = [(baseline.name, baseline.on(HOLD_OUT, state.metric)) for baseline in baselines]
    others = ", ".join(f"{printable(name, 40)} {value:.5f}" for name, value in rows if value is not None)
    return text + (f" (there: {others})" if others else "")


def spent_remark(state: AgentState) -> str:
    """State what the language model's answers cost; empty if there were none."""
    spent, asked = Spent.by(state.runs), [run for run in state.runs if run.tokens]
    if not asked:
        return ""
    priced = [run for run in asked if run.cost_usd is not None]
    money = f", {dollars(spent.cost_usd)}" if priced else ", price not known"
    if priced and len(priced) < len(asked):
        money += f" for {len(priced)} of them"
    runs = f"{len(asked)} run" + "s" * (len(asked) != 1)
    return f"Language model: {spent.tokens:,} tokens for {runs}{money}"


def _score(value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{value:{sign}.5f}" if abs(value) < 1000 else f"{value:{sign}.2e}"


def _in_noise(ratio: float) -> str:
    return f"{ratio:+.1f}" if abs(ratio) < 10_000 else f"{ratio:+.0e}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
