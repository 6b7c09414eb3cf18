"""What the scores so far say about single parameters: where the best third of a family's runs lies.

Tree-structured Parzen estimators choose by the ratio of two densities, of the good configurations and of the
rest (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4); this is the same split
in a few counts, which a language model can read. A function of the runs alone: nothing is drawn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_agent_graph.search_view import BLAMELESS, PRUNED, RunView
from nas_system.space import FAMILIES, active_values, parameters
from nas_system.space.score import Direction, loss_of

LEADING = 2
"""Families with the best scores, of which marginals are made."""
FEWEST_RUNS = 6
"""Of a family; fewer split into thirds say nothing."""
MOST_PARAMETERS = 4
"""Of a family, the most important ones."""
LEAST_IMPORTANCE = 0.05
FEWEST_ALIKE = 2
"""Runs with one value; a single run says nothing about a value."""
GROUPS = 3
"""Into so many groups the values of a number are divided, if it was tried with more."""
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Group:
    """Runs that agree in one parameter: in its value, or in a range of values."""

    low: Value
    high: Value
    """The same as `low` for a single value."""
    well: int
    """How many of `runs` are among the family's best third."""
    runs: int

    @property
    def share(self) -> float:
        return self.well / self.runs


@dataclass(frozen=True)
class Marginal:
    """One parameter of a family: how much depends on it, and which values do well."""

    parameter: str
    importance: float
    """Share of the variance of the runs' ranks that its groups explain, corrected for their number (omega
    squared; Hays 1963); 0 to 1."""
    best: Group
    worst: Group


@dataclass(frozen=True)
class FamilyMarginals:
    """The parameters of one family that matter, the most important one first."""

    family: str
    runs: int
    well: int
    """Size of the best third."""
    parameters: tuple[Marginal, ...]


def marginals_of(runs: Sequence[RunView], direction: Direction) -> tuple[FamilyMarginals, ...]:
    """Return the marginals of the families with the best scores, best family first."""
    by_family: dict[str, list[RunView]] = {}
    for run in runs:
        if run.family in FAMILIES and run.config is not None and run.status not in BLAMELESS:
            by_family.setdefault(run.family, []).append(run)
    best = {
        family: min(losses)
        for family, own in by_family.items()
        if (losses := [loss_of(run.val_score, direction) for run in own if run.val_score is not None])
    }
    leading = sorted(best, key=lambda family: (best[family], family))[:LEADING]
    found = [_of_family(family, by_family[family], direction) for family in leading]
    return tuple(one for one in found if one is not None)


def _of_family(family: str, runs: Sequence[RunView], direction: Direction) -> FamilyMarginals | None:
    if len(runs) < FEWEST_RUNS:
        return None
    ranks = _ranks(runs, direction)
    well = len(runs) // 3
    good = {run.run_id for run in sorted(runs, key=lambda run: ranks[run.run_id])[:well]}
    values = {run.run_id: active_values(run.config) for run in runs if run.config is not None}
    marginals = []
    for parameter in parameters(family):
        if not parameter.sampled:
            continue
        known = {run_id: own[parameter.path] for run_id, own in values.items() if parameter.path in own}
        groups = [group for group in _grouped(known) if len(group) >= FEWEST_ALIKE]
        if len(groups) > 1 and sum(map(len, groups)) >= FEWEST_RUNS:
            found = _marginal(parameter.path, groups, known, ranks, good)
            if found.importance >= LEAST_IMPORTANCE:
                marginals.append(found)
    marginals.sort(key=lambda one: (-one.importance, one.parameter))
    return FamilyMarginals(family, len(runs), well, tuple(marginals[:MOST_PARAMETERS]))


def _ranks(runs: Sequence[RunView], direction: Direction) -> dict[str, float]:
    """Return each run's rank, the best score 0; then those stopped early, then failures, who share theirs."""

    def place(run: RunView) -> tuple[int, float]:
        if run.val_score is not None:
            return 0, loss_of(run.val_score, direction)
        return (1 if run.status == PRUNED else 2), 0.0

    by_place: dict[tuple[int, float], list[str]] = {}
    for run in sorted(runs, key=place):
        by_place.setdefault(place(run), []).append(run.run_id)
    ranks, first = {}, 0
    for same in by_place.values():
        ranks |= dict.fromkeys(same, first + (len(same) - 1) / 2)
        first += len(same)
    return ranks


def _grouped(values: Mapping[str, Value]) -> list[list[str]]:
    """Divide the runs by their value; numbers with many, by ranges of about as many runs each."""
    by_value: dict[str, list[str]] = {}
    for run_id, value in values.items():
        by_value.setdefault(json.dumps(value), []).append(run_id)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    if not numbers or len(by_value) <= GROUPS:
        return list(by_value.values())
    in_order = sorted(by_value, key=lambda spelled: float(spelled))
    groups: list[list[str]] = [[]]
    most = math.ceil(len(values) / GROUPS)
    for spelled in in_order:  # equal values stay together
        if groups[-1] and len(groups[-1]) + len(by_value[spelled]) > most and len(groups) < GROUPS:
            groups.append([])
        groups[-1] += by_value[spelled]
    return groups


def _marginal(
    path: str,
    groups: Sequence[Sequence[str]],
    values: Mapping[str, Value],
    ranks: Mapping[str, float],
    good: set[str],
) -> Marginal:
    made = [_group(group, values, good) for group in groups]
    # Of equally good ones the group with more runs is the better known one; then the order of the values.
    best = max(made, key=lambda group: (group.share, group.runs))
    worst = min(made, key=lambda group: (group.share, -group.runs))
    return Marginal(path, _importance([[ranks[run_id] for run_id in group] for group in groups]), best, worst)


def _group(group: Sequence[str], values: Mapping[str, Value], good: set[str]) -> Group:
    own = [values[run_id] for run_id in group]
    low = high = own[0]
    numbers = [value for value in own if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(own):
        low, high = min(numbers), max(numbers)
    return Group(low, high, sum(run_id in good for run_id in group), len(own))


def _importance(groups: Sequence[Sequence[float]]) -> float:
    """Return omega squared of the ranks, grouped; 0 where there is no difference to explain."""
    everything = [rank for group in groups for rank in group]
    count, mean = len(everything), math.fsum(everything) / len(everything)
    total = math.fsum((rank - mean) ** 2 for rank in everything)
    between = math.fsum(len(group) * (math.fsum(group) / len(group) - mean) ** 2 for group in groups)
    if total == 0:
        return 0.0
    within = (total - between) / (count - len(groups))
    return max((between - (len(groups) - 1) * within) / (total + within), 0.0)
