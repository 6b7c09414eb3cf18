"""The leaderboard on small searches made by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from builders import run_info, task_info

from nas_agent_graph.show.leaderboard import leaderboard, leaderboard_lines, rows_of
from nas_system.nas_agent.agent_state import AgentState, RunInfo, RunInProgress, add_run
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo

SOURCE = {"name": "ETTh1", "kind": "file", "path": None, "sha256": "f18de3ad269cef59", "notice": None}
BASELINES: list[dict[str, Any]] = [
    {"name": "last-value", "val_mse": 0.0696, "test_mse": 0.0343},
    {"name": "nlinear-336", "val_mse": 0.049, "test_mse": 0.026},
]
INFO = task_info(BASELINES)


def run(number: int, val_mse: float | None = None, **fields: Any) -> RunInfo:
    return run_info(number, val_mse, **{"proposer": "tpe", **fields})


def search(*runs: RunInfo, **fields: Any) -> AgentState:
    """Return a search that leads by a margin; `test_ended_search.py` has those that lead by means."""
    state = AgentState(max_runs=10, task=ForecastingTask(), data=SOURCE, leads_by="margin")
    for one in runs:
        state = add_run(state, one)
    return state.replace(**fields)


SMALL = search(
    run(0, 0.08, accepted=True, proposer="base config", test_mse=0.04),
    run(1, 0.055, accepted=True, test_mse=0.03, family="linear", seconds=0.9),
    run(2, 0.054, test_mse=0.031, seconds=130.0),
    run(3, status="OOM_GPU", cause="CUDA out of memory: reduce batch_size"),
    noise=0.002,
    noise_runs=3,
    hold_out={"run_0001": 0.0312},
)

PAGE = """\
4 of 10 runs finished
Task: forecast OT, 24 steps ahead; lowest val_mse on scaled data wins
Data: ETTh1 (file, sha256 f18de3ad269c...)

                               test (not used by the search)
#   run          family    val_mse     delta  noise      mse  by            sec
1   nlinear-336  baseline  0.04900  -0.00600   -3.0  0.02600
2   run_0002     informer  0.05400  -0.00100   -0.5  0.03100  tpe           130
3 * run_0001     linear    0.05500                   0.03000  tpe           0.9
4   last-value   baseline  0.06960  +0.01460   +7.3  0.03430
5 + run_0000     informer  0.08000  +0.02500  +12.5  0.04000  base config  12.0
* best run   + accepted when it was evaluated   delta: val_mse minus the best
    run's   noise: delta / noise

1 without a score: OOM_GPU 1
  run       end      family    cause
  run_0003  OOM_GPU  informer  CUDA out of memory: reduce batch_size

Noise 0.00200 over 3 seeds (standard deviation of the base config's val_mse)
The best run run_0001 (0.05500) is WORSE than simple forecasts: nlinear-336 by
  0.00600
Best run on the hold-out set: run_0001 mse 0.03120"""


def test_a_small_search_fills_one_page() -> None:
    assert leaderboard(SMALL, INFO) == PAGE


PRUNED = (
    "stopped early at epoch 4 of 8 at val_mse 0.067100, 22 % above run_0001 (rule margin)",
    "stopped early at epoch 5 of 20 at val_mse 0.090000, 64 % above run_0001 (rule margin)",
)


def test_runs_that_were_stopped_early_are_listed_and_counted_and_are_no_failures() -> None:
    pruned = [run(4 + number, status="PRUNED", cause=cause) for number, cause in enumerate(PRUNED)]
    page = leaderboard(search(*SMALL.runs, *pruned), INFO, width=100)
    section = """\
2 stopped early:
  run       family    at
  run_0004  informer  epoch 4 of 8 at val_mse 0.067100, 22 % above run_0001 (rule margin)
  run_0005  informer  epoch 5 of 20 at val_mse 0.090000, 64 % above run_0001 (rule margin)

1 without a score: OOM_GPU 1
"""
    assert section in page
    assert "2 runs stopped early, up to 19 epochs saved" in page
    lines = leaderboard_lines(search(*pruned), INFO)
    assert not [line for line in lines if "run_0004" in line.text and line.style]
    assert "without a score" not in "".join(line.text for line in lines)
    assert "1 run stopped early, up to 4 epochs saved" in leaderboard(search(pruned[0]), INFO)
    assert "stopped early" not in leaderboard(SMALL, INFO)


def test_of_many_runs_that_were_stopped_early_the_latest_are_listed() -> None:
    pruned = [run(number, status="PRUNED", cause=PRUNED[0]) for number in range(200)]
    page = leaderboard(search(*pruned), INFO)
    assert "200 stopped early, the latest:" in page
    assert page.count("22 %") == 5


def test_runs_and_baselines_are_ranked_together() -> None:
    names = [row.name for row in rows_of(SMALL, INFO)]
    assert names == ["nlinear-336", "run_0002", "run_0001", "last-value", "run_0000"]


def test_a_tie_is_not_a_victory_over_a_baseline() -> None:
    tied = search(run(0, 0.049, accepted=True))
    assert [row.name for row in rows_of(tied, INFO)][:2] == ["nlinear-336", "run_0000"]
    assert "WORSE" not in leaderboard(tied, INFO)


def test_a_defeat_smaller_than_the_noise_is_no_defeat_and_no_victory() -> None:
    near = search(run(0, 0.0495, accepted=True), noise=0.001, noise_runs=3)
    page = leaderboard(near, INFO, width=120)
    assert "does not beat simple forecasts: nlinear-336 by 0.00050 (less than the noise)" in page
    assert "WORSE" in leaderboard(near.replace(noise=0.0004), INFO, width=120)


def test_without_noise_the_page_says_that_gains_may_be_luck() -> None:
    page = leaderboard(SMALL.replace(noise=None, noise_runs=0), INFO, width=100)
    assert "Noise unknown, counted as 0" in page
    assert "--repeat-base 2" in page
    assert "delta / noise" not in page
    assert "delta      mse" in page


def test_a_synthetic_stand_in_is_shouted() -> None:
    notice = "ETTh1.csv is not here: a GENERATED series stands in for it"
    source = {**SOURCE, "name": "synthetic", "kind": "synthetic", "notice": notice}
    page = leaderboard(SMALL.replace(data=source), INFO)
    assert "!!! SYNTHETIC STAND-IN, NOT THE REAL DATA !!!" in page
    assert "GENERATED" in page
    assert "!!!" not in leaderboard(SMALL, INFO)


def test_the_hold_out_score_stands_beside_those_of_the_baselines() -> None:
    rows = [{**row, "hold_out_mse": 0.02 + index / 100} for index, row in enumerate(BASELINES)]
    page = leaderboard(SMALL, task_info(rows), width=120)
    assert "run_0001 mse 0.03120 (there: last-value 0.02000, nlinear-336 0.03000)" in page
    assert "not scored yet (once, when the search ends)" in leaderboard(SMALL.replace(hold_out={}), INFO)
    earlier = SMALL.replace(hold_out={"run_0000": 0.05})
    assert "run_0000 mse 0.05000 (the best run then" in leaderboard(earlier, INFO)


def test_without_facts_the_page_says_that_nothing_can_be_compared() -> None:
    for info in (None, task_info("nonsense"), task_info([3, {"name": "x", "val_mse": "y"}])):
        page = leaderboard(SMALL, info)
        assert "run_0001" in page
    assert "No baselines" in leaderboard(SMALL, None)
    assert "No baselines" in leaderboard(SMALL, task_info("nonsense"))


def test_a_file_of_an_older_version_gives_the_same_page() -> None:
    rows = [{**row, "sealed_mse": 0.02 + index / 100} for index, row in enumerate(BASELINES)]
    new = task_info([{**row, "hold_out_mse": 0.02 + index / 100} for index, row in enumerate(BASELINES)])
    record = {"schema": 1, "task": new.task.model_dump(), "source": new.source.to_json(), "references": rows}
    old = TaskInfo.from_json(record | {"windows": {"train": 9, "sealed": 3, "max_seq_len": 720}})
    assert leaderboard(SMALL, old) == leaderboard(SMALL, new)
    none_kept = TaskInfo.from_json(record | {"windows": {"train": 9, "sealed": 0}})
    assert "This split has no hold-out" in leaderboard(SMALL, none_kept)


def test_an_empty_search_shows_what_has_to_be_beaten() -> None:
    page = leaderboard(search(), INFO)
    assert "No run has finished yet." in page
    assert "last-value   baseline  0.06960" in page


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    state = search(
        *SMALL.runs,
        run(4, 0.06, family="seq2seq_attention", proposer="random_search", seconds=86_400.0),
        run(5, 0.9e9, accepted=False),
        run(6, status="FAILED", cause="x" * 200),
        noise=1e-5,
    )
    lines = leaderboard(state, INFO, width=width, changes=lambda run_id: "d_model=64, " * 20).splitlines()
    assert max(map(len, lines)) <= width
    assert any("run_0004" in line and "0.06000" in line for line in lines)


def test_a_long_search_shows_the_best_the_baselines_and_the_best_run() -> None:
    runs = [run(number, 0.05 + number / 10_000, accepted=number == 600) for number in range(800)]
    failed = [run(800 + number, status="DIVERGED", cause=f"NaN {number}") for number in range(200)]
    state = search(*runs, *failed)
    assert state.best_run_id == "run_0600"
    page = leaderboard(state, INFO)
    shown = [line for line in page.splitlines() if "informer" in line and "DIVERGED" not in line]
    assert len(shown) == 16
    assert "603 * run_0600" in page
    assert "198   last-value" in page
    assert "… 181 more" in page
    assert "… 199 more, the worst 0.12990" in page
    assert "--limit 800 shows all" in page
    assert "200 without a score: DIVERGED 200; the latest:" in page
    assert page.count("NaN") == 5
    assert len(leaderboard(state, INFO, limit=3).splitlines()) < len(page.splitlines()) - 10
    assert "shows all" not in leaderboard(state, INFO, limit=800)


def test_changes_are_asked_for_the_rows_that_are_shown_only() -> None:
    asked: list[str] = []

    def changes(run_id: str) -> str:
        asked.append(run_id)
        return "d_model=64"

    state = search(*(run(number, 0.05 + number / 1000, accepted=number == 0) for number in range(20)))
    assert "d_model=64" in leaderboard(state, INFO, width=120, limit=2, changes=changes)
    assert asked == ["run_0000", "run_0001"]
    assert "d_model=64" not in leaderboard(state, INFO, width=80, changes=changes)


def test_hostile_text_reaches_no_terminal() -> None:
    hostile = "\x1b[2J\x07[bold]wipe\r\n\u202eevil\x9b31m"
    source = {**SOURCE, "name": hostile, "kind": hostile, "notice": hostile}
    info = task_info([{"name": hostile, "val_mse": 0.05}])
    state = search(
        run(0, 0.06, accepted=True, family=hostile, proposer=hostile),
        run(1, status=hostile, cause=hostile, family=hostile),
        data=source,
    )
    page = leaderboard(state, info, width=200)
    assert all(line.isprintable() for line in page.splitlines())
    assert "[bold]wipe" in page


def test_the_best_run_and_failures_carry_a_style() -> None:
    lines = leaderboard_lines(SMALL, INFO)
    assert [line.style for line in lines if "run_0001  " in line.text] == ["bold green"]
    assert [line.style for line in lines if "run_0003" in line.text] == ["red"]
    assert {line.style for line in lines if "baseline  0" in line.text} == {"cyan"}


def test_the_best_run_has_its_mark_also_where_it_came_to_lead_by_a_repeat() -> None:
    runs = (run(0, 0.06, accepted=True), run(1, 0.05), run(2, 0.07))
    state = AgentState(
        max_runs=3, task=ForecastingTask(), data=SOURCE, best_run_id="run_0001", leads_by="mean", runs=runs
    )
    rows = [line.text for line in leaderboard_lines(state, None) if "informer" in line.text]
    assert [row.split()[1] for row in rows] == ["*", "+", "run_0002"]


class Accuracy(ForecastingTask):
    """A task whose metric is maximized."""

    metric_name = "r2"
    direction = "maximize"


MAXIMIZED = AgentState(
    max_runs=10,
    task=Accuracy(),
    data=SOURCE,
    best_run_id="run_0001",
    noise=0.5,
    noise_runs=3,
    leads_by="margin",
    runs=(run(0, -12.0, accepted=True), run(1, 91.5, accepted=True), run(2, 91.8), run(3, 80.25)),
)
R2_INFO = task_info([{"name": "majority", "val_r2": 92.1}, {"name": "mean", "val_r2": -3.0}])


def test_a_maximized_metric_ranks_the_highest_first() -> None:
    assert [(row.rank, row.name) for row in rows_of(MAXIMIZED, R2_INFO)] == [
        (1, "majority"),
        (2, "run_0002"),
        (3, "run_0001"),
        (4, "run_0003"),
        (5, "mean"),
        (6, "run_0000"),
    ]
    page = leaderboard(MAXIMIZED, R2_INFO, width=120)
    assert "highest val_r2 on scaled data wins" in page
    assert re.search(r"2   run_0002 +informer +91\.80000 +\+0\.30000 +\+0\.6", page)
    assert re.search(r"6 \+ run_0000 +informer +-12\.00000 +-103\.50000 +-207\.0", page)


def test_the_best_run_is_worse_than_baselines_above_it_where_the_metric_is_maximized() -> None:
    page = leaderboard(MAXIMIZED, R2_INFO, width=120)
    assert "is WORSE than simple forecasts: majority by 0.60000" in page
    within = leaderboard(MAXIMIZED.replace(noise=1.0), R2_INFO, width=120)
    assert "does not beat simple forecasts: majority by 0.60000 (less than the noise)" in within
    beaten = task_info([{"name": "mean", "val_r2": -3.0}])
    assert "WORSE" not in leaderboard(MAXIMIZED, beaten, width=120)


def test_a_wide_character_takes_two_columns_of_the_terminal() -> None:
    info = task_info([{"name": "移動平均", "val_mse": 0.05}, {"name": "mean", "val_mse": 0.06}])
    lines = leaderboard(search(), info).splitlines()
    wide = next(line for line in lines if "移動平均" in line)
    narrow = next(line for line in lines if "mean" in line)
    assert wide.index("0.05000") == narrow.index("0.06000") - 4


def headline_of(*numbers: int) -> str:
    runs = tuple(RunInProgress(run_id=f"run_{number:04d}", step="launch_training") for number in numbers)
    state = search(run(0, 0.08, accepted=True), in_progress=runs)
    return leaderboard(state, INFO, width=200).splitlines()[0]


def test_few_runs_in_progress_are_told_one_by_one_and_many_are_folded() -> None:
    done = "1 of 10 runs finished"
    assert headline_of() == done
    assert headline_of(3) == f"{done}, run_0003 begun (at launch_training)"
    three = ", ".join(f"run_000{number} begun (at launch_training)" for number in (3, 4, 5))
    assert headline_of(3, 4, 5) == f"{done}, {three}"
    assert headline_of(3, 4, 5, 6) == f"{done}, 4 runs in progress: run_0003 to run_0006"
    assert headline_of(9, 3, 4, 7) == f"{done}, 4 runs in progress: run_0003 to run_0004, run_0007, run_0009"
    assert headline_of(9998, 9999, 10000, 10001) == f"{done}, 4 runs in progress: run_9998 to run_10001"
    odd = headline_of(*range(1, 40, 2))
    assert odd.startswith(f"{done}, 20 runs in progress: run_0001, run_0003, ")
    assert odd.endswith("run_0011 and 14 more")


def test_names_of_runs_in_progress_come_out_harmless() -> None:
    runs = tuple(RunInProgress(run_id=f"\x1b[2J{name}\u202e", step="x") for name in "abcd")
    first = leaderboard(search(in_progress=runs), INFO, width=200).splitlines()[0]
    assert first.isprintable() and "4 runs in progress" in first
