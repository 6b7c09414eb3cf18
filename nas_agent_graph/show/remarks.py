"""What a person has to know to read a leaderboard honestly, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas_agent_graph.budget import Spent
from nas_agent_graph.show.rows import Row, format_score, pruned_of
from nas_agent_graph.show.seeds import lucky_leads, margin_of_seeds, noise_of_seeds
from nas_agent_graph.text.recommended import recommendation_lines
from nas_agent_graph.text.terminal import Line, dollars, printable, wrapped
from nas_system.nas_agent.agent_state import AgentState, RunInfo, get_best_run, mean_score
from nas_system.nas_agent.pruned import epochs_saved
from nas_system.nas_agent.recommended import Recommended
from nas_system.space import metric_name_of
from nas_system.space.score import gain_of, is_better
from nas_system.space.task_info import HOLD_OUT, TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

_MOST_LEADS = 3


def remarks(
    state: AgentState,
    info: TaskInfo | None,
    rows: Sequence[Row],
    width: int,
    conclusion: Conclusion | None = None,
) -> list[Line]:
    """State what a person has to know to read the table honestly."""
    lines = wrapped(noise_remark(state), width, indent=2)
    if conclusion is None:
        for text in luck_remarks(state):
            lines += wrapped(text, width, indent=2)
    lines += wrapped(_baselines_remark(state, rows, conclusion), width, style="bold yellow", indent=2)
    if info is None or not info.baselines:
        text = "No baselines (runs/task_facts.json is missing or unreadable): a score alone says little"
        lines += wrapped(text, width, style="yellow", indent=2)
    lines += wrapped(early_stopping_remark(state), width, indent=2)
    lines += wrapped(_windows_remark(info), width, indent=2)
    lines += wrapped(hold_out_remark(state, info), width, indent=2)
    return lines + wrapped(spent_remark(state), width, indent=2)


def conclusion_lines(
    conclusion: Conclusion | None, state: AgentState, width: int, recommended: Recommended | None = None
) -> list[Line]:
    """Return what the search said at its end, for people; nothing before it has ended."""
    if conclusion is None:
        return []
    lines = [Line(""), Line("What this search says:", "bold"), *_sentences(conclusion, state, width)]
    if recommended is not None:
        for text in recommendation_lines(recommended, state.metric):
            lines += wrapped(printable(text, 2000), width, indent=2)
    return lines


def _sentences(conclusion: Conclusion, state: AgentState, width: int) -> list[Line]:
    from nas_agent_graph.selection.sentences import sentences

    said = sentences(conclusion, state.metric, state.direction)
    return [line for text in said for line in wrapped(printable(text, 2000), width, indent=2)]


def _baselines_remark(state: AgentState, rows: Sequence[Row], conclusion: Conclusion | None) -> str:
    """Name the baselines that score better than the best run; empty if there are none."""
    best_run = get_best_run(state)
    best = None if best_run is None else mean_score(state, best_run)
    if best_run is None or best is None:
        return ""
    better = [
        (row.name, gain_of(row.val_score, best, state.direction))
        for row in rows
        if row.is_baseline and is_better(row.val_score, best, state.direction)
    ]
    if not better:
        return ""
    names = ", ".join(f"{name} by {format_score(gain)}" for name, gain in better)
    verb, because = "is WORSE than", ""
    if conclusion is not None:
        if all(name in conclusion.baseline_ties for name, _ in better):
            verb, because = "does not beat", " (not distinguishable)"
    else:
        noise = _margin(state, best_run)
        if noise is not None and all(gain < noise for _, gain in better):
            verb = "does not beat"
            because = " (less than the noise)" if state.leads_by == "margin" else " (seeds explain as much)"
    of = f"{best_run.run_id} ({best:.5f})"
    return f"The best run {of} {verb} {state.labels.baselines}: {names}{because}"


def _margin(state: AgentState, run: RunInfo) -> float | None:
    return state.noise if state.leads_by == "margin" else margin_of_seeds(state, run)


def luck_remarks(state: AgentState) -> list[str]:
    """Say which leads with one seed could be luck, and how probably."""
    leads = lucky_leads(state)
    said = [
        f"{lead.run_id} leads {lead.over} by {lead.gain:.2g} with one seed; by the noise of seeds the "
        f"probability that this is luck is {lead.luck:.0%} or more"
        for lead in leads[:_MOST_LEADS]
    ]
    more = len(leads) - len(said)
    return said + ([f"{more} more runs lead with one seed, perhaps by luck"] if more else [])


def _windows_remark(info: TaskInfo | None) -> str:
    """Name the baselines whose scores are of a part of the windows; empty if there are none."""
    rows = [row for row in (info.baselines if info else ()) if row.windows]
    names = ", ".join(f"{printable(row.name, 40)} ({printable(row.windows, 40)})" for row in rows)
    return f"Scored on some of the windows only: {names}" if rows else ""


def noise_remark(state: AgentState) -> str:
    """State how far two scores have to differ to mean something."""
    if state.leads_by == "mean":
        return noise_of_seeds(state)
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
    score = f"{metric_name_of(state.metric)} {format_score(state.hold_out[run_id]) or 'none'}"
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


def early_stopping_remark(state: AgentState) -> str:
    """State how many runs were stopped early and what that saved at most; empty if none was."""
    pruned = pruned_of(state)
    if not pruned:
        return ""
    saved = sum(epochs_saved(run.cause) for run in pruned)
    runs = "1 run" if len(pruned) == 1 else f"{len(pruned)} runs"
    return f"{runs} stopped early, up to {saved:,} epochs saved"
