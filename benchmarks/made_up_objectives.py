"""How fast proposers find a good configuration, on made-up objectives whose best value is known.

    python -m benchmarks.made_up_objectives --seeds 24

Several runs at once: `python -m benchmarks.sampler_regret --made-up --parallel 4 --seeds 24`.

Every family has a level that its tried default reaches, and an optimum of its own somewhere near that
default; every parameter costs its squared distance to the optimum, times a weight drawn for it, and every
score carries noise. Printed is the regret of the best-scored run, in 1e-4, after some runs: 1 is a third of
the noise. What it cannot show: interactions between parameters, and how large effects really are.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from nas_agent_graph.context import Proposer, RunView, SearchView
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.search_view import run_in_progress
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
"""Scores of the families' defaults, stretched over all families; which family has which is drawn."""
NOISE = 0.0003
WEIGHT = 0.001
"""Mean price of one parameter; a few matter and most do not (exponential)."""
FAMILY_SPREAD, RUN_SPREAD = 0.8, 0.4
"""Standard deviation of the logarithm of a training's seconds: between families, and within one."""
SAMPLERS = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
RUNS = 41
SHOWN = (5, 10, 20, 30, 40)


class Objective:
    """One made-up problem."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        places = self.random.sample(range(len(FAMILIES)), len(FAMILIES))
        levels = {name: _level(place) for name, place in zip(FAMILIES, places, strict=True)}
        self.optimum = {
            (family, parameter.path): (self._optimum(family, parameter), self.random.expovariate(1 / WEIGHT))
            for family in FAMILIES
            for parameter in _priced(family)
        }
        self.floor = {name: level - self._cost(family_default(name)) for name, level in levels.items()}
        self.best = min(self.floor.values())

    def regret(self, config: RunConfig) -> float:
        return self.floor[config.model.family] + self._cost(config) - self.best

    def score(self, config: RunConfig) -> float:
        """The same for the same configuration, whenever it is trained."""
        noise = random.Random(f"noise/{self.seed}/{canonical_key(config)}").gauss(0, NOISE)
        return self.best + self.regret(config) + noise

    def _optimum(self, family: str, parameter: Parameter) -> float:
        default = _place(parameter, value_at(family_default(family), parameter.path))
        if parameter.kind == "choice":
            return (
                default if self.random.random() < 0.6 else self.random.randrange(len(parameter.choices or ()))
            )
        return min(1.0, max(0.0, default + self.random.gauss(0, 0.25)))

    def _cost(self, config: RunConfig) -> float:
        family, total = config.model.family, 0.0
        for parameter in _priced(family):
            if not is_active(config, parameter):
                continue
            optimum, weight = self.optimum[family, parameter.path]
            place = _place(parameter, value_at(config, parameter.path))
            wrong = (place != optimum) / 2 if parameter.kind == "choice" else 4 * (place - optimum) ** 2
            total += weight * wrong
        return total


def _priced(family: str) -> list[Parameter]:
    """Return what proposers draw: a family that counts in passes over the data has no number of steps."""
    default = family_default(family)
    return [p for p in parameters(family) if p.sampled and value_at(default, p.path) is not None]


def _level(place: int) -> float:
    """Read LEVELS at a place among all families, between two of them on the line through both."""
    at = place * (len(LEVELS) - 1) / (len(FAMILIES) - 1)
    below = min(int(at), len(LEVELS) - 2)
    return LEVELS[below] + (at - below) * (LEVELS[below + 1] - LEVELS[below])


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


def duration_of(config: RunConfig, seed: int) -> float:
    """Seconds that a training takes: log-normal around its family's own median, which `seed` decides."""
    median = random.Random(f"family/{seed}/{config.model.family}").lognormvariate(0, FAMILY_SPREAD)
    return median * random.Random(f"run/{seed}/{canonical_key(config)}").lognormvariate(0, RUN_SPREAD)


def simulate(
    proposer: Proposer, start: SearchView, score: Callable[[RunConfig], float | None], workers: int = 1
) -> tuple[list[RunView], float]:
    """Search with `workers` trainings at once, from a view without runs, event by event.

    Returns the runs in the order of their ends, and the time of the last.
    """
    finished: list[RunView] = []
    in_progress: list[tuple[float, int, RunView]] = []
    now, begun = 0.0, 0
    while len(finished) < start.max_runs:
        while len(in_progress) < workers and begun < start.max_runs:
            run_id, config = f"run_{begun:04d}", start.base
            if begun:
                running = tuple(run for _, _, run in sorted(in_progress, key=lambda entry: entry[1]))
                view = replace(start, run_id=run_id, runs=tuple(finished), running=running)
                changes = proposer.propose(view).changes
                config = apply_changes(start.base, changes, max_seq_len=start.max_seq_len, fit=start.fit)
            run = run_in_progress(run_id, config, {}, parent=None, proposer=proposer.name)
            heapq.heappush(in_progress, (now + duration_of(config, start.seed), begun, run))
            begun += 1
        now, _, run = heapq.heappop(in_progress)
        assert run.config is not None
        found = score(run.config)
        finished.append(replace(run, status="FAILED" if found is None else "OK", val_score=found))
    return finished, now


def start_of(seed: int) -> SearchView:
    """Return what a proposer sees of a made-up problem before its first run."""
    base = family_default("informer")
    return SearchView("run_0000", ForecastingTask(), base, (), (), (), None, NOISE, seed, RUNS)


def regrets_of(finished: list[RunView], objective: Objective) -> list[float]:
    """Return the regret of the best-scored run after every run."""
    regrets: list[float] = []
    lowest = math.inf
    for run in finished:
        assert run.config is not None and run.val_score is not None
        regrets.append(objective.regret(run.config) if run.val_score < lowest else regrets[-1])
        lowest = min(run.val_score, lowest)
    return regrets


def search(name: str, objective: Objective, seed: int) -> tuple[list[float], float]:
    """Regret of the best-scored run after every run, and seconds per proposal."""
    began = time.perf_counter()
    finished, _ = simulate(SAMPLERS[name](), start_of(seed), objective.score)
    return regrets_of(finished, objective), (time.perf_counter() - began) / (RUNS - 1)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=24, help="problems per proposer (default: 24)")
    seeds = parser.parse_args().seeds
    print("regret in 1e-4 after  " + "".join(f"{n:>9} runs" for n in SHOWN) + "   ms per proposal")
    found: dict[str, list[list[float]]] = {}
    for name in SAMPLERS:
        results = [search(name, Objective(seed), seed) for seed in range(seeds)]
        found[name] = [regrets for regrets, _ in results]
        cost = 1e3 * statistics.mean(seconds for _, seconds in results)
        print(_row(name, found[name]) + f"{cost:>18.1f}")
    pairs = zip(found["random_search"], found["tpe"], strict=True)
    print(_row("random_search - tpe", [[r - t for r, t in zip(*pair, strict=True)] for pair in pairs]))


def _row(label: str, regrets: list[list[float]]) -> str:
    cells = (mean_and_error([1e4 * values[n] for values in regrets]) for n in SHOWN)
    return f"{label:<22}" + "".join(f"{mean:>7.2f} ± {error:<4.2f}" for mean, error in cells)


if __name__ == "__main__":
    main()
