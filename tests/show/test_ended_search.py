"""A search that leads by means over seeds, while it goes on and after its end, as `nas show` tells of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import SOURCE, run_info
from concluded import (
    baselines_info,
    conclusion_of_ended,
    ended_state,
    write_ended_search,
)

from nas_agent_graph.show.contenders import axis_of, contenders_of
from nas_agent_graph.show.leaderboard import leaderboard
from nas_agent_graph.show.rows import rows_of
from nas_agent_graph.text.intervals import BRACKETS, Scale, draw_interval
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import (
    AgentState,
    RepeatInfo,
    RunInfo,
    RunInProgress,
    add_repeat,
    add_run,
    save_agent_state,
)
from nas_system.space import ForecastingTask

Cli = Callable[..., subprocess.CompletedProcess[str]]

TABLE = """\
                            test (not used by the search)
#    run          family    val_mse       sd (n)      mse  90 % interval
1 =* run_0002     gru       0.04985  0.00053 (4)           |-o-|
2 =  nlinear-336  baseline  0.05040               0.02620   |:o-|
3 =  run_0003     tcn       0.05043  0.00080 (3)            |:-o--|
4 =+ run_0001     linear    0.05060          (1)           |-:o---|
    -------- run_0002 cannot be told apart from the other 3 above
5    run_0004     tide      0.05095  0.00148 (2)             |---o---|
6    run_0005     lstm      0.05600          (1)             :        |---o--|
7  + run_0000     informer  0.06030  0.00079 (3)             :               >
8    last-value   baseline  0.06960               0.03430    :               >
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("finished")
    write_ended_search(workspace)
    return workspace


def show(run_cli: Cli, workspace: Path, *arguments: str, width: int = 80) -> str:
    done = run_cli("nas_agent_graph.show", *arguments, cwd=workspace, env={"COLUMNS": str(width)})
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


# --- the leaderboard of a search that has ended ------------------------------------------------


def test_what_ties_stands_first_with_means_spreads_and_intervals(run_cli: Cli, finished: Path) -> None:
    page = show(run_cli, finished)
    assert page.startswith("7 of 7 runs finished and 8 repeats\n")
    assert TABLE in page
    flat = " ".join(page.split())
    assert "What this search says: run_0002 leads 6 runs, but is not distinguishable from" in flat
    assert (
        "Noise of seeds 0.00084 (standard deviation of val_mse, pooled over 12 trainings of 4 runs)" in flat
    )
    assert "delta / noise" not in page


@pytest.mark.parametrize("width", [40, 60, 80, 120, 160])
def test_columns_are_left_out_where_the_terminal_is_narrow(run_cli: Cli, finished: Path, width: int) -> None:
    lines = show(run_cli, finished, width=width).splitlines()
    assert max(map(len, lines)) <= width
    header = next(line for line in lines if line.startswith("#"))
    assert ("90 % interval" in header) == (width >= 80)
    assert ("delta" in header) == (width >= 120)
    assert any(line.startswith("1 =* run_0002") and "0.04985" in line for line in lines)


def test_the_page_of_an_ended_search_needs_no_more_than_ascii(run_cli: Cli, finished: Path) -> None:
    done = run_cli("nas_agent_graph.show", cwd=finished, env={"PYTHONIOENCODING": "ascii"}, fresh=True)
    assert done.stdout.isascii()
    assert "  |:o-|" in done.stdout


def test_rows_that_cannot_tell_leave_intervals_from_seeds(run_cli: Cli, tmp_path: Path) -> None:
    write_ended_search(tmp_path, windows=60)
    page = show(run_cli, tmp_path, width=100)
    lstm = next(line for line in page.splitlines() if "run_0005" in line)
    assert "=" in lstm and lstm.endswith("(...o..)")
    assert "(..) from seeds alone, where the rows cannot tell" in " ".join(page.split())


def test_of_many_ties_those_without_a_mark_are_counted() -> None:
    state = AgentState(leads_by="mean", max_runs=14, task=ForecastingTask(), data=SOURCE)
    for number in range(14):
        state = add_run(state, run_info(number, 0.05 + number * 1e-6, family="gru"))
    for number, seed in ((0, 43), (0, 44), (1, 43)):
        score = 0.05 - seed * 1e-7
        repeat = RepeatInfo(
            run_id=f"run_{number:04d}", seed=seed, purpose="final", after=14, ended_after=14, val_score=score
        )
        state = add_repeat(state, repeat)
    conclusion = conclusion_of_ended(state)
    page = leaderboard(state, None, conclusion=conclusion, width=100)
    ties = sum(row.tie for row in rows_of(state, None, conclusion))
    assert len(conclusion.ties) + conclusion.ties_left_out == 14
    assert (
        f"run_0000 cannot be told apart from the other {ties - 1} above, nor from {14 - ties} of the" in page
    )


def test_the_intervals_reach_the_recommended_run_exactly_where_nothing_tells_them_apart() -> None:
    state = ended_state()
    best, *others = contenders_of(conclusion_of_ended(state), state)
    assert best.name == "run_0002" and best.score == pytest.approx(0.05)
    for other in others:
        assert other.over_both is not None and other.comparison is not None
        reaches = other.over_both.low <= best.score <= other.over_both.high
        assert reaches == other.tie == (other.comparison.told_apart is False)
    assert {other.tie for other in others} == {True, False}


class Accuracy(ForecastingTask):
    """A task whose metric is maximised."""

    metric_name = "r2"
    direction = "maximize"


def test_a_maximised_metric_is_the_mirror_image() -> None:
    plain, turned = ended_state(), ended_state(Accuracy(), mirror=1.0)
    found = {one.name: one for one in contenders_of(conclusion_of_ended(turned), turned)}
    runs = [one for one in contenders_of(conclusion_of_ended(plain), plain) if not one.is_baseline]
    assert len(found) == len(runs) == 6
    for one in runs:
        other = found[one.name]
        assert other.score == pytest.approx(1 - one.score)
        assert other.bounds is not None and one.bounds is not None
        assert (other.bounds.low, other.bounds.high) == pytest.approx(
            (1 - one.bounds.high, 1 - one.bounds.low)
        )
    axis = axis_of([one.score for one in runs], [one.bounds for one in runs if one.bounds], "minimize")
    others = list(found.values())
    mirrored = axis_of(
        [one.score for one in others], [one.bounds for one in others if one.bounds], "maximize"
    )
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - axis.high, 1 - axis.low))
    assert rows_of(turned, None, conclusion_of_ended(turned))[0].name == "run_0002"


def test_a_conclusion_that_anybody_edited_costs_no_page(run_cli: Cli, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "edited")
    path = tmp_path / "edited/runs/conclusion.json"
    record = json.loads(path.read_text())
    record["comparisons"][0] |= {"name": "\x1b[2Jrun", "lead": float("inf")}
    record["comparisons"][1] |= {"lead": 1e299, "seeds_margin": -1e299}
    record["ties"] += ["x" * 1000, 7, None, "run_0005"]
    record["luck"] = {"run_0001": "often"}
    path.write_text(json.dumps(record))
    for arguments in ((), ("run_0003",), ("--json",)):
        page = show(run_cli, tmp_path / "edited", *arguments)
        assert "run_0002" in page and "\x1b" not in page
    for content in ("[]", "{", json.dumps(record | {"recommended": "run_9999"})):
        path.write_text(content)
        assert "What this search says" not in show(run_cli, tmp_path / "edited")


def test_a_search_that_has_gone_on_says_nothing_of_its_end(run_cli: Cli, tmp_path: Path) -> None:
    state = write_ended_search(tmp_path)
    save_agent_state(add_run(state, run_info(7, 0.07)), tmp_path / "agent_state.json")
    page = show(run_cli, tmp_path)
    assert "What this search says" not in page and "90 % interval" not in page and "=" not in page


# --- while a search goes on ---------------------------------------------------------------------


def going_on(*scores: float, repeats: tuple[tuple[int, int, float], ...] = (), **fields: Any) -> AgentState:
    state = AgentState(leads_by="mean", max_runs=20, task=ForecastingTask(), data=SOURCE)
    for number, score in enumerate(scores):
        state = add_run(state, run_info(number, score))
    for number, seed, score in repeats:
        repeat = RepeatInfo(
            run_id=f"run_{number:04d}", seed=seed, purpose="base", after=1, ended_after=1, val_score=score
        )
        state = add_repeat(state, repeat)
    return state.replace(**fields)


BASE_REPEATS = ((0, 43, 0.0610), (0, 44, 0.0590))


def test_a_lead_with_one_seed_says_how_probably_it_is_luck() -> None:
    page = leaderboard(going_on(0.06, 0.0545, 0.0540, repeats=BASE_REPEATS), None, width=160)
    # The three seeds have a standard deviation of 0.001: 0.0005 / (0.001 sqrt 2) standard errors.
    assert (
        "run_0002 leads run_0001 by 0.0005 with one seed; by the noise of seeds the probability that" in page
    )
    assert "is 36% or more" in page
    # Five standard errors are no luck.
    assert "with one seed" not in leaderboard(going_on(0.06, 0.0540, repeats=BASE_REPEATS), None)
    # Two seeds are no longer a single one.
    twice = (*BASE_REPEATS, (2, 43, 0.0541))
    assert "with one seed" not in leaderboard(going_on(0.06, 0.0545, 0.0540, repeats=twice), None)


def test_without_repeats_the_noise_is_unknown() -> None:
    page = leaderboard(going_on(0.06, 0.054), None, width=120)
    assert "Noise of seeds unknown, no run has two scores: a small lead may be luck" in page
    assert "sd (n)" not in page


def test_runs_are_ranked_by_their_means() -> None:
    state = going_on(0.06, 0.054, 0.055, repeats=((1, 43, 0.060),))
    assert [row.name for row in rows_of(state, None)] == ["run_0002", "run_0001", "run_0000"]
    assert state.best_run_id == "run_0002"
    page = leaderboard(state, None, width=100)
    assert "run_0001  informer  0.05700  0.00424 (2)  +0.00200" in page


def test_a_baseline_within_the_noise_of_seeds_does_not_beat_the_best_run() -> None:
    near = going_on(0.0505, repeats=((0, 43, 0.0515), (0, 44, 0.0506)))
    page = leaderboard(near, baselines_info(), width=160)
    assert "does not beat simple forecasts: nlinear-336 by 0.00047 (seeds explain as much)" in page
    calm = going_on(0.0505, repeats=((0, 43, 0.0506),))
    assert "is WORSE than simple forecasts" in leaderboard(calm, baselines_info(), width=160)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["run_0007/repeats/seed_43"], "run_0007 with seed 43 (final) begun (at launch_training)"),
        (
            ["run_0001", "run_0002", "run_0007/repeats/seed_43", "run_0008/repeats/seed_44"],
            "2 runs in progress: run_0001 to run_0002, 2 repeats in progress: run_0007 with seed 43 (final), "
            "run_0008 with seed 44 (final)",
        ),
        (["a/b"], "a/b begun (at launch_training)"),
    ],
)
def test_repeats_in_progress_are_named_by_run_seed_and_purpose(names: list[str], told: str) -> None:
    begun = [
        RunInProgress(run_id=name, step="launch_training", purpose="final" if "/" in name else None)
        for name in names
    ]
    page = leaderboard(going_on(0.06, in_progress=tuple(begun)), None, width=200)
    assert page.splitlines()[0] == f"1 of 20 runs finished, {told}"


# --- one run ------------------------------------------------------------------------------------


def test_a_run_shows_its_seeds_and_how_it_stands_to_the_recommended_one(run_cli: Cli, finished: Path) -> None:
    page = " ".join(show(run_cli, finished, "run_0003", width=160).split())
    assert "repeat seed_43 (final): val_mse 0.051200; 9.5 s" in page
    assert "over seeds mean 0.050433, standard deviation 0.0008 (3 seeds)" in page
    assert (
        "standing in the tie set: cannot be told apart from run_0002 higher than run_0002 by 0.00085" in page
    )
    assert (
        "(margin of error at 90 %: 0.0013 from seeds, 0.00015 from the validation rows, 0.0013 together)"
        in page
    )
    best = show(run_cli, finished, "run_0002", width=160)
    assert "recommended, not distinguishable from run_0003, run_0001, nlinear-336\n" in best
    assert "told apart from run_0002, which is better" in show(run_cli, finished, "run_0005", width=160)
    assert "standing" not in show(run_cli, finished, "run_0006")


def test_a_repeat_in_progress_is_one_that_trains(run_cli: Cli, tmp_path: Path) -> None:
    state = going_on(0.06, 0.05)
    (tmp_path / "runs/run_0001/repeats/seed_43").mkdir(parents=True)
    begun = RunInProgress(run_id="run_0001/repeats/seed_43", step="launch_training", purpose="challenge")
    save_agent_state(state.replace(in_progress=(begun,)), tmp_path / "agent_state.json")
    write_json(tmp_path / "runs/task_facts.json", baselines_info().to_json())
    assert "seed_43 (challenge): " in show(run_cli, tmp_path, "run_0001")
    (repeat,) = json.loads(show(run_cli, tmp_path, "run_0001", "--json"))["repeats"]
    assert (repeat["seed"], repeat["purpose"], repeat["val_mse"]) == (43, "challenge", None)


# --- for programs, and as a picture -------------------------------------------------------------


def test_json_has_means_ties_and_comparisons(run_cli: Cli, finished: Path) -> None:
    board = json.loads(show(run_cli, finished, "--json"))
    first = board["rows"][0]
    assert (first["name"], first["seeds"], first["tie"]) == ("run_0002", 4, True)
    assert first["val_mse"] == pytest.approx(0.04985) and first["run"]["val_mse"] == 0.0491
    assert first["scores"] == [0.0491, 0.0503, 0.0499, 0.0501]
    said = board["conclusion"]
    assert (said["word"], said["ties"]) == ("not distinguishable", ["run_0002", "run_0003", "run_0001"])
    assert said["fresh"] == {"seeds": 2, "mean": pytest.approx(0.05)}
    assert said["hold_out"]["low"] < said["hold_out"]["score"] < said["hold_out"]["high"]
    assert [one["name"] for one in said["contenders"] if one["told_apart"] is False] == [
        "nlinear-336",
        "run_0001",
        "run_0003",
    ]
    assert board["noise_of_seeds"]["runs"] == 4
    run = json.loads(show(run_cli, finished, "run_0003", "--json"))
    assert run["over_seeds"]["seeds"] == 3
    assert run["conclusion"]["in_tie_set"] and run["conclusion"]["standing"]["margin"] > 0
    assert [repeat["purpose"] for repeat in run["repeats"]] == ["final", "final"]


def test_json_of_a_search_that_goes_on_has_its_lucky_leads(run_cli: Cli, tmp_path: Path) -> None:
    save_agent_state(going_on(0.06, 0.0545, 0.0540, repeats=BASE_REPEATS), tmp_path / "agent_state.json")
    board = json.loads(show(run_cli, tmp_path, "--json"))
    (lead,) = board["leads_with_one_seed"]
    assert (lead["run_id"], lead["over"]) == ("run_0002", "run_0001")
    assert lead["luck"] == pytest.approx(0.3618, abs=1e-4)
    assert board["conclusion"] is None


def test_the_plot_of_an_ended_search_has_more_in_it(run_cli: Cli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copy(finished / "agent_state.json", tmp_path)
    shutil.copy(finished / "runs/task_facts.json", tmp_path / "runs")
    pictures = []
    for workspace in (finished, tmp_path):
        show(run_cli, workspace, "--plot", str(tmp_path / "progress.png"))
        pictures.append((tmp_path / "progress.png").read_bytes())
    assert pictures[0] != pictures[1] and all(picture.startswith(b"\x89PNG") for picture in pictures)


# --- drawn with characters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "low", "high", "drawn"),
    [
        (5.0, 2.0, 8.0, "  |--o--|  "),
        (5.0, None, None, "     o     "),
        (5.0, 5.0, 5.0, "     o     "),
        (1.0, -3.0, 4.0, "-o--|      "),
        (12.0, None, None, "          >"),
        (-1.0, None, None, "<          "),
    ],
)
def test_an_interval_is_drawn_on_its_scale(
    score: float, low: float | None, high: float | None, drawn: str
) -> None:
    assert draw_interval(Scale(0.0, 10.0, 11), score, low, high) == drawn


def test_the_reference_shows_through_and_seeds_have_brackets() -> None:
    scale = Scale(0.0, 10.0, 11)
    assert draw_interval(scale, 5, 2, 8, reference=3) == "  |:-o--|  "
    assert draw_interval(scale, 5, 4, 6, reference=0, glyphs=BRACKETS) == ":   (o)    "
    assert draw_interval(Scale(1.0, 1.0, 3), 1.0) == " o "


def test_an_axis_leaves_far_outliers_out() -> None:
    axis = axis_of([1.0, 1.1, 1.2, 50.0], [], "minimize")
    assert (axis.low, axis.high) == (1.0, 1.2)
    axis = axis_of([-1.0, -1.1, -1.2, -50.0], [], "maximize")
    assert (axis.low, axis.high) == (-1.2, -1.0)


def test_a_run_of_an_older_search_counts_with_its_own_score() -> None:
    runs: tuple[RunInfo, ...] = (run_info(0, 0.06, accepted=True), run_info(1, 0.05))
    repeat = RepeatInfo(run_id="run_0001", seed=43, purpose="base", after=2, ended_after=2, val_score=0.09)
    state = AgentState(task=ForecastingTask(), data=SOURCE, runs=runs, repeats=(repeat,), leads_by="margin")
    assert [row.val_score for row in rows_of(state, None)] == [0.05, 0.06]
