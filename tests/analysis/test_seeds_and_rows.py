"""What seeds and validation rows tell while a search goes on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import run_info, task_info
from numpy.typing import NDArray

from nas_agent_graph.analysis.resolution import resolution_of
from nas_agent_graph.analysis.standings import known_of_seeds
from nas_agent_graph.budget import Limits
from nas_agent_graph.selection.bootstrap import paired_difference
from nas_system.config_io.config_file import write_config
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInProgress, with_leader
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.window_errors import write_errors
from nas_system.space import RunConfig

BLOCK = RunConfig().data.seq_len + RunConfig().task.horizon


def repeat(run: int, seed: int, score: float | None, purpose: str = "challenge") -> RepeatInfo:
    status = "OK" if score is not None else "FAILED"
    return RepeatInfo(
        run_id=f"run_{run:04d}",
        seed=seed,
        purpose=purpose,
        after=3,
        ended_after=3,
        status=status,
        val_score=score,
    )


def searched(
    scores: Sequence[float], repeats: Sequence[RepeatInfo] = (), leads_by: str = "mean"
) -> AgentState:
    runs = tuple(run_info(number, score, accepted=True) for number, score in enumerate(scores))
    state = AgentState.model_validate({"leads_by": leads_by, "runs": runs, "repeats": repeats, "noise": 0.5})
    return with_leader(state)


def test_noise_is_pooled_and_a_lead_with_one_seed_has_its_probability_of_luck() -> None:
    repeats = [repeat(0, 43, 0.32), repeat(1, 43, 0.30), repeat(1, 44, 0.26), repeat(0, 44, None)]
    known = known_of_seeds(searched([0.30, 0.28, 0.27], repeats))
    squares = 2 * 0.01**2 + 2 * statistics.variance([0.28, 0.30, 0.26])
    assert known.noise is not None
    assert known.noise == pytest.approx(math.sqrt(squares / 3))
    assert known.noise_runs == 2
    assert known.scores == {"run_0000": (0.30, 0.32), "run_0001": (0.28, 0.30, 0.26), "run_0002": (0.27,)}
    assert known.failed == {"run_0000": 1}
    # One seed against the mean of three, 0.01 apart.
    error = known.noise * math.sqrt(1 + 1 / 3)
    assert known.luck == {"run_0002": pytest.approx(statistics.NormalDist(0.01, error).cdf(0))}
    again = known_of_seeds(searched([0.30, 0.28, 0.27], [*repeats, repeat(2, 43, 0.271)]))
    assert again.luck == {}


def test_a_search_that_leads_by_a_margin_knows_the_noise_of_its_base_config_alone() -> None:
    state = searched([0.30, 0.28], [repeat(0, 43, 0.1)], leads_by="margin")
    known = known_of_seeds(state)
    assert (known.noise, known.noise_runs, known.luck) == (0.5, 1, {})
    assert known.scores == {"run_0000": (0.30,), "run_0001": (0.28,)}


def kept(workspace: Path, windows: int, leads_by: str = "mean") -> tuple[Ledger, list[NDArray[np.float32]]]:
    """Return a search of three runs that have kept their losses on the validation windows."""
    rng = np.random.default_rng(5)
    losses = [(0.3 + 0.01 * run + rng.normal(0, 0.1, windows)).astype(np.float32) for run in range(3)]
    ledger = Ledger(workspace, searched([float(rows.mean(dtype=float)) for rows in losses], (), leads_by))
    for run, rows in zip(ledger.state.runs, losses, strict=True):
        paths = ledger.paths(run.run_id)
        paths.folder.mkdir(parents=True)
        write_config(paths.config, RunConfig())
        write_errors(paths.val_errors, rows)
    return ledger, losses


def test_what_rows_resolve_is_half_of_the_interval_of_the_leaders_differences(tmp_path: Path) -> None:
    ledger, losses = kept(tmp_path, 12 * BLOCK)
    info = task_info([])
    found = [paired_difference(losses[0].astype(float), losses[n].astype(float), BLOCK) for n in (1, 2)]
    halves = [(one.high - one.low) / 2 for one in found]
    assert ledger.state.best_run_id == "run_0000"
    assert resolution_of(ledger.state, ledger.runs_dir, ledger.config, info) == pytest.approx(
        statistics.median(halves)
    )


@pytest.mark.parametrize("spoil", ["few windows", "no file", "other losses", "margin"])
def test_what_rows_resolve_is_not_said_where_it_is_not_known(spoil: str, tmp_path: Path) -> None:
    ledger, losses = kept(
        tmp_path, (4 if spoil == "few windows" else 12) * BLOCK, "margin" if spoil == "margin" else "mean"
    )
    best = ledger.paths("run_0000").val_errors
    if spoil == "no file":
        best.unlink()
    elif spoil == "other losses":
        write_errors(best, losses[1])
    assert resolution_of(ledger.state, ledger.runs_dir, ledger.config, task_info([])) is None


def test_a_share_of_the_trainings_that_have_begun_may_be_asked_for() -> None:
    scores = [0.3 - number / 1000 for number in range(16)]
    limits = Limits(max_runs=40)
    assert [limits.repeats_left(searched(scores[:count])) for count in (0, 8, 9, 16)] == [0, 0, 1, 1]
    asked = searched(scores, [repeat(3, 43, 0.3, "asked")])
    assert limits.repeats_left(asked) == 1
    running = RunInProgress(run_id="run_0004/repeats/seed_43", step="", purpose="asked", after=16)
    assert limits.repeats_left(asked.replace(in_progress=(running,))) == 0
    assert Limits(max_runs=40, repeats=0).repeats_left(searched(scores)) == 0
    assert limits.repeats_left(searched(scores, leads_by="margin")) == 0
