"""When is a run better than the best so far: by more than the noise, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas_system.nas_agent.agent_state import RunInfo


@dataclass(frozen=True)
class Verdict:
    """Accepted or not, and why, in one sentence for people and proposers."""

    accepted: bool
    reason: str


def judge(status: str, score: float | None, best_run: RunInfo | None, noise: float | None) -> Verdict:
    """Accept a finite score that is below the best run's by more than the noise.

    `noise` is the standard deviation of the base config's score over seeds; None counts as 0.
    """
    if status != "OK":
        return Verdict(False, f"the training ended as {status}")
    if score is None or not math.isfinite(score):
        return Verdict(False, "there is no finite score")
    if best_run is None or best_run.val_score is None:
        return Verdict(True, "the first run with a score")
    margin = noise or 0.0
    gain = best_run.val_score - score
    against = f"{best_run.run_id} ({best_run.val_score:.6f})"
    if gain > margin:
        noise_words = "noise unknown" if noise is None else f"more than the noise of {margin:.6f}"
        return Verdict(True, f"{gain:.6f} below {against}, {noise_words}")
    if gain > 0:
        return Verdict(False, f"{gain:.6f} below {against}, but within the noise of {margin:.6f}")
    return Verdict(False, f"{-gain:.6f} above {against}")
