"""Which runs and baselines a search hands over together, by their scores on the validation part.

The plain mean of models that cannot be told apart forecasts better than the one that validation happens to
prefer (Claeskens et al. 2016, "The forecast combination puzzle", IJF 32). That holds for models of like
quality only, so what was told to be worse stays out; where the rows are too few to tell, what is far behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.comparison import Comparison
from nas_agent_graph.selection.conclusion import Conclusion

MOST_MEMBERS = 8
CLOSE = 0.05
"""By how much more loss than the lowest a member may have where the validation rows cannot tell.

Chosen with `benchmarks/recommendations.py --half choose`, as is that an ensemble must then have no more loss
than the best run."""
NEAR = 0.03
"""By how much more loss than the best run an ensemble may have where the rows can tell, and tell nothing."""


@dataclass(frozen=True)
class Chosen:
    """What may be a member, the lowest loss first."""

    name: str
    loss: float
    family: str | None
    """None for a baseline."""


def choose_members(
    conclusion: Conclusion,
    candidates: Sequence[Candidate],
    baselines: Mapping[str, float],
) -> list[Chosen]:
    """Return the members, at most `MOST_MEMBERS`, one per family first; a single one hands over alone.

    `candidates` are the runs that can forecast, `baselines` the losses of the baselines that may be members.
    """
    rows = [Chosen(one.run_id, one.mean, one.family or one.run_id) for one in candidates]
    rows += [Chosen(name, loss, None) for name, loss in baselines.items()]
    ranked = sorted(rows, key=lambda one: (one.loss, one.name))
    if not ranked:
        return []
    if any(one.is_baseline and _beats_the_best_run(one) for one in conclusion.comparisons):
        # It is better than the recommended run by more than chance: no mean with what it beats.
        return ranked[:1]
    comparisons = {one.name: one for one in conclusion.comparisons}
    close = ranked[0].loss + CLOSE * abs(ranked[0].loss)

    def may_join(one: Chosen) -> bool:
        if one.name == conclusion.recommended:
            return one.loss <= close or any(map(_rows_tell, comparisons.values()))
        comparison = comparisons.get(one.name)
        if comparison is None:
            return False
        return comparison.is_tie if _rows_tell(comparison) else one.loss <= close

    return _one_per_family([one for one in ranked if may_join(one)] or ranked[:1])


def _rows_tell(comparison: Comparison) -> bool:
    """Return whether the validation part has rows enough to tell the two apart."""
    return comparison.rows is not None and comparison.rows.trusted


def _beats_the_best_run(comparison: Comparison) -> bool:
    rows = comparison.rows
    return rows is not None and rows.trusted and rows.low > 0


def _one_per_family(ranked: Sequence[Chosen]) -> list[Chosen]:
    seen: set[str | None] = set()
    first, further = [], []
    for one in ranked:
        (further if one.family in seen else first).append(one)
        seen.add(one.family)
    chosen = [*first, *further][:MOST_MEMBERS]
    return sorted(chosen, key=lambda one: (one.loss, one.name))
