"""When is a run better than the best so far: by more than the noise, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NotRequired

# pydantic, which draws the form in LangGraph Studio, takes only this one before Python 3.12.
from typing_extensions import TypedDict

from nas_system.nas_agent.agent_state import RunInfo
from nas_system.space.score import Direction, gain_of


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
    verified: NotRequired[list[VerifiedRecord]]
    """What was computed again before the run could lead: its score, and those that the noise is made of."""
    run: dict[str, Any]
    """The run's entry in agent_state.json, which can be rebuilt from it."""


RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-6
"""Between a score and the same score computed in batches of another size, with other threads."""


def is_same_score(metric: str, reported: float, computed: float, samples: int) -> bool:
    """Return whether two computations of a score may differ so much; of a share, by one of the samples."""
    one = 1.01 / max(samples, 1) if metric.endswith("accuracy") else 0.0
    return abs(computed - reported) <= max(RELATIVE_TOLERANCE * abs(reported), ABSOLUTE_TOLERANCE, one)


def evaluate(
    status: str, score: float | None, best_run: RunInfo | None, noise: float | None, direction: Direction
) -> Verdict:
    """Accept a finite score that is better than the best run's by more than the noise.

    `noise` is the standard deviation of the base config's score over seeds; None counts as 0.
    """
    if status == "PRUNED":
        return Verdict(False, "the training was stopped early")
    if status != "OK":
        return Verdict(False, f"the training ended as {status}")
    if score is None or not math.isfinite(score):
        return Verdict(False, "there is no finite score")
    if best_run is None or best_run.val_score is None:
        return Verdict(True, "the first run with a score")
    margin = noise or 0.0
    gain = gain_of(score, best_run.val_score, direction)
    better, worse = ("below", "above") if direction == "minimize" else ("above", "below")
    against = f"{best_run.run_id} ({best_run.val_score:.6f})"
    if gain > margin:
        beyond = "noise unknown" if noise is None else f"more than the noise of {margin:.6f}"
        return Verdict(True, f"{gain:.6f} {better} {against}, {beyond}")
    if gain > 0:
        return Verdict(False, f"{gain:.6f} {better} {against}, but within the noise of {margin:.6f}")
    if gain == 0:
        return Verdict(False, f"equal to {against}")
    return Verdict(False, f"{-gain:.6f} {worse} {against}")
