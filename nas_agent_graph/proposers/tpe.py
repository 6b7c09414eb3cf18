"""Tree-structured Parzen estimator, through Optuna's ask and tell.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS. Two levels:
one small study picks the family, one per family (multivariate: Falkner et al. 2018) its
parameters. Both are rebuilt from the finished runs at every proposal, so there is no second
store, and a search that continues after a crash proposes as if nothing had happened.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from nas_agent_graph.context import Proposal, RunView, SearchView
from nas_agent_graph.proposers.random_search import draw_config
from nas_agent_graph.proposers.sampling import (
    draw_until_new,
    families_for,
    seed_of,
    untried_default,
)
from nas_system.space import Parameter, RunConfig, active_values, parameters

WINDOW = 60
"""Runs a study is filled with: the best third and the latest. More changes little and costs time."""
STARTUP_RUNS = 1
"""Runs before the model is trusted. Every family begins with a tried default, and draws near a good
configuration are worth more than draws from anywhere."""
BLAMELESS = ("LOST", "KILLED", "STOPPED", "DISK_FULL", "MISSING")
"""Ends that say nothing about the configuration: the sampler does not see them."""


class TPEProposer:
    """Optuna's TPE over the families and, within the chosen one, over its parameters."""

    name = "tpe"

    def propose(self, view: SearchView) -> Proposal:
        default = untried_default(view, self.name)
        if default is not None:
            return default
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        runs = [run for run in view.runs if run.config is not None and run.status not in BLAMELESS]
        seed = seed_of(view)
        families = families_for(view)
        family = _ask_family(runs, families, seed) if len(families) > 1 else families[0]
        same = [run for run in runs if run.family == family]
        study = _family_study(same, family, seed)

        def draw() -> RunConfig:
            trial = study.ask()
            return draw_config(view.base, family, lambda parameter: _suggest(trial, parameter))

        scored = sum(run.val_mse is not None for run in same)
        return draw_until_new(view, self.name, draw, f"TPE over {scored} scored runs of {family}")


def _ask_family(runs: list[RunView], families: list[str], seed: int) -> str:
    """Which family next: a one-parameter study over all runs."""
    choices: dict[str, BaseDistribution] = {"family": CategoricalDistribution(families)}
    study = _study(seed)
    for run in _window(runs):
        if run.family in families:
            _add(study, {"family": run.family}, choices, run)
    return study.ask(choices).params["family"]


def _family_study(runs: list[RunView], family: str, seed: int) -> optuna.Study:
    study = _study(seed)
    known = {p.path: p for p in parameters(family) if p.sampled}
    for run in _window(runs):
        assert run.config is not None
        values = {path: value for path, value in active_values(run.config).items() if path in known}
        params = {path: _to_study(known[path], value) for path, value in values.items()}
        _add(study, params, {path: _distribution(known[path]) for path in values}, run)
    return study


def _study(seed: int) -> optuna.Study:
    with warnings.catch_warnings():
        # `multivariate` and `group` are marked experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=STARTUP_RUNS)
    return optuna.create_study(direction="minimize", sampler=sampler)


def _add(
    study: optuna.Study, params: dict[str, Any], distributions: dict[str, BaseDistribution], run: RunView
) -> None:
    # A run that failed through its own configuration is as bad as a run can be.
    value = run.val_mse if run.val_mse is not None else float("inf")
    study.add_trial(
        create_trial(params=params, distributions=distributions, value=value, state=TrialState.COMPLETE)
    )


def _window(runs: list[RunView]) -> list[RunView]:
    """At most WINDOW runs, in their order: the best third, filled up with the latest."""
    if len(runs) <= WINDOW:
        return runs
    by_score = sorted(range(len(runs)), key=lambda i: _score(runs[i]))
    kept = set(by_score[: WINDOW // 3])
    for index in reversed(range(len(runs))):
        if len(kept) == WINDOW:
            break
        kept.add(index)
    return [runs[index] for index in sorted(kept)]


def _score(run: RunView) -> float:
    return run.val_mse if run.val_mse is not None else float("inf")


def _is_ordered(parameter: Parameter) -> bool:
    """Numbers with a grid are sampled by their place on it, so that neighbours stay neighbours."""
    return parameter.kind != "choice" and parameter.choices is not None


def _distribution(parameter: Parameter) -> BaseDistribution:
    if _is_ordered(parameter):
        assert parameter.choices is not None
        return IntDistribution(0, len(parameter.choices) - 1)
    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.choices or ())
    assert parameter.low is not None and parameter.high is not None
    if parameter.kind == "int":
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _to_study(parameter: Parameter, value: Any) -> Any:
    """A run's value in the study's terms; off-grid numbers go to the nearest place on the grid."""
    if not _is_ordered(parameter):
        return value
    grid = list(parameter.choices or ())
    place = bisect_left(grid, value)
    neighbours = [i for i in (place - 1, place) if 0 <= i < len(grid)]
    return min(neighbours, key=lambda i: abs(grid[i] - value))


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    distribution = _distribution(parameter)
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(parameter.path, distribution.choices)
    if isinstance(distribution, FloatDistribution):
        value = trial.suggest_float(parameter.path, distribution.low, distribution.high, log=distribution.log)
        return float(f"{value:.4g}")
    assert isinstance(distribution, IntDistribution)
    value = trial.suggest_int(parameter.path, distribution.low, distribution.high, log=distribution.log)
    return parameter.choices[value] if _is_ordered(parameter) and parameter.choices else value
