"""Searches that may be killed, and the record of what was proved (`--fault-results`)."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.search import Search, wait_for
from chaos.series import CHEAP, TASK, write_series

from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.nas_agent.ledger import Ledger

FINISHED_RUNS = 3


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose data has been described and whose first run has not begun."""
    workspace = tmp_path_factory.mktemp("prepared") / "workspace"
    workspace.mkdir()
    write_series(workspace)
    search = Search(workspace, *TASK, *CHEAP, "--repeat-baseline", "1", "--max-runs", "1")
    search.start()
    wait_for(lambda: load_agent_state(workspace / "agent_state.json").data, "the description of the data")
    search.kill_agent()
    assert not list(workspace.glob("runs/run_*/proc.json"))
    return workspace


@pytest.fixture
def new_search(tmp_path: Path, prepared: Path) -> Iterator[Callable[..., Search]]:
    """Makes searches on copies of the prepared workspace; what they leave running is ended."""
    made: list[Search] = []
    numbers = itertools.count()

    def make(*flags: str, **options: object) -> Search:
        workspace = tmp_path / f"search_{next(numbers)}"
        shutil.copytree(prepared, workspace)
        search = Search(workspace, *CHEAP, "--repeat-baseline", "1", *flags, **options)  # type: ignore[arg-type]
        made.append(search)
        return search

    yield make
    for search in made:
        search.clean_up()


@pytest.fixture(scope="session")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three runs that has ended, its best run scored on hold-out rows."""
    workspace = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(prepared, workspace)
    search = Search(workspace, *CHEAP, "--repeat-baseline", "1", "--max-runs", str(FINISHED_RUNS))
    search.start()
    assert search.wait() == 0, search.text()
    state = load_agent_state(workspace / "agent_state.json")
    assert state.best_run_id is not None
    # As `nas_system.score` leaves it; the stand-in for a training has no weights to score.
    hold_out = {"run": state.best_run_id, "sealed_mse": 0.25, "references": []}
    (workspace / "runs" / state.best_run_id / "sealed.json").write_text(json.dumps(hold_out))
    Ledger(workspace, state).save(hold_out={state.best_run_id: 0.25})
    return workspace


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "workspace", symlinks=True)
    return tmp_path / "workspace"


@pytest.fixture
def go_on(workspace: Path) -> Iterator[Callable[[], tuple[int, str]]]:
    """The same search with one run more; exit code and what it said."""
    flags = (*CHEAP, "--repeat-baseline", "1", "--max-runs", str(FINISHED_RUNS + 1))
    search = Search(workspace, *flags)

    def run() -> tuple[int, str]:
        return search.start().wait(120), search.text()

    yield run
    search.clean_up()
