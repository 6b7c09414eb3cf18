"""How fast proposers find a good configuration, on made-up objectives whose best value is known.

    python -m benchmarks.made_up_objectives --seeds 24

Every family has a level that its tried default reaches, and an optimum of its own somewhere near that
default; every parameter costs its squared distance to the optimum, times a weight drawn for it, and every
score carries noise. Printed is the regret of the best-scored run, in 1e-4, after some runs: 1 is a third of
the noise. What it cannot show: interactions between parameters, and how large effects really are.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_system.space import (
    ForecastingTask,
    Parameter,
    RunConfig,
    apply_changes,
    canonical_key,
    families_of,
    family_default,
    is_active,
    parameters,
    value_at,
)

FAMILIES = families_of("forecasting")
LEVELS = (0.0489, 0.050, 0.051, 0.052, 0.0525, 0.0535, 0.054, 0.055, 0.056, 0.057, 0.060)
"""Scores of the families' defaults; which family has which is drawn."""
NOISE = 0.0003
WEIGHT = 0.001
"""Mean price of one parameter; a few matter and most do not (exponential)."""
SAMPLERS = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
RUNS = 41
SHOWN = (5, 10, 20, 30, 40)


class Objective:
    """One made-up problem."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        levels = dict(zip(FAMILIES, self.random.sample(LEVELS, len(LEVELS)), strict=True))
        self.optimum = {
            (family, parameter.path): (self._optimum(family, parameter), self.random.expovariate(1 / WEIGHT))
            for family in FAMILIES
            for parameter in parameters(family)
            if parameter.sampled
        }
        self.floor = {name: level - self._cost(family_default(name)) for name, level in levels.items()}
        self.best = min(self.floor.values())

    def regret(self, config: RunConfig) -> float:
        return self.floor[config.model.family] + self._cost(config) - self.best

    def score(self, config: RunConfig) -> float:
        return self.best + self.regret(config) + self.random.gauss(0, NOISE)

    def _optimum(self, family: str, parameter: Parameter) -> float:
        default = _place(parameter, value_at(family_default(family), parameter.path))
        if parameter.kind == "choice":
            return (
                default if self.random.random() < 0.6 else self.random.randrange(len(parameter.choices or ()))
            )
        return min(1.0, max(0.0, default + self.random.gauss(0, 0.25)))

    def _cost(self, config: RunConfig) -> float:
        family, total = config.model.family, 0.0
        for parameter in parameters(family):
            if not parameter.sampled or not is_active(config, parameter):
                continue
            optimum, weight = self.optimum[family, parameter.path]
            place = _place(parameter, value_at(config, parameter.path))
            wrong = (place != optimum) / 2 if parameter.kind == "choice" else 4 * (place - optimum) ** 2
            total += weight * wrong
        return total


def _place(parameter: Parameter, value: float) -> float:
    """Where on its scale a number stands, from 0 to 1; which choice a choice is."""
    if parameter.kind == "choice":
        assert parameter.choices is not None
        return float(parameter.choices.index(value))
    if parameter.choices is not None:
        distances = [abs(choice - value) for choice in parameter.choices]
        return distances.index(min(distances)) / max(1, len(distances) - 1)
    assert parameter.low is not None and parameter.high is not None
    low, high = parameter.low, parameter.high
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def search(name: str, objective: Objective, seed: int) -> tuple[list[float], float]:
    """Regret of the best-scored run after every run, and seconds per proposal."""
    base = family_default("informer")
    runs: list[RunView] = []
    regrets: list[float] = []
    seconds, lowest = 0.0, math.inf
    config = base
    while True:
        score = objective.score(config)
        regrets.append(objective.regret(config) if score < lowest else regrets[-1])
        lowest = min(score, lowest)
        run_id = f"run_{len(runs):04d}"
        key, family = canonical_key(config), config.model.family
        runs.append(RunView(run_id, "OK", None, config, family, key, score, False, None, ""))
        if len(runs) == RUNS:
            return regrets, seconds / (RUNS - 1)
        view = SearchView(
            f"run_{len(runs):04d}", ForecastingTask(), base, (), (), tuple(runs), None, NOISE, seed, RUNS
        )
        start = time.perf_counter()
        proposal = SAMPLERS[name]().propose(view)
        seconds += time.perf_counter() - start
        config = apply_changes(base, proposal.changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=24, help="problems per proposer (default: 24)")
    seeds = parser.parse_args().seeds
    print("regret in 1e-4 after" + "".join(f"{n:>7} runs" for n in SHOWN) + "   ms per proposal")
    for name in SAMPLERS:
        results = [search(name, Objective(seed), seed) for seed in range(seeds)]
        means = [1e4 * statistics.mean(regrets[n] for regrets, _ in results) for n in SHOWN]
        cost = 1e3 * statistics.mean(seconds for _, seconds in results)
        print(f"{name:<20}" + "".join(f"{mean:>12.2f}" for mean in means) + f"{cost:>18.1f}")


if __name__ == "__main__":
    main()
