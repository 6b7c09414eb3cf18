"""Which of two scores is better: errors are minimized, accuracies and the like maximized."""

from __future__ import annotations

from typing import Literal

Direction = Literal["minimize", "maximize"]


def is_better(score: float, than: float, direction: Direction) -> bool:
    """Return whether `score` is strictly better than the other one."""
    return gain_of(score, than, direction) > 0


def gain_of(score: float, than: float, direction: Direction) -> float:
    """Return by how much `score` is better than the other one; negative if it is worse."""
    return than - score if direction == "minimize" else score - than


def loss_of(score: float, direction: Direction) -> float:
    """Return the score as a number of which less is better."""
    return score if direction == "minimize" else -score
