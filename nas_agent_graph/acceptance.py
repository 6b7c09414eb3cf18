"""When does a run lead: with a better score than the leader's mean.

Which leads says nothing about luck. That is said at the end, from fresh seeds (`selection.conclusion`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NotRequired

# pydantic, which draws the form in LangGraph Studio, takes only this one before Python 3.12.
from typing_extensions import TypedDict

from nas_system.nas_agent.agent_state import AgentState, get_best_run, mean_score, scores_of
from nas_system.space.score import gain_of


@dataclass(frozen=True)
class Verdict:
    """Accepted or not, and why, in one sentence for people and proposers."""

    accepted: bool
    reason: str


class VerifiedRecord(TypedDict):
    """A training's own score next to the one that its weights give."""

    run: str
    """Its folder within that of all runs: `run_0000`, `run_0000/repeats/seed_43`."""
    reported: float
    """The validation score in metrics.json."""
    val_score: float | None
    """The same, computed again from best_model.pth; None where that is impossible."""
    problem: str | None
    """Why the score is refused; None if it is that of the weights."""


class VerdictRecord(TypedDict):
    """verdict.json."""

    number: int
    """The run's place among those that have ended, from 0 on."""
    accepted: bool
    against: str | None
    """The best run so far, None before there was one."""
    reason: str
    noise: float | None
    noise_runs: int
    leads_by: str
    """By which rule, see `AgentState.leads_by`."""
    repeats: NotRequired[list[dict[str, Any]]]
    """The base config's repeats, which ended with the first run, as `RepeatInfo`."""
    verified: NotRequired[list[VerifiedRecord]]
    """What was computed again before the run could lead: its score, and those that the noise is made of."""
    run: dict[str, Any]
    """The run's entry in agent_state.json, which can be rebuilt from it."""


class RepeatVerdictRecord(TypedDict):
    """verdict.json in the folder of a repeat."""

    number: int
    """Its place among the repeats that have ended, from 0 on."""
    repeat: dict[str, Any]
    """The repeat's entry in agent_state.json, which can be rebuilt from it."""
    verified: NotRequired[list[VerifiedRecord]]
    """What was computed again: its score, and that of any run that would lead from then on."""


RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-6
"""Between a score and the same score computed in batches of another size, with other threads."""


def is_same_score(metric: str, reported: float, computed: float, samples: int) -> bool:
    """Return whether two computations of a score may differ so much; of a share, by one of the samples."""
    one = 1.01 / max(samples, 1) if metric.endswith("accuracy") else 0.0
    return abs(computed - reported) <= max(RELATIVE_TOLERANCE * abs(reported), ABSOLUTE_TOLERANCE, one)


def evaluate(status: str, score: float | None, state: AgentState) -> Verdict:
    """Accept a run that leads from now on: with a finite score that is better than the leader's mean over its
    seeds, or in a search that leads by a margin, better than the best score by more than the noise.

    The noise is the standard deviation of the base config's score over seeds; None counts as 0.
    """
    if status == "PRUNED":
        return Verdict(False, "the training was stopped early")
    if status != "OK":
        return Verdict(False, f"the training ended as {status}")
    if score is None or not math.isfinite(score):
        return Verdict(False, "there is no finite score")
    leader = get_best_run(state)
    best = None if leader is None else mean_score(state, leader)
    if leader is None or best is None:
        return Verdict(True, "the first run with a score")
    gain = gain_of(score, best, state.direction)
    better, worse = ("below", "above") if state.direction == "minimize" else ("above", "below")
    seeds = 1 if state.leads_by == "margin" else len(scores_of(state, leader))
    against = f"{leader.run_id} ({best:.6f}{f', mean of {seeds} seeds' if seeds > 1 else ''})"
    if gain == 0:
        return Verdict(False, f"equal to {against}")
    if gain < 0:
        return Verdict(False, f"{-gain:.6f} {worse} {against}")
    if state.leads_by == "mean":
        return Verdict(True, f"{gain:.6f} {better} {against}")
    margin = state.noise or 0.0
    if gain <= margin:
        return Verdict(False, f"{gain:.6f} {better} {against}, but within the noise of {margin:.6f}")
    beyond = "noise unknown" if state.noise is None else f"more than the noise of {margin:.6f}"
    return Verdict(True, f"{gain:.6f} {better} {against}, {beyond}")
