"""Searches over recorded tables: tasks whose configurations have all been trained already.

One rule for everybody: a search begins with the base config (the Informer's default), as every search does;
then a proposer names a configuration, and the nearest row of the table that has not been tried is what
was trained. Who can choose among the rows themselves (random search, the predictors) does so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_agent_graph.context import Proposer, RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.netformer.specs.archive.archive_file import Archive, ArchivedTask, Row, config_of
from nas_system.netformer.specs.model.vocabulary import FAMILY, build_vocabulary
from nas_system.space import RunConfig, active_values, apply_changes, canonical_key

Array = NDArray[np.float64]

OTHER_FAMILY = 100.0
"""Distance that keeps families apart: a table has rows of all of them."""
WORST = 3.0
"""Regret is cut here, where a single failed base config would drown everything else."""

Picker = Callable[["Table", int], Iterator[int]]
"""A proposer at work on a table, from a seed: yields rows, never one twice."""


@dataclass(frozen=True)
class Table:
    """One task with all its trainings."""

    task: ArchivedTask
    rows: tuple[Row, ...]

    @cached_property
    def configs(self) -> list[RunConfig]:
        return [config_of(row.values, self.task.task) for row in self.rows]

    @cached_property
    def keys(self) -> list[str]:
        return [canonical_key(config) for config in self.configs]

    @cached_property
    def vectors(self) -> tuple[Array, Array]:
        return vectors_of([row.values for row in self.rows])

    @cached_property
    def base(self) -> int:
        """The first row is the default of the first family."""
        assert self.rows[0].family == "informer"
        return 0

    @cached_property
    def regrets(self) -> Array:
        """Of every row: 0 is the best score of the table, 1 its median."""
        scores = np.array([np.inf if row.score is None else row.score for row in self.rows])
        best, middle = scores.min(), np.quantile(scores, 0.5, method="lower")
        return np.minimum(WORST, (scores - best) / (middle - best))

    def nearest(self, values: dict, left: set[int]) -> int:
        """The row of `left` that is most like a configuration."""
        distances = self.distances(values)
        return min(left, key=lambda i: (distances[i], i))

    def distances(self, values: dict) -> Array:
        mine, kinds = vectors_of([values])
        return distances_between(mine[0], kinds[0], *self.vectors)


def tables_of(archive: Archive) -> list[Table]:
    return [Table(task, tuple(archive.rows_of(name))) for name, task in archive.tasks.items()]


def vectors_of(rows: Sequence[dict]) -> tuple[Array, Array]:
    """Places of numbers, and numbers of choices' tokens; NaN where a parameter has no effect."""
    vocabulary = build_vocabulary()
    places = np.full((len(rows), len(vocabulary.paths)), np.nan)
    kinds = np.full_like(places, np.nan)
    for row, values in enumerate(rows):
        for token in vocabulary.encode(values):
            found = vocabulary.tokens[token]
            slot = vocabulary.slot[found.path]
            if isinstance(found.value, str | bool):
                kinds[row, slot] = token
            else:
                places[row, slot] = (found.place + 1) / 2
    return places, kinds


def distances_between(place: Array, kind: Array, places: Array, kinds: Array) -> Array:
    """Gower's distance of one configuration to many: 0 to 1 per parameter that either of them has."""
    apart = np.abs(places - place)
    apart = np.where(np.isnan(apart), (np.isnan(places) != np.isnan(place)).astype(float), apart)
    different = (kinds != kind) & ~(np.isnan(kinds) & np.isnan(kind))
    family = build_vocabulary().slot[FAMILY]
    return apart.sum(axis=1) + different.sum(axis=1) + OTHER_FAMILY * different[:, family]


def curve(table: Table, picker: Picker, seed: int, runs: int) -> Array:
    """Regret of the best row so far: after the base config, then after every further run."""
    picks = [table.base]
    for row in picker(table, seed):
        picks.append(row)
        if len(picks) > runs:
            break
    best = np.minimum.accumulate(table.regrets[picks])
    return np.concatenate([best, np.full(runs + 1 - len(best), best[-1])])


def untried(table: Table) -> set[int]:
    return set(range(len(table.rows))) - {table.base}


def random_rows(table: Table, seed: int) -> Iterator[int]:
    rows = sorted(untried(table))
    random.Random(seed).shuffle(rows)
    yield from rows


def in_order(order: Callable[[Table], Sequence[int]]) -> Picker:
    """A proposer that ranks the rows once and for all."""

    def pick(table: Table, seed: int) -> Iterator[int]:
        yield from (row for row in order(table) if row != table.base)

    return pick


def listed(values_of: Callable[[Table, int], Sequence[dict]]) -> Picker:
    """A proposer with a list of configurations, as active values: each goes to its nearest untried row."""

    def pick(table: Table, seed: int) -> Iterator[int]:
        left = untried(table)
        for values in values_of(table, seed):
            if not left:
                return
            row = table.nearest(values, left)
            left.remove(row)
            yield row

    return pick


def then(first: Picker, count: int, second: Callable[[], Proposer]) -> Picker:
    """The first `count` runs by one proposer, the others by the search's own, which sees them all."""

    def pick(table: Table, seed: int) -> Iterator[int]:
        tried = [table.base]
        for row, _ in zip(first(table, seed), range(count), strict=False):
            tried.append(row)
            yield row
        yield from _by_proposer(table, seed, second(), tried)

    return pick


def by_proposer(build: Callable[[], Proposer]) -> Picker:
    """One of the search's own proposers, on a view like the one it is given there."""
    return lambda table, seed: _by_proposer(table, seed, build(), [table.base])


def _by_proposer(table: Table, seed: int, proposer: Proposer, tried: list[int]) -> Iterator[int]:
    left = untried(table) - set(tried)
    while left:
        view = _view(table, tried, seed)
        try:
            config = apply_changes(view.base, proposer.propose(view).changes)
            row = table.nearest(active_values(config), left)
        except ProposalError:
            row = min(left)
        left.remove(row)
        tried.append(row)
        yield row


def _view(table: Table, tried: Sequence[int], seed: int) -> SearchView:
    runs = tuple(_run(table, row, number) for number, row in enumerate(tried))
    config = table.configs[table.base]
    return SearchView(
        run_id=f"run_{len(runs):04d}",
        task=table.task.task,
        base=config,
        columns=(),
        baselines=(),
        runs=runs,
        best_run=None,
        noise=None,
        seed=seed,
        max_runs=len(table.rows),
        max_seq_len=table.task.max_seq_len,
        families=tuple(dict.fromkeys(row.family for row in table.rows)),
    )


def _run(table: Table, row: int, number: int) -> RunView:
    found, status = table.rows[row], "OK" if table.rows[row].score is not None else "TIMEOUT"
    return RunView(
        f"run_{number:04d}",
        status,
        None,
        table.configs[row],
        found.family,
        table.keys[row],
        found.score,
        False,
        None,
        "",
    )


def global_portfolio(train: Sequence[Table], count: int = 30) -> list[dict]:
    """Configurations that together do best on all training tasks, greedily; each by its nearest rows."""
    rows = [row for table in train for row in table.rows]
    places, kinds = vectors_of([row.values for row in rows])
    regrets = np.stack([_regrets_there(table, places, kinds) for table in train])
    best = np.full(len(train), WORST)
    chosen: list[int] = []
    while len(chosen) < count:
        reached = np.minimum(best[:, None], regrets).mean(axis=0) + 1e-6 * regrets.mean(axis=0)
        reached[chosen] = np.inf
        chosen.append(int(reached.argmin()))
        best = np.minimum(best, regrets[:, chosen[-1]])
    return [rows[number].values for number in chosen]


def _regrets_there(table: Table, places: Array, kinds: Array) -> Array:
    """Of every configuration, as its nearest row in the table has it."""
    pairs = zip(places, kinds, strict=True)
    return table.regrets[[int(distances_between(p, k, *table.vectors).argmin()) for p, k in pairs]]


def nearest_neighbours(train: Sequence[Table], scale: Callable[[Sequence[float]], Array]) -> Picker:
    """The best configuration of the most similar task, of the second most similar; then the second best."""

    def values_of(table: Table, seed: int) -> list[dict]:
        own = scale(table.task.features)
        near = sorted(train, key=lambda other: float(np.linalg.norm(scale(other.task.features) - own)))
        ordered = [np.argsort(other.regrets, kind="stable") for other in near]
        pairs = [(near[i], int(ordered[i][depth])) for depth in range(3) for i in range(len(near))]
        return [other.rows[row].values for other, row in pairs]

    return listed(values_of)
