"""Which runs and baselines are handed over together: those that cannot be told from the best."""

from __future__ import annotations

from nas_agent_graph.selection.bootstrap import Difference
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.comparison import Comparison
from nas_agent_graph.selection.conclusion import Conclusion
from nas_agent_graph.selection.members import CLOSE, MOST_MEMBERS, choose_members

BEST = Candidate("run_0001", "linear", (0.100, 0.100, 0.100), (0.100, 0.100))


def difference(mean: float, margin: float, blocks: int = 20) -> Difference:
    """The best run's losses less the other's."""
    return Difference(mean, margin / 1.7, mean - margin, mean + margin, 168, blocks, 0.5)


def against(
    name: str, lead: float, margin: float = 0.002, *, blocks: int = 20, baseline: bool = False
) -> Comparison:
    return Comparison(name, baseline, lead, 0.0005, difference(-lead, margin, blocks))


def concluded(*comparisons: Comparison) -> Conclusion:
    return Conclusion(
        recommended=BEST.run_id,
        word="not distinguishable",
        configurations=1 + len(comparisons),
        first=BEST.scores[0],
        fresh=None,
        ties=(BEST.run_id,),
        ties_left_out=0,
        baseline_ties=(),
        comparisons=comparisons,
        resolution=None,
        block=168,
        independent_blocks=20,
    )


def run(number: int, loss: float, family: str) -> Candidate:
    return Candidate(f"run_{number:04d}", family, (loss,))


def names(*given: object) -> list[str]:
    return [one.name for one in choose_members(*given)]  # pyright: ignore[reportArgumentType]


def test_only_what_the_rows_cannot_tell_from_the_best_joins() -> None:
    conclusion = concluded(
        against("run_0002", 0.001), against("run_0003", 0.005), against("run_0004", 0.0015)
    )
    runs = [BEST, run(2, 0.101, "gru"), run(3, 0.105, "lstm"), run(4, 0.1015, "linear")]
    assert names(conclusion, runs, {}) == ["run_0001", "run_0002", "run_0004"]


def test_where_rows_cannot_tell_only_what_is_close_joins() -> None:
    """Four linear maps, three of them clearly worse, had six times the error of the best alone."""
    near, far = 0.1 * (1 + CLOSE / 2), 0.1 * (1 + 2 * CLOSE)
    conclusion = concluded(
        against("run_0002", near - 0.1, blocks=2), against("run_0003", far - 0.1, blocks=2)
    )
    runs = [BEST, run(2, near, "gru"), run(3, far, "lstm")]
    assert names(conclusion, runs, {}) == ["run_0001", "run_0002"]


def test_what_was_not_compared_stays_out() -> None:
    assert names(concluded(), [BEST, run(2, 0.1, "gru")], {"drift": 0.1}) == ["run_0001"]


def test_a_baseline_that_cannot_be_told_from_the_best_run_joins() -> None:
    conclusion = concluded(
        against("nlinear-336", 0.0005, baseline=True), against("drift", 0.09, baseline=True)
    )
    assert names(conclusion, [BEST], {"nlinear-336": 0.1005, "drift": 0.19}) == ["run_0001", "nlinear-336"]


def test_a_baseline_that_is_better_by_more_than_chance_is_handed_over_alone() -> None:
    conclusion = concluded(against("nlinear-336", -0.01, baseline=True), against("run_0002", 0.0001))
    runs = [BEST, run(2, 0.1001, "gru")]
    assert names(conclusion, runs, {"nlinear-336": 0.09}) == ["nlinear-336"]


def test_a_run_that_is_far_behind_a_baseline_does_not_join_it_where_rows_cannot_tell() -> None:
    conclusion = concluded(against("nlinear-36", -0.06, blocks=0, baseline=True))
    assert names(conclusion, [BEST], {"nlinear-36": 0.04}) == ["nlinear-36"]


def test_there_are_no_more_than_eight_and_every_family_comes_first() -> None:
    families = ["linear"] * 8 + ["gru", "lstm"]
    others = [run(number, 0.1 + number / 1e5, family) for number, family in enumerate(families, 2)]
    conclusion = concluded(*(against(one.run_id, one.mean - 0.1) for one in others))
    chosen = choose_members(conclusion, [BEST, *others], {})
    assert len(chosen) == MOST_MEMBERS
    assert {"gru", "lstm", "linear"} == {one.family for one in chosen}
    assert [one.loss for one in chosen] == sorted(one.loss for one in chosen)


def test_nothing_that_can_forecast_is_no_member() -> None:
    assert names(concluded(), [], {}) == []
