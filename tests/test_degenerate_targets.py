"""Targets that mean nothing or mislead, through the command line: refused, or said before a training."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_system.files import write_json
from nas_system.nas_agent.agent_state import load_agent_state

Cli = Callable[..., subprocess.CompletedProcess[str]]

CASES = Path(__file__).parent / "data" / "degenerate"
BASE = """
model: {family: linear}
data: {features: S, seq_len: 48, batch_size: 32}
training: {lr: 0.003, max_epochs: 3, patience: 3}
"""
ALL_SPLIT = ("--split", "0.7,0.15,0.15")
SPIKE = "target 'y' is 1e+09 at row 120, 2021-01-06 00:00:00, "


def task_of(case: str, *more: str) -> tuple[str, ...]:
    return ("--dataset", str(CASES / f"{case}.csv"), "--target", "y", "--pred-len", "12", *more)


def facts_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "runs" / "task_facts.json").read_text())


def scores_in(facts: dict[str, Any]) -> list[float]:
    return [row["val_mse"] for row in facts["baselines"]]


@pytest.fixture
def flags(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "base.yaml").write_text(BASE)
    fixed = ("--base-config", "base.yaml", "--repeat-base", "0", "--proposer", "random_search")
    return (*fixed, "--max-runs", "1")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("all_zero_target", "'y' is 0 in all 300 train rows: there is nothing to learn"),
        ("const_then_jump", "it first changes at row 401, 2021-01-17 17:00:00; move the border with --split"),
    ],
)
def test_a_constant_target_ends_both_commands_with_2_and_one_line(
    run_cli: Cli, flags: tuple[str, ...], tmp_path: Path, case: str, words: str
) -> None:
    described = run_cli("nas_system.describe", *task_of(case), cwd=tmp_path)
    searched = run_cli("nas_agent_graph.run", *flags, *task_of(case), cwd=tmp_path)
    for done in (described, searched):
        assert done.returncode == 2
        assert done.stderr.startswith("error: target 'y'") and words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("runs/run_*"))


def test_a_border_after_the_jump_makes_it_a_task(run_cli: Cli, tmp_path: Path) -> None:
    dates = "2021-01-19,2021-01-20,2021-01-21"
    done = run_cli(
        "nas_system.describe", *task_of("const_then_jump"), "--split", dates, cwd=tmp_path, timeout_s=100
    )
    assert done.returncode == 0, done.stderr
    assert "target    y: no season, " in done.stdout


def test_one_value_far_outside_is_named_wherever_the_search_is_shown(
    run_search: Cli, run_cli: Cli, flags: tuple[str, ...], tmp_path: Path
) -> None:
    task = task_of("outlier_spike", *ALL_SPLIT)
    done = run_search(*flags, *task, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"WARNING: {SPIKE}") == 1
    assert max(scores_in(facts_in(tmp_path))) < 1e-10

    again = run_search(*flags, "--max-runs", "2", cwd=tmp_path)
    assert "WARNING: " not in again.stdout
    shown = " ".join(run_cli("nas_agent_graph.show", cwd=tmp_path).stdout.split())
    assert f"Warning: {SPIKE}" in shown and "--scaling robust" in shown
    assert "Series: 500 rows, step h; windows: " in shown and "y: season of 24 steps (strength 0.9" in shown
    assert run_cli("nas_agent_graph.report", cwd=tmp_path).returncode == 0
    assert SPIKE in (tmp_path / "report.html").read_text()
    for_programs = json.loads(run_cli("nas_agent_graph.show", "--json", cwd=tmp_path).stdout)
    assert SPIKE in for_programs["card"]["warnings"][0]
    prompt = run_cli("nas_agent_graph.run", "--dry-run", "--max-runs", "3", cwd=tmp_path).stdout
    assert f'Warning: "{SPIKE}' in prompt


def test_robust_scaling_makes_its_scores_readable_and_stays(
    run_search: Cli, run_cli: Cli, flags: tuple[str, ...], tmp_path: Path
) -> None:
    task = task_of("outlier_spike", *ALL_SPLIT)
    done = run_search(*flags, *task, "--scaling", "robust", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "outweighs all other rows in training" in done.stdout
    assert 0.001 < min(scores_in(facts_in(tmp_path))) < max(scores_in(facts_in(tmp_path))) < 10
    assert (
        "lowest val_mse on robustly scaled data wins" in run_cli("nas_agent_graph.show", cwd=tmp_path).stdout
    )

    assert run_search(*flags, "--max-runs", "2", cwd=tmp_path).returncode == 0
    other = run_search(*flags, "--scaling", "standard", "--max-runs", "3", cwd=tmp_path)
    assert other.returncode == 2
    assert "scaling is 'robust', not 'standard'" in other.stderr


def test_values_too_small_to_square_are_trained_on_and_forecast(
    run_cli: Cli, flags: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_cli("nas_agent_graph.run", *flags, *task_of("tiny"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout
    state = load_agent_state(tmp_path / "agent_state.json")
    assert [run.status for run in state.runs] == ["OK"]
    assert 0 < min(scores_in(facts_in(tmp_path))) < 1
    assert run_cli("nas_system.predict", "--run", "runs/run_0000", cwd=tmp_path).returncode == 0
    forecast = [float(line.split(",")[1]) for line in (tmp_path / "forecast.csv").read_text().split()[2::2]]
    assert len(forecast) == 12 and all(1e-199 < value < 1e-198 for value in forecast)


def test_a_search_from_before_the_card_goes_on_and_is_shown_without_one(
    run_search: Cli, run_cli: Cli, flags: tuple[str, ...], tmp_path: Path
) -> None:
    assert run_search(*flags, *task_of("outlier_spike", *ALL_SPLIT), cwd=tmp_path).returncode == 0
    facts, state = facts_in(tmp_path), json.loads((tmp_path / "agent_state.json").read_text())
    assert "scaling" not in facts["task"] and "scaling" not in state["task"]
    for name in ("card", "unseen"):
        del facts["measured"][name]
    write_json(tmp_path / "runs" / "task_facts.json", facts)
    again = run_search(*flags, "--max-runs", "2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Series: " not in again.stdout and "Warning: " not in again.stdout
    assert "# Task" in run_cli("nas_agent_graph.run", "--dry-run", "--max-runs", "3", cwd=tmp_path).stdout
    assert run_cli("nas_agent_graph.report", cwd=tmp_path).returncode == 0


def test_the_shift_of_the_test_part_reaches_people_and_no_prompt(
    run_search: Cli, run_cli: Cli, flags: tuple[str, ...], tmp_path: Path
) -> None:
    lines = (CASES / "outlier_spike.csv").read_text().splitlines()
    raised = [f"{line.split(',')[0]},{float(line.split(',')[1]) + 700}" for line in lines[426:]]
    lines[121] = "2021-01-06 00:00:00,50"
    (tmp_path / "own.csv").write_text("\n".join([*lines[:426], *raised]) + "\n")
    task = ("--dataset", "own.csv", "--target", "y", "--pred-len", "12", *ALL_SPLIT)
    assert run_search(*flags, *task, cwd=tmp_path).returncode == 0
    (shift,) = facts_in(tmp_path)["measured"]["unseen"]["test_shifts"].values()
    assert shift > 20
    assert f"{shift:+.2g} (test) training std" in " ".join(
        run_cli("nas_agent_graph.show", cwd=tmp_path).stdout.split()
    )
    prompt = run_cli("nas_agent_graph.run", "--dry-run", "--max-runs", "3", cwd=tmp_path).stdout
    assert '- "y": season of 24 steps' in prompt and "(val) training std" in prompt
    assert "(test)" not in prompt and f"{shift:+.2g}" not in prompt
