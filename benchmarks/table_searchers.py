"""Searchers over recorded tables: the product's proposers and those of other people, behind one protocol."""

from __future__ import annotations

import math
import random
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from benchmarks.scripted_model import ScriptedModel
from benchmarks.table_space import TableSpace, places_of, row_at
from nas_agent_graph.context import Proposal, Proposer, RunView
from nas_agent_graph.proposers.hybrid import HybridProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.search_view import BASE_RUN
from nas_system.nas_agent.agent_state import BASE_PROPOSER
from nas_system.space import apply_changes


class Searcher(Protocol):
    """Names rows of a table, one after the other, and is passed their scores."""

    def ask(self) -> int: ...

    def tell(self, row: int, score: float) -> None: ...


Build = Callable[[TableSpace, int, int], Searcher]
"""Makes a searcher of a space, a seed and the number of trainings, the given first one included."""


class OfProduct:
    """A proposer of `nas_agent_graph.proposers`, on a view like the one it is given in a search."""

    def __init__(self, space: TableSpace, seed: int, trainings: int, proposer: Proposer) -> None:
        self.space, self.seed, self.trainings, self.proposer = space, seed, trainings, proposer
        self.runs: list[RunView] = []
        self.proposal = Proposal(BASE_PROPOSER, parent=None)

    def ask(self) -> int:
        view = self.space.view(self.runs, self.seed, self.trainings)
        self.proposal = self.proposer.propose(view)
        parents = {run.run_id: run.config for run in self.runs}
        parent = parents[self.proposal.parent or BASE_RUN]
        assert parent is not None
        return self.space.row_of(apply_changes(parent, self.proposal.changes))

    def tell(self, row: int, score: float) -> None:
        lowest = min((run.val_score for run in self.runs if run.val_score is not None), default=math.inf)
        run = replace(
            self.space.run_of(len(self.runs), row, score, self.proposal.proposer),
            accepted=score < lowest,
            parent=self.proposal.parent,
            arm=self.proposal.arm,
            wasted=self.proposal.wasted,
        )
        self.runs.append(run)


class RandomRows:
    """Random search without repetition."""

    def __init__(self, space: TableSpace, seed: int, trainings: int) -> None:
        self.draws, self.count = random.Random(f"random {seed}"), len(space.table.scores)
        self.seen: set[int] = set()

    def ask(self) -> int:
        while (row := self.draws.randrange(self.count)) in self.seen:
            pass
        return row

    def tell(self, row: int, score: float) -> None:
        self.seen.add(row)


POPULATION, SAMPLE = 20, 5
"""Of regularised evolution. The paper's 100 and 25 would be random search with 100 trainings."""


class RegularisedEvolution:
    """Aging evolution: the best of a sample is mutated in one parameter, the oldest dies.

    Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", AAAI, algorithm 1.
    """

    def __init__(self, space: TableSpace, seed: int, trainings: int) -> None:
        self.table, self.draws = space.table, random.Random(f"evolution {seed}")
        self.population: deque[tuple[float, int]] = deque()
        self.born = 0

    def ask(self) -> int:
        if self.born < POPULATION:
            return self.draws.randrange(len(self.table.scores))
        _, parent = min(self.draws.choice(self.population) for _ in range(SAMPLE))
        place = self.draws.randrange(len(self.table.sizes))
        return self.table.changed(parent, [place], [self.draws.random()])

    def tell(self, row: int, score: float) -> None:
        self.born += 1
        self.population.append((score, row))
        if len(self.population) > POPULATION:
            self.population.popleft()


class OptunaSearcher:
    """A sampler of Optuna over the table's parameters: numbers as integers in order, names as categories."""

    def __init__(self, space: TableSpace, seed: int, trainings: int, sampler: str, **options: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made = getattr(optuna.samplers, sampler)(seed=seed, **options)
        self.table, self.study = space.table, optuna.create_study(sampler=made)
        whole = zip(space.table.sizes, space.table.is_number, strict=True)
        self.space = {
            f"p{place}": optuna.distributions.IntDistribution(0, size - 1)
            if is_number
            else optuna.distributions.CategoricalDistribution(range(size))
            for place, (size, is_number) in enumerate(whole)
        }
        self.asked: Any = None

    def ask(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.asked = self.study.ask(self.space)
        return row_at(self.table, list(self.asked.params.values()))

    def tell(self, row: int, score: float) -> None:
        import optuna

        if self.asked is None:  # the first, which everybody is given
            params = dict(zip(self.space, places_of(self.table, row), strict=True))
            first = optuna.trial.create_trial(params=params, distributions=self.space, value=score)
            self.study.add_trial(first)
        else:
            self.study.tell(self.asked, score)


class SMACSearcher:
    """SMAC3's facade for hyper-parameters: a random forest with log expected improvement.

    Lindauer et al. 2022, "SMAC3: A Versatile Bayesian Optimization Package", JMLR 23. Its initial design is
    a tenth of the trainings.
    """

    def __init__(self, space: TableSpace, seed: int, trainings: int) -> None:
        import logging
        import tempfile

        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, UniformIntegerHyperparameter
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        logging.disable(logging.WARNING)
        whole = enumerate(zip(space.table.sizes, space.table.is_number, strict=True))
        self.table = space.table
        self.space = ConfigurationSpace(
            seed=seed,
            space=[
                UniformIntegerHyperparameter(f"p{place}", 0, size - 1)
                if is_number
                else CategoricalHyperparameter(f"p{place}", list(range(size)))
                for place, (size, is_number) in whole
            ],
        )
        self.folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            self.space, deterministic=True, n_trials=trainings, seed=seed, output_directory=self.folder.name
        )
        design = Facade.get_initial_design(scenario, n_configs=max(1, trainings // 10))
        self.smac = Facade(
            scenario, lambda config, seed=0: 0.0, initial_design=design, logging_level=False, overwrite=True
        )
        self.asked: Any = None

    def ask(self) -> int:
        self.asked = self.smac.ask()
        return row_at(self.table, [int(self.asked.config[name]) for name in self.space])

    def tell(self, row: int, score: float) -> None:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        info = self.asked
        if info is None:
            values = dict(zip(self.space, places_of(self.table, row), strict=True))
            info = TrialInfo(Configuration(self.space, values=values), seed=0)
        self.smac.tell(info, TrialValue(cost=score))


def of_product(build: Callable[[], Proposer]) -> Build:
    return lambda space, seed, trainings: OfProduct(space, seed, trainings, build())


def of_optuna(sampler: str, **options: Any) -> Build:
    return lambda space, seed, trainings: OptunaSearcher(space, seed, trainings, sampler, **options)


def hybrid(bad_share: float) -> Build:
    """Return the hybrid with a scripted model of which that share of the ideas is bad."""

    def build(space: TableSpace, seed: int, trainings: int) -> Searcher:
        proposer = HybridProposer(ScriptedModel(space, seed, bad_share), TPEProposer())
        return OfProduct(space, seed, trainings, proposer)

    return build


SEARCHERS: dict[str, Build] = {
    "tpe": of_product(TPEProposer),
    "hybrid_0_bad": hybrid(0.0),
    "hybrid_50_bad": hybrid(0.5),
    "hybrid_100_bad": hybrid(1.0),
    "optuna_tpe": of_optuna("TPESampler"),
    "optuna_tpe_univariate": of_optuna("TPESampler", multivariate=False),
    "optuna_gp": of_optuna("GPSampler"),
    "cma_es": of_optuna("CmaEsSampler"),
    "evolution": RegularisedEvolution,
    "random": RandomRows,
    "smac": SMACSearcher,
}
"""Searchers by the name that `--proposers` takes."""
