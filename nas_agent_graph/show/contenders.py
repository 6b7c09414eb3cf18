"""The recommended run and all that it was compared with, as every page draws them: scores and intervals.

A conclusion holds losses; here they are scores again, turned back where the metric is maximised.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_agent_graph.show.rows import ties_of
from nas_agent_graph.show.seeds import scores_by_run
from nas_system.nas_agent.agent_state import AgentState, get_run, is_fresh
from nas_system.space.score import Direction, loss_of

if TYPE_CHECKING:
    from nas_agent_graph.selection.comparison import Comparison
    from nas_agent_graph.selection.conclusion import Conclusion

SHARE_OF_RANGE = 10.0
"""Scores farther away than so many times the distance of the best from the median lie beyond an axis."""


@dataclass(frozen=True)
class Bounds:
    """The two ends of a 90 % interval, the lower score first."""

    low: float
    high: float


@dataclass(frozen=True)
class SeedScore:
    """The score of one training."""

    score: float
    fresh: bool
    """Of the final: no choice among many has seen it."""


@dataclass(frozen=True)
class Contender:
    """The recommended run, a run that it was compared with, or a baseline."""

    name: str
    is_baseline: bool
    family: str | None
    score: float
    """What the comparison rests on: the mean over fresh seeds where there are any, else over all."""
    over_seeds: Bounds | None
    """Of the recommended run the interval of its mean over fresh seeds; of another one its score with the
    margin of its distance to the recommended run, from seeds."""
    over_both: Bounds | None
    """The same from seeds and validation rows together; None where the rows cannot tell, and of the
    recommended run."""
    scores: tuple[SeedScore, ...]
    tie: bool
    """Whether it and the recommended run cannot be told apart; of the latter, whether there is such a one."""
    comparison: Comparison | None
    """None of the recommended run."""

    @property
    def bounds(self) -> Bounds | None:
        """Return the widest interval that is known."""
        return self.over_both or self.over_seeds


def contenders_of(conclusion: Conclusion, state: AgentState) -> list[Contender]:
    """Return the recommended run, then what it was compared with, best score first."""
    direction, scores = state.direction, _seed_scores(state)
    ties, fresh = ties_of(conclusion), conclusion.fresh
    own = scores.get(conclusion.recommended, ())
    if fresh is not None:
        middle = fresh.mean
    else:
        middle = statistics.fmean([loss_of(one.score, direction) for one in own] or [conclusion.first])
    ends = None if fresh is None or fresh.low is None or fresh.high is None else (fresh.low, fresh.high)
    best = Contender(
        conclusion.recommended,
        False,
        _family(state, conclusion.recommended),
        loss_of(middle, direction),
        None if ends is None else _bounds(*ends, direction),
        None,
        own,
        bool(ties),
        None,
    )
    others = [
        _contender(one, middle, state, scores, (one.name, one.is_baseline) in ties)
        for one in conclusion.comparisons
    ]
    return [best, *sorted(others, key=lambda one: loss_of(one.score, direction))]


def standing_of(conclusion: Conclusion, state: AgentState, run_id: str) -> Contender | None:
    """Return how a run stands to the recommended one; None if the two were not compared."""
    found = contenders_of(conclusion, state)
    return next((one for one in found if one.name == run_id and not one.is_baseline), None)


def conclusion_record(conclusion: Conclusion, state: AgentState) -> dict[str, object]:
    """Return a conclusion for programs and for the report, with scores as they are reported."""
    from nas_agent_graph.selection.sentences import sentences

    fresh, direction = conclusion.fresh, state.direction
    hold_out, rows = conclusion.hold_out_score, conclusion.hold_out
    bounds = None if rows is None or not rows.trusted else _bounds(rows.low, rows.high, direction)
    return {
        "recommended": conclusion.recommended,
        "word": conclusion.word,
        "configurations": conclusion.configurations,
        "sentences": sentences(conclusion, state.metric, direction),
        "first": loss_of(conclusion.first, direction),
        "fresh": None if fresh is None else {"seeds": fresh.seeds, "mean": loss_of(fresh.mean, direction)},
        "optimism": conclusion.optimism,
        "ties": list(conclusion.ties),
        "ties_left_out": conclusion.ties_left_out,
        "baseline_ties": list(conclusion.baseline_ties),
        "resolution": conclusion.resolution,
        "block": conclusion.block,
        "independent_blocks": conclusion.independent_blocks,
        "luck": dict(conclusion.luck),
        "hold_out": None if hold_out is None else {"score": loss_of(hold_out, direction), **_ends(bounds)},
        "contenders": [contender_record(one) for one in contenders_of(conclusion, state)],
    }


def contender_record(one: Contender) -> dict[str, object]:
    """Return a contender for programs; `lead` is by how much the recommended run is better than it."""
    compared = one.comparison
    return {
        "name": one.name,
        "is_baseline": one.is_baseline,
        "family": one.family,
        "score": one.score,
        "over_seeds": _ends(one.over_seeds) if one.over_seeds else None,
        "over_seeds_and_rows": _ends(one.over_both) if one.over_both else None,
        "scores": [{"score": seed.score, "fresh": seed.fresh} for seed in one.scores],
        "tie": one.tie,
        "lead": compared.lead if compared else None,
        "margin_from_seeds": compared.seeds_margin if compared else None,
        "margin_from_rows": compared.rows_margin if compared else None,
        "margin": compared.margin if compared else None,
        "told_apart": compared.told_apart if compared else None,
        "rows_can_tell": compared.rows.trusted if compared and compared.rows else None,
    }


def _ends(bounds: Bounds | None) -> dict[str, float | None]:
    return {"low": bounds.low if bounds else None, "high": bounds.high if bounds else None}


def _contender(
    one: Comparison,
    middle: float,
    state: AgentState,
    scores: dict[str, tuple[SeedScore, ...]],
    tie: bool,
) -> Contender:
    loss = middle + one.lead

    def around(margin: float | None) -> Bounds | None:
        return None if margin is None else _bounds(loss - margin, loss + margin, state.direction)

    return Contender(
        one.name,
        one.is_baseline,
        None if one.is_baseline else _family(state, one.name),
        loss_of(loss, state.direction),
        around(one.seeds_margin),
        around(one.margin),
        () if one.is_baseline else scores.get(one.name, ()),
        tie,
        one,
    )


def _bounds(low: float, high: float, direction: Direction) -> Bounds:
    ends = sorted((loss_of(low, direction), loss_of(high, direction)))
    return Bounds(*ends)


def _family(state: AgentState, run_id: str) -> str | None:
    run = get_run(state, run_id)
    return None if run is None else run.family


def _seed_scores(state: AgentState) -> dict[str, tuple[SeedScore, ...]]:
    """Return the scores by run, each with whether it is fresh."""
    fresh: dict[str, list[bool]] = {run_id: [False] for run_id in scores_by_run(state)}
    for repeat in state.repeats:
        if repeat.status == "OK" and repeat.val_score is not None and repeat.run_id in fresh:
            fresh[repeat.run_id].append(is_fresh(repeat, state))
    return {
        run_id: tuple(map(SeedScore, scores, fresh[run_id]))
        for run_id, scores in scores_by_run(state).items()
    }


def axis_of(scores: Sequence[float], intervals: Sequence[Bounds], direction: Direction) -> Bounds:
    """Return the ends of an axis for the scores and for the intervals of those that lie on it.

    Far worse outliers would flatten all that matters, so they lie beyond it.
    """
    losses = sorted(loss_of(score, direction) for score in scores if math.isfinite(score))
    if not losses:
        return Bounds(0.0, 1.0)
    best, middle = losses[0], losses[(len(losses) - 1) // 2]
    farthest = best + SHARE_OF_RANGE * (middle - best or abs(best) * 0.01 or 1.0)
    on_axis = [loss for loss in losses if loss <= farthest]
    ends = [
        (loss_of(one.low, direction), loss_of(one.high, direction))
        for one in intervals
        if best <= (loss_of(one.low, direction) + loss_of(one.high, direction)) / 2 <= farthest
    ]
    low = min([best, *(min(pair) for pair in ends)])
    high = max([on_axis[-1], *(max(pair) for pair in ends)])
    return _bounds(low, high, direction)
