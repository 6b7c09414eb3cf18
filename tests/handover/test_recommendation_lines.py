"""What a search says of what it recommends."""

from __future__ import annotations

from typing import Any

from nas_agent_graph.text.recommended import recommendation_lines
from nas_system.nas_agent.recommended import Cost, Member, Recommended, Training


def recommended(seeds: int, **fields: Any) -> Recommended:
    """Return a run that is the mean over so many seeds, with a refit of one."""
    names = ["runs/run_0003", *(f"runs/run_0003/repeats/seed_{number}" for number in range(1, seeds))]
    trainings = tuple(Training(folder=name, sha256="0" * 64) for name in names)
    refit = Training(folder="runs/run_0003/refits/val_seed_0", sha256="0" * 64)
    return Recommended(
        recommended="run_0003",
        members=(Member(name="run_0003", kind="run", weight=1.0, trainings=trainings),),
        refits={"val": {"run_0003": (refit,)}},
        evaluation={"as_searched": {"test": {"mse": 0.2}}, "refitted": {"test": {"mse": 0.1}}},
        **fields,
    )


def test_the_mean_of_seeds_stands_next_to_the_first_one() -> None:
    lines = recommendation_lines(recommended(3, first_seed={"test": 0.15}), "val_mse")
    assert lines[1] == (
        "Test mse 0.20000 as searched, the mean of 3 seeds (0.15000 with its first seed alone, as in the "
        "leaderboard); 0.10000 refitted on train and validation part."
    )


def test_one_seed_is_no_mean() -> None:
    lines = recommendation_lines(recommended(1), "val_mse")
    assert lines[1] == "Test mse 0.20000 as searched; 0.10000 refitted on train and validation part."


def test_what_refits_took_is_said_and_what_was_not_begun() -> None:
    cost = Cost(refit_sec=12.0, evaluation_sec=3.0)
    lines = recommendation_lines(recommended(1, cost=cost, not_begun=2), "val_mse")
    assert lines[2] == ("Refits took 12 s of compute; 2 were not begun, for lack of time; evaluations 3.0 s.")
