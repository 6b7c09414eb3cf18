"""Early stopping across runs (pruning): can this training still win?

Every rule looks at rungs, which are shares of the planned epochs: learning-rate schedules span the plan, so
epoch 3 of 15 and epoch 3 of 5 are different things. At a rung the best score so far is compared with what
the ended runs have reached. A decision is a function of the training's curve and of the ended runs;
pruned.json holds what it was made from, and `problem_of` says whether that supports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nas_system.files import finite
from nas_system.nas_agent.agent_state import RunInfo
from nas_system.nas_agent.pruned import MOST_EPOCHS, Pruned
from nas_system.space.score import Direction, is_better, loss_of

FIRST_RUNS = 5
"""No training is stopped before so many runs have ended with a score."""
MARGINS = {"1/4": 0.15, "1/2": 0.10}
"""Of the rule `margin`: by which share of the best run's error a training may be worse at a rung."""
BETTER_SHARE = 0.6
"""Of the rule `margin`: which share of all that came to the rung a training has to be worse than as well. A
margin alone is right where curves are flat after a quarter, as on ETTh1; on molecules errors fall to less
than half after that, and it stops the later best run (`benchmarks/stopping_rules.py`)."""
MEDIAN_RUNGS = ("1/4", "1/2", "3/4")
SMALLEST_ERROR = 0.05
"""Of accuracies: below it a share of the error is less than what a few validation samples change."""


@dataclass(frozen=True)
class Curve:
    """The validation scores of a training, epoch by epoch, and how many epochs it is planned for."""

    scores: tuple[float | None, ...]
    """None where a score is not finite."""
    planned_epochs: int

    @classmethod
    def of(cls, history: Mapping[str, Any] | None, metric: str) -> Curve | None:
        """Read the curve from history.json, which the training has written; None if it states no plan."""
        known = history or {}
        planned, epochs = known.get("planned_epochs"), known.get("epochs")
        if type(planned) is not int or not 1 <= planned <= MOST_EPOCHS or not isinstance(epochs, list):
            return None
        entries = [entry if isinstance(entry, dict) else {} for entry in epochs]
        return cls(tuple(finite(entry.get(metric)) for entry in entries), planned)

    def best_until(self, epoch: int, direction: Direction) -> float | None:
        """Return the best score of the first `epoch` epochs; None if none of them is finite."""
        known = [score for score in self.scores[:epoch] if score is not None]
        return min(known, key=lambda score: loss_of(score, direction)) if known else None


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, as the rules know it."""

    run_id: str
    score: float | None
    """None without a score: it failed, or was stopped early."""
    curve: Curve | None = None

    @classmethod
    def of(cls, run: RunInfo, history: Mapping[str, Any] | None, *, trainings: int = 1) -> EndedRun:
        """Make it from a run of the state and what its history.json holds.

        `trainings` is how many origins a run's score is the mean over: the curve is that of the last one.
        """
        score, curve = run.val_score if run.status == "OK" else None, Curve.of(history, run.metric)
        if score is not None and curve is not None and trainings > 1:
            # A training is compared while it is at its last origin, so with what others had reached there.
            # Origins exist for series alone, whose errors are minimised.
            score = curve.best_until(len(curve.scores), "minimize")
        return cls(run.run_id, score, curve)


@dataclass(frozen=True)
class Rung:
    """A training at a share of its planned epochs."""

    share: str
    epoch: int
    planned_epochs: int
    score: float
    """The best one so far."""


@dataclass(frozen=True)
class Threshold:
    """What a training has to reach at a rung, and where that comes from."""

    score: float
    reference: float
    compared: int
    """Ended runs that it was made from."""
    against: str | None = None
    margin: float = 0.0


@dataclass(frozen=True)
class Rule:
    """At which rungs a training is compared, and with what."""

    rungs: tuple[str, ...]
    threshold: Callable[[Rung, Sequence[EndedRun], Direction], Threshold | None]
    """Of a rung and the ended runs, of which at least FIRST_RUNS have a score."""


def evidence(
    rule: str, curve: Curve, ended: Sequence[EndedRun], direction: Direction, *, is_base: bool = False
) -> Pruned | None:
    """Return why `rule` stops the training with this curve so far; None if it goes on.

    The last rung that it has passed decides, by the epochs up to that rung alone: to look later changes
    nothing. Only a training that leads meanwhile is let go on. The base config and its repeats (`is_base`)
    are never stopped, and nothing is before FIRST_RUNS runs have ended with a score.
    """
    scores = [run.score for run in ended if run.score is not None]
    rung = last_rung(curve, RULES[rule].rungs, direction)
    if is_base or rung is None or len(scores) < FIRST_RUNS:
        return None
    now = curve.best_until(len(curve.scores), direction)
    threshold = RULES[rule].threshold(rung, ended, direction)
    if threshold is None or now is None or not is_better(threshold.score, rung.score, direction):
        return None
    if all(is_better(now, score, direction) for score in scores):
        return None
    return Pruned(
        rule=rule,
        rung=rung.share,
        epoch=rung.epoch,
        planned_epochs=rung.planned_epochs,
        direction=direction,
        score=rung.score,
        threshold=threshold.score,
        reference=threshold.reference,
        against=threshold.against,
        margin=threshold.margin,
        compared=threshold.compared,
    )


def last_rung(curve: Curve, shares: Sequence[str], direction: Direction) -> Rung | None:
    """Return the last of the rungs, given in order, that the training has passed: never its last epoch."""
    for share in reversed(shares):
        epoch = epoch_of(share, curve.planned_epochs)
        if epoch <= len(curve.scores) and epoch < curve.planned_epochs:
            best = curve.best_until(epoch, direction)
            return None if best is None else Rung(share, epoch, curve.planned_epochs, best)
    return None


def epoch_of(share: str, planned_epochs: int) -> int:
    """Return how many epochs a rung such as `1/4` is, rounded up."""
    numerator, denominator = map(int, share.split("/"))
    return -(-planned_epochs * numerator // denominator)


def worse_by(margin: float, score: float, direction: Direction) -> float | None:
    """Return the score whose error is larger by a share of `margin`; None where `score` is no error.

    What is minimised (mse, mae) is an error itself, if it is above 0. Of what is maximised (accuracies) the
    best possible is 1, and what a score lacks of it is the error: at .80, .76 makes 20 % more errors. Of an
    accuracy itself a share would mean nothing: 15 % less than .95 is .81, with four times the errors.
    """
    if direction == "minimize":
        return score * (1.0 + margin) if score > 0 else None
    return score - margin * max(1.0 - score, SMALLEST_ERROR) if score <= 1 else None


def reached_by(ended: Sequence[EndedRun], share: str, direction: Direction) -> list[float]:
    """Return what the ended runs had reached at the same share of their plans, the best score first."""
    reached = []
    for run in ended:
        if run.curve is None:
            continue
        epoch = epoch_of(share, run.curve.planned_epochs)
        # A run with a score that ended before, as patience makes it, stays at its best.
        if run.score is not None or len(run.curve.scores) >= epoch:
            best = run.curve.best_until(epoch, direction)
            reached += [] if best is None else [best]
    return sorted(reached, key=lambda score: loss_of(score, direction))


def _margin(rung: Rung, ended: Sequence[EndedRun], direction: Direction) -> Threshold | None:
    """The best run's score, worse by the rung's margin; but not a score with which a training would be in the
    better part of all that had come to this rung."""
    reached = reached_by(ended, rung.share, direction)
    scored = [
        (loss_of(run.score, direction), run.run_id, run.score) for run in ended if run.score is not None
    ]
    _, best_run, best = min(scored)
    margin = worse_by(MARGINS[rung.share], best, direction)
    if margin is None or len(reached) < FIRST_RUNS:
        return None
    rank = reached[int(BETTER_SHARE * len(reached))]
    threshold = max(margin, rank, key=lambda score: loss_of(score, direction))
    return Threshold(threshold, best, len(reached), best_run, MARGINS[rung.share])


def _median(rung: Rung, ended: Sequence[EndedRun], direction: Direction) -> Threshold | None:
    """The median of what the ended runs had reached at this rung."""
    reached = reached_by(ended, rung.share, direction)
    if len(reached) < FIRST_RUNS:
        return None
    middle = median(reached)
    return Threshold(middle, middle, len(reached))


RULES = {
    "margin": Rule(tuple(MARGINS), _margin),
    "median": Rule(MEDIAN_RUNGS, _median),
}
"""The rules by name."""


def problem_of(pruned: Pruned) -> str | None:
    """Return why the evidence does not support the stop; None if it does."""
    rule = RULES.get(pruned.rule)
    if rule is None or pruned.rung not in rule.rungs:
        return f"there is no rule {pruned.rule} with a rung {pruned.rung}"
    if pruned.epoch != epoch_of(pruned.rung, pruned.planned_epochs) or pruned.epoch >= pruned.planned_epochs:
        return f"epoch {pruned.epoch} of {pruned.planned_epochs} is not the rung {pruned.rung}"
    if pruned.compared < FIRST_RUNS:
        return f"only {pruned.compared} runs had a score, and none is stopped before {FIRST_RUNS} have one"
    least = pruned.reference
    if pruned.rule == "margin":
        least = worse_by(MARGINS[pruned.rung], pruned.reference, pruned.direction)
    if least is None or is_better(pruned.threshold, least, pruned.direction):
        return f"its threshold {pruned.threshold:.6g} is better than what its reference gives"
    if not is_better(pruned.threshold, pruned.score, pruned.direction):
        return f"its score {pruned.score:.6g} is not worse than the threshold {pruned.threshold:.6g}"
    return None
