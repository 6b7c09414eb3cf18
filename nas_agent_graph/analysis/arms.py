"""The arms of a hybrid search: what the sampler and the language model have gained per training, and whose
turn it is.

A bandit with two arms on realised gain. The model begins with a small share, which its gains raise to a cap
and its failures lower to a floor: a bad model costs little, a good one gets a say. Everything is a function
of the view, so that a search that continues decides as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import quantiles

from nas_agent_graph.analysis.stagnation import FLAT_RUNS, is_stuck
from nas_agent_graph.search_view import BLAMELESS, PRUNED, Arm, RunView, SearchView
from nas_system.space.score import Direction, loss_of

START, FLOOR, CAP = 0.15, 0.10, 0.40
"""The model's share of the turns: at first, at least and at most."""
PRIOR_TRAININGS = 6
"""Trainings of average gain that each arm is credited with: few of them tell little."""
FAILS_TOO_OFTEN = 2.0
"""A model that fails so many times as often as the sampler loses half of its share."""
FEWEST_TO_FAIL = 4
"""Turns before a model's failures are held against it."""
LOWEST_FAILURE_RATE = 0.1
"""Of the sampler, for the comparison: a single failure of the model among ten is no reason."""


@dataclass(frozen=True)
class ArmRecord:
    """What one arm has done."""

    arm: Arm
    trainings: int = 0
    """That have ended by what they proposed; ends from outside do not count."""
    failed: int = 0
    poor: int = 0
    """With a score among the worst third of all."""
    led: int = 0
    """That took the lead."""
    gain: float = 0.0
    """Sum over its trainings of how far each moved the lead, between 0 and 1, in units of the spread of all
    scores."""
    wasted: int = 0
    """Turns that gave nothing to train."""

    @property
    def turns(self) -> int:
        return self.trainings + self.wasted

    @property
    def failure_rate(self) -> float:
        """Share of its turns that gave no score, or a poor one."""
        return (self.failed + self.poor + self.wasted) / self.turns if self.turns else 0.0


def arm_of(run: RunView) -> Arm | None:
    """Return the arm a run comes from; runs of before arms were written down go by who proposed them."""
    if run.arm is not None or run.is_base:
        return run.arm
    kind = run.proposer.partition(":")[0]
    return "model" if kind == "llm" else "sampler" if kind in ("tpe", "random_search") else None


def arm_records(runs: Sequence[RunView], direction: Direction) -> dict[Arm, ArmRecord]:
    """Return what each arm has gained over the finished runs, in the order in which they ended."""
    scale, poor_from = _spread(runs, direction)
    records: dict[Arm, ArmRecord] = {arm: ArmRecord(arm) for arm in ("default", "sampler", "model")}
    best = math.inf
    for run in runs:
        loss = math.inf if run.val_score is None else loss_of(run.val_score, direction)
        gain = min(max(best - loss, 0.0) / scale, 1.0) if math.isfinite(best - loss) else 0.0
        best, arm = min(best, loss), arm_of(run)
        if run.wasted:
            model = records["model"]
            records["model"] = replace(model, wasted=model.wasted + 1)
        if arm is not None and run.status not in BLAMELESS:
            record, failed = records[arm], run.val_score is None and run.status != PRUNED
            records[arm] = replace(
                record,
                trainings=record.trainings + 1,
                failed=record.failed + failed,
                poor=record.poor + (run.val_score is not None and loss > poor_from),
                led=record.led + run.accepted,
                gain=record.gain + gain,
            )
    return records


def share_of_model(view: SearchView) -> float:
    """Return the share of the turns that the model has earned."""
    records = arm_records(view.runs, view.task.direction)
    model, sampler = records["model"], records["sampler"]
    trainings = model.trainings + sampler.trainings
    average = (model.gain + sampler.gain) / trainings if trainings else 0.0
    share = START
    if average > 0:
        earned, other = (
            weight * (record.gain + PRIOR_TRAININGS * average) / (record.trainings + PRIOR_TRAININGS)
            for weight, record in ((START, model), (1 - START, sampler))
        )
        share = min(max(earned / (earned + other), FLOOR), CAP)
    return share / 2 if _fails(model, sampler) else share


def _fails(model: ArmRecord, sampler: ArmRecord) -> bool:
    """Return whether the model fails so much more often than the sampler that it loses half of its share."""
    rate = max(sampler.failure_rate, LOWEST_FAILURE_RATE)
    return model.turns >= FEWEST_TO_FAIL and model.failure_rate > FAILS_TOO_OFTEN * rate


def is_turn_of_model(view: SearchView) -> bool:
    """Return whether the model is to be asked now: when its share of the turns is due, and once whenever the
    search is flat."""
    turns = sorted(
        (run for run in (*view.runs, *view.running) if arm_of(run) in ("sampler", "model")),
        key=lambda run: run.run_id,
    )
    asked = [arm_of(run) == "model" or bool(run.wasted) for run in turns]
    if sum(asked) + 0.5 <= share_of_model(view) * (len(turns) + 1):
        return True
    records = arm_records(view.runs, view.task.direction)
    most = CAP / 2 if _fails(records["model"], records["sampler"]) else CAP
    allowed = sum(asked) + 1 <= most * (len(turns) + 1)
    return allowed and is_stuck(view) and not any(asked[-FLAT_RUNS:])


def wasted_in_a_row(view: SearchView) -> int:
    """Count the latest questions that gave nothing to train, back to the last one that did."""
    count = 0
    runs = (run for run in (*view.runs, *view.running) if run.run_id != view.run_id)
    for run in sorted(runs, key=lambda run: run.run_id, reverse=True):
        if arm_of(run) == "model":
            break
        count += bool(run.wasted)
    return count


def _spread(runs: Sequence[RunView], direction: Direction) -> tuple[float, float]:
    """Return the distance between the quartiles of all scores, 1 where there is none; and above which loss
    the worst third lies."""
    losses = [loss_of(run.val_score, direction) for run in runs if run.val_score is not None]
    if len(losses) < 2:
        return 1.0, math.inf
    low, _, high = quantiles(losses, n=4)
    return high - low or 1.0, quantiles(losses, n=3)[-1]
