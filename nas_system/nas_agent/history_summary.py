"""Learning curves as sentences: what a person or a language model needs to know about a training.

Only training and validation curves are read. Test numbers are for people, and must not reach
whoever decides what to train next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas_system.files import finite
from nas_system.space.score import Direction, loss_of

Flag = Literal["improving", "converged", "overfit", "flat", "diverged", "too_short", "closed_form"]

TOO_SHORT = "Too short to evaluate."
SHORTEST_CURVE = 3
"""Fewer epochs than this show no tendency."""
OVERFIT_RISE = 0.05
"""Validation this much (relative) above its minimum at the end; if training rose as much, it diverged."""
FLAT_GAIN = 0.02
"""Less improvement (relative) than this from the first epoch to the best is none."""
LATE_GAIN = 0.01
"""More improvement (relative) than this over the last third means that more epochs would help."""
DIVERGED_GROWTH = 1.5
"""Training error grown by this factor since the first epoch."""


@dataclass(frozen=True)
class CurveDigest:
    """A learning curve in a few numbers; None where there is no finite number."""

    epochs: int
    """Epochs recorded."""
    best_epoch: int | None
    first_val: float | None
    best_val: float | None
    last_val: float | None
    late_slope: float | None
    """Relative change of the validation score per epoch over the last third; negative is better."""
    gap_at_best: float | None
    """Validation minus training score at the best epoch."""
    flag: Flag


@dataclass(frozen=True)
class _Curve:
    """One score over the epochs; a score that is missing, NaN or infinite is None."""

    epochs: tuple[int, ...]
    train: tuple[float | None, ...]
    val: tuple[float | None, ...]
    ends_broken: bool
    """Whether the last epoch has a score that is no finite number (one that is absent does not count)."""
    direction: Direction

    @property
    def best(self) -> int | None:
        """Index of the best validation score, the first of equals."""
        losses = [
            (loss_of(value, self.direction), at) for at, value in enumerate(self.val) if value is not None
        ]
        return min(losses)[1] if losses else None

    def losses(self, values: Sequence[float | None]) -> list[float]:
        """Return the finite scores as something to minimise."""
        return [loss_of(value, self.direction) for value in values if value is not None]


def metric_in(history: Mapping[str, Any]) -> str:
    """Return the metric whose curves `history` holds, without the part: `mse`, `mae`, `accuracy`."""
    stated = history.get("metric")
    if isinstance(stated, str) and re.fullmatch(r"val_[a-z0-9_]{1,40}", stated):
        return stated.removeprefix("val_")
    names = {name for entry in _entries(history) for name in entry}
    known = (name for name in ("mse", "mae") if f"val_{name}" in names or f"train_{name}" in names)
    return next(known, "mse")


def direction_in(history: Mapping[str, Any]) -> Direction:
    """Return which way the metric of `history` is better."""
    return "maximize" if history.get("direction") == "maximize" else "minimize"


def curve_digest(history: Mapping[str, Any], metric: str | None = None) -> CurveDigest:
    """Return the digest of `history["epochs"]`, by `train_<metric>` and `val_<metric>`.

    Without `metric` it is the one that the history has.
    """
    curve = _curve(history, metric or metric_in(history))
    known = [value for value in curve.val if value is not None]
    best = curve.best
    best_val = None if best is None else curve.val[best]
    train_at_best = None if best is None else curve.train[best]
    losses = curve.losses(curve.val)
    return CurveDigest(
        epochs=len(curve.epochs),
        best_epoch=_best_epoch(history, curve),
        first_val=known[0] if known else None,
        best_val=best_val,
        last_val=known[-1] if known else None,
        late_slope=_late_slope(losses),
        gap_at_best=None if best_val is None or train_at_best is None else best_val - train_at_best,
        flag="closed_form" if _is_solved(history, curve) else _flag(curve, losses),
    )


def _is_solved(history: Mapping[str, Any], curve: _Curve) -> bool:
    """Whether nothing was trained after a closed form."""
    return history.get("closed_form") is True and len(curve.epochs) == 1


def build_history_summary(history: Mapping[str, Any], metric: str | None = None) -> str:
    """The curves in at most 300 characters; the same history always gives the same words.

    "20 epochs, best_epoch=17. train_mse decreased from 1.02 to 0.24. val_mse started at 1.05,
    reached minimum of 0.32 at epoch 17, ended at 0.35. Overfit: val_mse rose 9% after its minimum."
    """
    metric = metric or metric_in(history)
    curve, digest = _curve(history, metric), curve_digest(history, metric)
    if not digest.epochs:
        return "No epochs recorded."
    head = f"{digest.epochs} epoch" + "s" * (digest.epochs != 1)
    if digest.best_epoch is not None:
        head += f", best_epoch={digest.best_epoch}"
    sentences = [
        head + ".",
        _plan_sentence(history),
        "" if digest.flag == "closed_form" else _training_sentence(curve, metric),
        _validation_sentence(curve, metric),
    ]
    sentences.append(_flag_sentence(digest, metric, history))
    broken = sum(value is None for value in curve.val)
    if broken and digest.best_val is not None:
        sentences.append(f"{broken} of {digest.epochs} epochs have no finite val_{metric}.")
    return " ".join(sentence for sentence in sentences if sentence)


def _curve(history: Mapping[str, Any], metric: str) -> _Curve:
    entries = _entries(history)
    numbers = (_count(entry.get("epoch")) for entry in entries)
    train, val = f"train_{metric}", f"val_{metric}"
    last = entries[-1] if entries else {}
    return _Curve(
        epochs=tuple(index if number is None else number for index, number in enumerate(numbers)),
        train=tuple(finite(entry.get(train)) for entry in entries),
        val=tuple(finite(entry.get(val)) for entry in entries),
        ends_broken=any(name in last and finite(last[name]) is None for name in (train, val)),
        direction=direction_in(history),
    )


def _entries(history: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    recorded = history.get("epochs")
    return [entry for entry in (recorded if isinstance(recorded, list) else ()) if isinstance(entry, Mapping)]


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 10**6 else None


def _best_epoch(history: Mapping[str, Any], curve: _Curve) -> int | None:
    stated = _count(history.get("best_epoch"))
    if stated is not None or curve.best is None:
        return stated
    return curve.epochs[curve.best]


def _late_slope(losses: Sequence[float]) -> float | None:
    """Return the least-squares slope of the last third, relative to its mean."""
    if len(losses) < SHORTEST_CURVE:
        return None
    late = losses[-max(2, len(losses) // 3) :]
    middle, mean = (len(late) - 1) / 2, sum(late) / len(late)
    if mean == 0:
        return 0.0
    covariance = sum((index - middle) * (value - mean) for index, value in enumerate(late))
    return covariance / sum((index - middle) ** 2 for index in range(len(late))) / abs(mean)


def _flag(curve: _Curve, losses: Sequence[float]) -> Flag:
    """The first that applies, worst news first."""
    if _has_diverged(curve):
        return "diverged"
    if len(losses) < SHORTEST_CURVE:
        return "too_short"
    first, best, last = losses[0], min(losses), losses[-1]
    if last - best > OVERFIT_RISE * abs(best):
        return "diverged" if _training_rose_too(curve) else "overfit"
    if first - best < FLAT_GAIN * abs(first):
        return "flat"
    before_last_third = min(losses[: -max(1, len(losses) // 3)])
    if before_last_third - last > LATE_GAIN * abs(before_last_third):
        return "improving"
    return "converged"


def _has_diverged(curve: _Curve) -> bool:
    train = curve.losses(curve.train)
    # A metric that is maximised, such as an accuracy, is bounded: it does not grow without limit.
    grown = len(train) > 1 and train[0] > 0 and train[-1] > DIVERGED_GROWTH * train[0]
    return curve.ends_broken or grown


def _training_rose_too(curve: _Curve) -> bool:
    at_best = None if curve.best is None else curve.train[curve.best]
    at_end = curve.train[-1]
    if at_best is None or at_end is None:
        return False
    best, end = curve.losses((at_best, at_end))
    return end - best > OVERFIT_RISE * abs(best)


def _plan_sentence(history: Mapping[str, Any]) -> str:
    planned, wanted = _count(history.get("planned_steps")), _count(history.get("wanted_steps"))
    if planned is None or wanted is None or planned >= wanted:
        return ""
    return f"Planned for {planned:,} of the {wanted:,} steps it asks for."


def _training_sentence(curve: _Curve, metric: str) -> str:
    known = [value for value in curve.train if value is not None]
    if not known:
        return ""
    first, last = f"{known[0]:.4g}", f"{known[-1]:.4g}"
    if first == last:
        return f"train_{metric} stayed at {first}."
    verb = "decreased" if known[-1] < known[0] else "increased"
    return f"train_{metric} {verb} from {first} to {last}."


def _validation_sentence(curve: _Curve, metric: str) -> str:
    known = [value for value in curve.val if value is not None]
    if curve.best is None:
        return f"No finite val_{metric} was recorded."
    if len(known) == 1:
        return f"val_{metric} was {known[0]:.4g}."
    extreme = "minimum" if curve.direction == "minimize" else "maximum"
    return (
        f"val_{metric} started at {known[0]:.4g}, reached {extreme} of {curve.val[curve.best]:.4g} "
        f"at epoch {curve.epochs[curve.best]}, ended at {known[-1]:.4g}."
    )


def _flag_sentence(digest: CurveDigest, metric: str, history: Mapping[str, Any]) -> str:
    if digest.epochs > 1 and digest.best_epoch == 0 and history.get("closed_form") is True:
        return "The closed form at the start stayed the best: the network added nothing."
    if digest.flag == "overfit" and digest.best_val and digest.last_val is not None:
        change = (digest.last_val - digest.best_val) / abs(digest.best_val)
        verb, extreme = ("rose", "minimum") if change > 0 else ("fell", "maximum")
        return (
            f"Overfit: val_{metric} {verb} {abs(change):.0%} after its {extreme}."
            if change < 100
            else "Overfit."
        )
    return {
        "improving": "Still improving at the end.",
        "converged": "Converged.",
        "overfit": "Overfit.",
        "flat": f"Flat: val_{metric} hardly improved.",
        "diverged": "Diverged.",
        "too_short": TOO_SHORT,
        "closed_form": "Fitted in closed form.",
    }[digest.flag]
