"""A recorded table as a search space, so that the search's own proposers can be asked about it.

The space of this process gets one more family, `table`: a model whose parameters are those of the table
and which needs no training option. A view on a search over it is a `SearchView` like any other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import create_model

import nas_system.space.changes as changes_of_the_space
import nas_system.space.sampling as sampling_of_the_space
from benchmarks.seeded_tables import Table
from nas_agent_graph.context import RunView, SearchView
from nas_system.space import FAMILIES, RunConfig, canonical_key
from nas_system.space.families import FamilyConfig
from nas_system.space.fields import Choice, Range
from nas_system.space.tasks.graph_regression import GraphRegressionTask

FAMILY = "table"
TASK = GraphRegressionTask()
"""Its metric is a loss, as the scores of the tables are, and no series limits its parameters."""


class TableFamily(FamilyConfig):
    """What every table has in common."""

    tasks: ClassVar[tuple[str, ...]] = (TASK.kind,)
    reads_covariates: ClassVar[bool] = False
    gradient_descent: ClassVar[bool] = False

    family: Literal["table"] = FAMILY


def labels_of(table: Table, place: int) -> tuple[Any, ...]:
    """Return the values of a parameter by their number in the table.

    Numbers are called by their rank. Names are shuffled letters, so that nobody can know what they mean.
    """
    size = table.sizes[place]
    if table.is_number[place]:
        return tuple(range(size))
    letters = [chr(ord("a") + number) for number in range(size)]
    random.Random(f"{table.name} {place}").shuffle(letters)
    return tuple(letters)


def places_of(table: Table, row: int) -> list[int]:
    """Return the number of every parameter's value in a row."""
    places = []
    for size in reversed(table.sizes):
        row, place = divmod(row, size)
        places.append(place)
    return places[::-1]


def row_at(table: Table, places: Sequence[int]) -> int:
    """Return the row with these values, by their numbers."""
    row = 0
    for size, place in zip(table.sizes, places, strict=True):
        row = row * size + place
    return row


class TableSpace:
    """The space of a table. Only one at a time can be entered in a process."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.names = tuple(f"p{place}" for place in range(len(table.sizes)))
        self.labels = tuple(labels_of(table, place) for place in range(len(table.sizes)))
        fields: dict[str, Any] = {}
        for name, labels, is_number in zip(self.names, self.labels, table.is_number, strict=True):
            mark = Range(0, len(labels) - 1, grid=labels) if is_number else Choice()
            kind = int if is_number else Literal[labels]
            fields[name] = (Annotated[kind, mark], labels[0])
        self.model = create_model("Table", __base__=TableFamily, **fields)
        # The union of the families was made when the space was imported; a subclass can narrow it.
        self.run_class = create_model("TableRun", __base__=RunConfig, model=(self.model, self.model()))
        self.config_of = cache(self._config_of)

    @contextmanager
    def entered(self, default: int) -> Iterator[None]:
        """Make this the space of the process meanwhile, with a row as the family's tried default."""
        own = changes_of_the_space.RunConfig, changes_of_the_space.family_default
        self._enter(default)
        try:
            yield
        finally:
            del FAMILIES[FAMILY]
            changes_of_the_space.RunConfig, changes_of_the_space.family_default = own
            sampling_of_the_space.family_default = own[1]

    def _enter(self, default: int) -> None:
        config = self.config_of(default)
        FAMILIES[FAMILY] = self.model
        changes_of_the_space.RunConfig = self.run_class
        for module in (changes_of_the_space, sampling_of_the_space):
            module.family_default = lambda family: config

    def _config_of(self, row: int) -> RunConfig:
        places = places_of(self.table, row)
        values = {n: labels[p] for n, labels, p in zip(self.names, self.labels, places, strict=True)}
        return self.run_class(task=TASK, model=self.model(**values))

    def row_of(self, config: RunConfig) -> int:
        """Return the row that a configuration is."""
        values = (getattr(config.model, name) for name in self.names)
        return row_at(
            self.table, [labels.index(value) for labels, value in zip(self.labels, values, strict=True)]
        )

    def run_of(self, number: int, row: int, score: float, proposer: str = "") -> RunView:
        """Return a training of a row as proposers see it."""
        config = self.config_of(row)
        return RunView(
            run_id=f"run_{number:04d}",
            status="OK",
            cause=None,
            config=config,
            family=FAMILY,
            key=canonical_key(config),
            val_score=score,
            accepted=False,
            parent=None,
            summary="",
            proposer=proposer,
            scores=(score,),
        )

    def view(self, runs: Sequence[RunView], seed: int, max_runs: int) -> SearchView:
        """Return what a proposer may know after these runs, of which the first is the base config's."""
        assert runs[0].config is not None
        return SearchView(
            run_id=f"run_{len(runs):04d}",
            task=TASK,
            base=runs[0].config,
            columns=(),
            baselines=(),
            runs=tuple(runs),
            best_run=min(runs, key=lambda run: run.val_score),
            noise=self.table.noise or None,
            seed=seed,
            max_runs=max_runs,
            families=(FAMILY,),
            leads_by="mean",
        )
