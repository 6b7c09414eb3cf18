"""Tree-structured Parzen estimator, through Optuna's ask and tell.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", NeurIPS. Two levels: a draw that
favours the families with the best scores, then one study per family (multivariate: Falkner et al. 2018,
arXiv:1807.01774) over its parameters. Rebuilt from the finished runs at every proposal, so there is no
second store, and a search that continues after a crash proposes as if nothing had happened. Runs in
progress are running trials, which repel draws (the constant liar of Ginsbourger et al. 2010, "Kriging Is
Well-Suited to Parallelize Optimization"), and runs stopped early are pruned trials.

A draw moves a few parameters and keeps the others as the family's best run has them (Li et al. 2017,
"High Dimensional Bayesian Optimization using Dropout", arXiv:1802.05400): with some twenty-five
parameters and a good default, a draw that moves them all is almost never as good. Now and then one
moves all, so that no corner is out of reach.

A study over the families needs many runs to tell them apart: a family's bad draws count against it as
much as its good ones for it, while what matters is the best that it can do
(`benchmarks/made_up_objectives.py`).
"""

from __future__ import annotations

import copy
import datetime
import math
import random
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from nas_agent_graph.proposers.sampling import (
    draw_config,
    draw_until_new,
    seed_of,
    untried_default,
)
from nas_agent_graph.search_view import BLAMELESS, PRUNED, RUNNING, Proposal, RunView, SearchView
from nas_system.space import Parameter, RunConfig, active_values
from nas_system.space.sampling import sampled_parameters
from nas_system.space.score import Direction, loss_of

WINDOW = 60
"""Runs a study is filled with: the best third and the latest. More changes little and costs time."""
STARTUP_RUNS = 1
"""Runs before the model is trusted. Every family begins with a tried default, and draws near a good
configuration are worth more than draws from anywhere."""
MOVED_PARAMETERS = 3
"""Parameters that a draw moves away from the family's best run."""
FULL_DRAW_PROBABILITY = 0.1
"""Share of the draws that move all parameters."""
WIDE_DRAWS = 6
"""Draws of the model at random, with the training as it is, with which a search begins that has one family
only: elsewhere the families' defaults are what it begins broadly with."""


class TPEProposer:
    """A family by the best it has done, and within it Optuna's TPE over its parameters."""

    name = "tpe"

    def propose(self, view: SearchView) -> Proposal:
        default = untried_default(view, self.name)
        if default is not None:
            return default
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        runs = [_with_loss(run, view.task.direction) for run in view.runs if run.status not in BLAMELESS]
        seed = seed_of(view)
        generator = random.Random(seed)
        family = draw_family(runs, view.families, generator)
        same, running = (
            [run for run in candidates if run.family == family and run.config is not None]
            for candidates in (runs, view.running)
        )
        sampled = sampled_parameters(family, view.max_seq_len)
        wide = len(view.families) == 1 and len(same) + len(running) <= WIDE_DRAWS
        study = family_study(
            same, sampled, seed, startup_runs=WIDE_DRAWS + 1 if wide else STARTUP_RUNS, running=running
        )
        best = min(same or running, key=_loss, default=None)
        kept = {} if best is None or best.config is None else active_values(best.config)

        def draw() -> RunConfig:
            trial = study.ask()
            moved = _of_the_model(sampled, kept) if wide else draw_moved(sampled, kept, generator)

            def value_of(parameter: Parameter) -> Any:
                return _suggest(trial, parameter) if parameter.path in moved else kept[parameter.path]

            return draw_config(view, family, value_of)

        scored = sum(run.val_score is not None for run in same)
        why = (
            f"one of the first {WIDE_DRAWS} models, at random"
            if wide
            else f"TPE over {scored} scored runs of {family}"
        )
        return draw_until_new(view, self.name, draw, why)


def draw_family(runs: Sequence[RunView], families: Sequence[str], generator: random.Random) -> str:
    """Draw the next family: the n-th best gets a weight of 1/n^2, so that none is given up for good.

    By the place of its best score, not by the score itself: the scale of scores is the task's. With
    eleven families the best gets 64 % of the runs, the best three 87 %.
    """
    best = {
        family: min((_loss(run) for run in runs if run.family == family), default=math.inf)
        for family in families
    }
    ordered = sorted(families, key=best.__getitem__)
    return generator.choices(ordered, [1 / place**2 for place in range(1, len(ordered) + 1)])[0]


def _of_the_model(sampled: Sequence[Parameter], kept: Mapping[str, Any]) -> set[str]:
    """Return the parameters of the model, and any that the run to start from does not have."""
    return {p.path for p in sampled if p.group == "model" or p.path not in kept}


def draw_moved(sampled: Sequence[Parameter], kept: Mapping[str, Any], generator: random.Random) -> set[str]:
    """Choose the parameters to draw again: a few, and those that the run to start from does not have."""
    paths = [parameter.path for parameter in sampled]
    if generator.random() < FULL_DRAW_PROBABILITY:
        return set(paths)
    have = [path for path in paths if path in kept]
    return {
        *generator.sample(have, min(MOVED_PARAMETERS, len(have))),
        *(path for path in paths if path not in kept),
    }


def family_study(
    runs: Sequence[RunView],
    sampled: Sequence[Parameter],
    seed: int,
    startup_runs: int = STARTUP_RUNS,
    running: Sequence[RunView] = (),
) -> optuna.Study:
    """Build a study of one family's runs; a trial has the active ones of the sampled parameters.

    Scores are losses: lower is better. `runs` have ended, and those `running` are in progress.
    """
    study = _study(seed, startup_runs)
    known = {parameter.path: (parameter, _distribution(parameter)) for parameter in sampled}
    for run in (*_window(runs), *running):
        assert run.config is not None
        values = {path: value for path, value in active_values(run.config).items() if path in known}
        params = {path: _to_study(known[path][0], value) for path, value in values.items()}
        _add(study, params, {path: known[path][1] for path in values}, run)
    return study


class _RecordedTrial(FrozenTrial):
    """A run as a trial. Nobody changes it any more, so that the study need not copy what is in it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        return copy.copy(self)


def _study(seed: int, startup_runs: int) -> optuna.Study:
    with warnings.catch_warnings():
        # `multivariate` and `group` are marked experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=startup_runs, constant_liar=True
        )
    return optuna.create_study(direction="minimize", sampler=sampler)


def _add(
    study: optuna.Study, params: dict[str, Any], distributions: dict[str, BaseDistribution], run: RunView
) -> None:
    state, value, scores = TrialState.PRUNED, None, {}
    if run.status == RUNNING:
        state = TrialState.RUNNING
    elif run.val_score is not None and math.isfinite(run.val_score):
        state, value = TrialState.COMPLETE, run.val_score
    elif math.isfinite(_loss(run)):
        scores = {run.epochs: _loss(run)}
    # A failure is one pruned before its first score: behind those with a score, and those stopped later.
    now = datetime.datetime.now()  # Optuna demands it and the sampler does not read it
    study.add_trial(
        _RecordedTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=value,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params=params,
            distributions=distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values=scores,
        )
    )


def _window(runs: Sequence[RunView]) -> Sequence[RunView]:
    """Return at most WINDOW runs, in their order: the best third, filled up with the latest."""
    if len(runs) <= WINDOW:
        return runs
    by_loss = sorted(range(len(runs)), key=lambda i: _loss(runs[i]))
    kept = set(by_loss[: WINDOW // 3])
    for index in reversed(range(len(runs))):
        if len(kept) == WINDOW:
            break
        kept.add(index)
    return [runs[index] for index in sorted(kept)]


def _with_loss(run: RunView, direction: Direction) -> RunView:
    """Return the run with scores to be minimized, as everything below expects."""
    if direction == "minimize":
        return run
    score, so_far = (
        None if value is None else loss_of(value, direction) for value in (run.val_score, run.best_so_far)
    )
    return replace(run, val_score=score, best_so_far=so_far)


def _loss(run: RunView) -> float:
    """Return the score, or the best so far of a run stopped early.

    A run that failed through its own configuration is as bad as a run can be.
    """
    score = run.best_so_far if run.status == PRUNED else run.val_score
    return score if score is not None and math.isfinite(score) else math.inf


def _is_ordered(parameter: Parameter) -> bool:
    """Return whether it is a number with a grid: sampled by its place on it, neighbours stay neighbours."""
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
    """Convert a run's value to the study's terms; off-grid numbers go to the nearest place on the grid."""
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
