"""Which of two scores is better: a metric is minimized (an error) or maximized (an accuracy)."""

from __future__ import annotations

from typing import Literal

Direction = Literal["minimize", "maximize"]


def loss_of(score: float, direction: Direction) -> float:
    """Return a number that is lower for a better score: the score itself, or its negative."""
    return score if direction == "minimize" else -score


def gain_of(score: float, than: float, direction: Direction) -> float:
    """Return by how much `score` is better than `than`; negative if it is worse."""
    return loss_of(than, direction) - loss_of(score, direction)


def is_better(score: float, than: float, direction: Direction) -> bool:
    """Return whether `score` is strictly better than `than`."""
    return gain_of(score, than, direction) > 0
