"""What decides which run is trained once more: the rule of selection, given what is on disk."""

from __future__ import annotations

from typing import cast

from nas_agent_graph.analysis.standings import KnownCandidates, ended_repeats_of, first_scores_of
from nas_agent_graph.budget import Limits
from nas_agent_graph.selection.candidates import Purpose, Repeat
from nas_agent_graph.selection.circumstances import Circumstances
from nas_agent_graph.selection.rule import Standing, final_size, next_repeat, planned_trainings
from nas_system.nas_agent.agent_state import parts_of_repeat
from nas_system.nas_agent.ledger import Ledger


class SelectionRule:
    """Asks the rule of selection; a search that leads by a margin knows no repeats but the base config's."""

    def __init__(self) -> None:
        self._candidates = KnownCandidates()

    def due(self, ledger: Ledger, told: Circumstances) -> Repeat | None:
        """Return the run that is to be trained once more, and why; None if there is none now."""
        if ledger.state.leads_by == "margin" or told.repeats == 0:
            return None
        return next_repeat(standing_of(ledger, told, self._candidates))


def standing_of(ledger: Ledger, told: Circumstances, made: KnownCandidates | None = None) -> Standing:
    """Return what the rule may know: the runs that can be trained again, and what has been."""
    state = ledger.state
    gone = {run.run_id for run in state.runs if ledger.config(run.run_id) is None}
    known = {run.run_id: run for run in state.in_progress}
    running = [known[name] for name in told.in_progress if name in known]
    return Standing(
        runs=first_scores_of(state, without=gone, made=made),
        configurations=len(state.runs),
        max_configurations=told.max_runs,
        more_to_come=told.more or not all(run.is_repeat for run in running),
        ended=ended_repeats_of(state),
        in_progress=tuple(
            Repeat(parts_of_repeat(run.run_id)[0], cast(Purpose, run.purpose), run.after or 0)
            for run in running
            if run.is_repeat
        ),
        repeats=told.repeats,
    )


def format_plan(limits: Limits) -> str:
    """Say how many trainings a search takes; empty where each run is one."""
    trainings = planned_trainings(limits.max_runs, limits.repeats, limits.repeat_base)
    if trainings <= limits.max_runs:
        return ""
    final = final_size(limits.max_runs, limits.repeats)
    last = f", {final} with fresh seeds at the end" if final else ""
    return (
        f"about {trainings} for {limits.max_runs} runs: {limits.repeat_base} repeats of the base config"
        f"{last}; --repeats 0 leaves repeats out"
    )


def is_unfinished(ledger: Ledger, limits: Limits) -> bool:
    """Return whether something has begun that has not ended: a training, or the final of a search that is at
    its limit."""
    if ledger.state.in_progress:
        return True
    told = Circumstances(limits.max_runs, limits.repeats, more=False, in_progress=())
    return SelectionRule().due(ledger, told) is not None
