"""Scores that may be minimised or maximised: the one place that knows which way is better."""

from __future__ import annotations

from typing import Literal

Direction = Literal["minimize", "maximize"]


def is_better(score: float, than: float, direction: Direction) -> bool:
    """Return whether `score` is strictly better than `than`."""
    return loss_of(score, direction) < loss_of(than, direction)


def loss_of(score: float, direction: Direction) -> float:
    """Return `score` as something to minimise: negated where the metric is maximised."""
    return score if direction == "minimize" else -score


def gain_of(score: float, than: float, direction: Direction) -> float:
    """Return by how much `score` is better than `than`; negative if it is worse."""
    return loss_of(than, direction) - loss_of(score, direction)
