"""Searches of several trainings at once, on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import search_context
from simulated import SimulatedClock, SimulatedLauncher

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context
from nas_agent_graph.pool.slots import Slots
from nas_system.config_io.config_file import write_config

Search = Callable[..., Context]


@pytest.fixture
def launcher() -> SimulatedLauncher:
    return SimulatedLauncher(SimulatedClock())


@pytest.fixture
def search(tmp_path: Path, launcher: SimulatedLauncher) -> Search:
    """Opens the search in `tmp_path`, or continues it as another agent would."""

    def open_search(parallel: int = 4, *, slots: Slots | None = None, folder: str = "search", **parts: Any):
        given = {"launcher": launcher, "clock": launcher.clock, "started": launcher.clock.now}
        limits = {name: parts.pop(name) for name in list(parts) if name in Limits.__annotations__}
        limits = {"max_runs": 8, "repeat_base": 0} | limits
        context = search_context(
            tmp_path / folder,
            **given | {"slots": slots or Slots(parallel), "limits": Limits(**limits)} | parts,
        )
        context.ledger.save(max_runs=limits["max_runs"])
        if not (context.ledger.runs_dir / "base_config.py").exists():
            write_config(context.ledger.runs_dir / "base_config.py", context.base)
        return context

    return open_search
