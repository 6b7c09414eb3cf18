"""What several test files build: a search whose trainings are scripted, the parts of one, its facts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, Proposal, SearchView
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.recording import Transcript
from nas_agent_graph.llm.scripted_server import ScriptedServer
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.settings import LLMSettings
from nas_agent_graph.state import initial_state
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import RunInfo, TaskConfig
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import Change, ForecastingTask, RunConfig
from nas_system.space.task_info import TaskInfo

SOURCE = {
    "name": "ETTh1",
    "kind": "synthetic",
    "path": None,
    "sha256": "0" * 64,
    "bytes": 1,
    "notice": None,
}
FACTS: dict[str, Any] = {
    "task": ForecastingTask().model_dump(mode="json"),
    "source": SOURCE,
    "columns": ["HUFL", "OT"],
    "references": [{"name": "last-value", "val_mse": 0.07, "test_mse": 0.03}],
}
SHORT_SERIES = FACTS | {"references": [], "windows": {"max_seq_len": 1000}}


def write_hourly(path: Path, rows: int, **columns: Callable[[int], object]) -> Path:
    """Write a CSV file with a date per hour, from 2024 on, and a column per function of the hour's number."""
    first = datetime(2024, 1, 1)
    lines = [",".join(["date", *columns])]
    for hour in range(rows):
        lines.append(
            ",".join(map(str, (first + timedelta(hours=hour), *(f(hour) for f in columns.values()))))
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def write_wave(path: Path, rows: int) -> Path:
    """Write an hourly series `load` that a linear model forecasts well."""
    return write_hourly(
        path, rows, load=lambda hour: f"{math.sin(hour / 3.82) + 0.01 * ((hour * 7919) % 13):.3f}"
    )


def run_info(number: int, val_mse: float | None = None, **fields: Any) -> RunInfo:
    """Return the record of a run of an Informer of twelve seconds; `fields` replace what it has."""
    return RunInfo(
        run_id=f"run_{number:04d}", val_mse=val_mse, **{"family": "informer", "seconds": 12.0, **fields}
    )


def task_info(baselines: Any) -> TaskInfo:
    """Return what is known of a series, with baselines as a file holds them: a name and scores each."""
    return TaskInfo.from_json({"task": FACTS["task"], "source": SOURCE, "baselines": baselines})


class Silent:
    """Progress that prints nothing and keeps every call as (method, *arguments)."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.events.append((name, *arguments))


class Scripted:
    """A proposer that gives its answers in turn: changes of the base config, or an error that it raises."""

    name = "scripted"

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = iter(answers)
        self.views: list[SearchView] = []

    def propose(self, view: SearchView) -> Proposal:
        self.views.append(view)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        changes = tuple(Change(parameter=path, value=value) for path, value in answer.items())
        return Proposal(self.name, "run_0000", changes)


def by_lr(config: RunConfig) -> float:
    """Return a score with its optimum at a learning rate of 0.01."""
    return 0.05 + 0.001 * abs(math.log10(config.training.lr) + 2)


def chat_client(server: ScriptedServer, timeout_s: float = 10) -> ChatClient:
    """Build a client that asks the server once and does not try again."""
    return ChatClient(LLMSettings("scripted", server.url, "no-secret", timeout_s=timeout_s, max_retries=0))


def llm_proposer(server: ScriptedServer, workspace: Path) -> LLMProposer:
    return LLMProposer(chat_client(server), Transcript(workspace / "runs"))


def search_context(
    workspace: Path,
    *,
    max_runs: int = 5,
    task: TaskConfig | None = None,
    facts: Mapping[str, Any] = FACTS,
    **parts: Any,
) -> Context:
    """Open the workspace, or begin a search there; `parts` replace what the context has by default."""
    (workspace / "runs").mkdir(parents=True, exist_ok=True)
    ledger, _ = Ledger.open(workspace)
    if ledger.state.task is None:
        ledger.save(task=task or ForecastingTask(), data=facts["source"], seed=42, leads_by="mean")
        write_json(workspace / "runs" / "task_facts.json", facts)
    defaults = {
        "ledger": ledger,
        "base": RunConfig(),
        "info": TaskInfo.from_json(facts),
        "proposer": RandomSearchProposer(),
        "fallback": RandomSearchProposer(),
        "launcher": ScriptedLauncher(by_lr),
        "progress": Silent(),
        "limits": Limits(max_runs=max_runs, repeat_base=0),
        "train_command": ("train",),
    }
    return Context(**(defaults | parts))


def drive(context: Context) -> dict[str, Any]:
    """Run the search to its end; return the graph's last state."""
    config = {"recursion_limit": steps_for(context.limits)}
    return build_graph().invoke(initial_state(), config=config, context=context)
