"""What is known of runs over their seeds: means, spreads, and which leads could be luck."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from nas_agent_graph.analysis.standings import candidates_of, noise_of
from nas_agent_graph.selection.candidates import Candidate
from nas_system.nas_agent.agent_state import AgentState, RunInfo, parts_of_repeat, scores_of
from nas_system.nas_agent.run_entries import RunInProgress

CRITICAL = 1.64
"""Standard errors on either side of a mean in its 90 % interval."""
_SURELY_NO_LUCK = 0.005
"""A probability of luck that would be printed as 0 %."""


@dataclass(frozen=True)
class Lead:
    """A run that leads with a single seed."""

    run_id: str
    over: str
    gain: float
    luck: float
    """How probable it is, at least, that `run_id` is no better than `over`."""


def scores_by_run(state: AgentState) -> dict[str, tuple[float, ...]]:
    """Return the validation scores of each run that has one: its own first, then those of its repeats.

    In a search that leads by a margin a run's own score is all that counts.
    """
    own = [(run.run_id, run.val_score) for run in state.runs if run.status == "OK"]
    scores: dict[str, tuple[float, ...]] = {run_id: (score,) for run_id, score in own if score is not None}
    for repeat in state.repeats if state.leads_by == "mean" else ():
        if repeat.status == "OK" and repeat.val_score is not None and repeat.run_id in scores:
            scores[repeat.run_id] += (repeat.val_score,)
    return scores


def scores_of_run(state: AgentState, run: RunInfo) -> tuple[float, ...]:
    """Return what `scores_by_run` has for one run; nothing for one without a score."""
    if run.status != "OK" or run.val_score is None:
        return ()
    return (run.val_score,) if state.leads_by == "margin" else tuple(scores_of(state, run))


def spread_of(scores: tuple[float, ...]) -> float | None:
    """Return the standard deviation of the scores; None for fewer than two."""
    return statistics.stdev(scores) if len(scores) > 1 else None


def margin_of_seeds(state: AgentState, run: RunInfo) -> float | None:
    """Return half of the 90 % interval of the run's mean over seeds, by the noise pooled over all that was
    repeated; None while nothing was."""
    noise = noise_of(state).of_family(run.family)
    seeds = len(scores_of_run(state, run))
    return None if noise is None or not seeds else CRITICAL * noise / seeds**0.5


def lucky_leads(state: AgentState) -> list[Lead]:
    """Return the leads with one seed that could be luck: the best run's over the next, and those of runs that
    have a lower mean than it. None while no noise is known, or in a search that leads by a margin."""
    candidates, noise = sorted(candidates_of(state), key=lambda one: one.mean), noise_of(state)
    best = next((one for one in candidates if one.run_id == state.best_run_id), None)
    if state.leads_by == "margin" or best is None or noise.pooled is None:
        return []
    # Brings numpy, which this page does without until a run was repeated.
    from nas_agent_graph.selection.noise import probability_of_luck

    pairs = [(other, best) for other in candidates if other.n == 1 and other.mean < best.mean]
    behind = [other for other in candidates if other is not best]
    if best.n == 1 and behind:
        pairs.insert(0, (best, behind[0]))
    leads = [
        Lead(one.run_id, other.run_id, other.mean - one.mean, luck)
        for one, other in pairs
        if (luck := probability_of_luck(one, other, noise)) is not None and luck >= _SURELY_NO_LUCK
    ]
    return [lead for lead in leads if lead.gain > 0]


def luck_record(state: AgentState) -> list[dict[str, object]]:
    """Return the leads with one seed that could be luck for programs."""
    return [asdict(lead) for lead in lucky_leads(state)]


def noise_record(state: AgentState) -> Mapping[str, object]:
    """Return the noise of seeds for programs: pooled, and of how many runs with two scores or more."""
    repeated = _repeated(state)
    return {"sd": noise_of(state).pooled, "runs": len(repeated), "scores": sum(one.n for one in repeated)}


def noise_of_seeds(state: AgentState) -> str:
    """State how much scores differ between seeds."""
    noise, repeated = noise_of(state).pooled, _repeated(state)
    if noise is None:
        return "Noise of seeds unknown, no run has two scores: a small lead may be luck"
    runs = "1 run" if len(repeated) == 1 else f"{len(repeated)} runs"
    scores = sum(one.n for one in repeated)
    return (
        f"Noise of seeds {noise:.2g} (standard deviation of {state.metric}, pooled over {scores} trainings "
        f"of {runs})"
    )


def _repeated(state: AgentState) -> list[Candidate]:
    return [one for one in candidates_of(state) if one.n > 1]


def format_in_progress(run: RunInProgress) -> str:
    """Name what is in progress: `run_0009`, or `run_0007 with seed 43 (final)`."""
    if not run.is_repeat:
        return run.run_id
    try:
        run_id, seed = parts_of_repeat(run.run_id)
    except ValueError:  # a file that anybody may have edited
        return run.run_id
    return f"{run_id} with seed {seed}" + (f" ({run.purpose})" if run.purpose else "")
