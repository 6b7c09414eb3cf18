"""agent_state.json: what the search knows, in one file that is always whole.

The file has the fields of the original format (`max_runs`, `best_run_id`, `runs`) and what
the search needs to go on after any crash. What a run *was* stands in its folder.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nas_system.errors import StateError
from nas_system.files import write_atomic
from nas_system.space import TaskConfig

SCHEMA_VERSION = 1
STATE_FILE = "agent_state.json"


def _finite_or_none(value: Any) -> Any:
    """JSON has no NaN: a score that is not finite is no score."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Score = Annotated[float | None, BeforeValidator(_finite_or_none)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunInfo(_Stored):
    """One finished run, in under 600 bytes."""

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    val_mse: Score = None
    test_mse: Score = None
    """For people's eyes: no proposer, prompt or acceptance rule may read it."""
    history_summary: str = Field(default="", max_length=300)
    accepted: bool = False
    status: str = "OK"
    cause: str | None = Field(default=None, max_length=200)
    parent: str | None = None
    family: str | None = None
    proposer: str | None = None
    key: str | None = None
    """Canonical key of the configuration: equal keys mean the same training."""
    seconds: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    """What the language model's answers about the run cost; None if no price is known."""
    attempt: int = 1


class CurrentRun(_Stored):
    """The run that is under way, and the node that has to act on it next."""

    run_id: str
    step: str


class AgentState(_Stored):
    """The whole of agent_state.json. Values are replaced, never changed in place."""

    schema_version: int = SCHEMA_VERSION
    max_runs: int = Field(default=100, ge=1)
    best_run_id: str | None = None
    seed: int = 42
    task: TaskConfig | None = None
    data: dict[str, Any] | None = None
    """Which data the search is about: name, kind, sha256. One search never mixes two."""
    noise: float | None = None
    """Standard deviation of the baseline's score over seeds; None while it is unknown."""
    noise_runs: int = 0
    current: CurrentRun | None = None
    sealed: dict[str, Score] = {}
    """Score on the sealed rows, per run that was champion when a search ended."""
    runs: tuple[RunInfo, ...] = ()

    def replace(self, **changes: Any) -> AgentState:
        """A copy with some fields replaced."""
        return self.model_copy(update=changes)


def load_agent_state(path: str | Path = STATE_FILE) -> AgentState:
    """Read the state; a file that does not exist is a search that has not begun.

    Raises StateError for anything torn, foreign or newer, and leaves the file alone.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return AgentState()
    except OSError as error:
        raise StateError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        state = AgentState.model_validate_json(content)
    except ValidationError as error:
        _refuse_newer(path, content)
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StateError(f"{path}: not a valid search state ({where}: {first['msg']})") from None
    if state.schema_version > SCHEMA_VERSION:
        _refuse_newer(path, content)
    ids = [run.run_id for run in state.runs]
    if len(set(ids)) != len(ids):
        raise StateError(f"{path}: not a valid search state (a run id stands twice)")
    return state


class NewerState(StateError):
    """The file was written by a newer version of this program; it is left untouched."""


def _refuse_newer(path: Path, content: bytes) -> None:
    class Version(BaseModel):
        schema_version: int = 0

    try:
        version = Version.model_validate_json(content).schema_version
    except ValidationError:
        return
    if version > SCHEMA_VERSION:
        raise NewerState(
            f"{path}: written by a newer version (schema {version}, this program knows {SCHEMA_VERSION}); "
            "update the program, the file is left as it is"
        )


def save_agent_state(state: AgentState, path: str | Path = STATE_FILE) -> None:
    """Write the whole state, atomically and durably."""
    write_atomic(Path(path), state.model_dump_json(indent=1).encode() + b"\n")


def add_run(state: AgentState, run: RunInfo) -> AgentState:
    """The state with one more run; `best_run_id` is the accepted run with the lowest val_mse.

    Raises StateError if the run is already there.
    """
    if get_run(state, run.run_id) is not None:
        raise StateError(f"{run.run_id} is already in the state; a run is added once")
    state = state.replace(runs=(*state.runs, run))
    best = get_best_run(state.replace(best_run_id=None))
    return state.replace(best_run_id=best.run_id if best else None)


def get_run(state: AgentState, run_id: str) -> RunInfo | None:
    """The run with this id, if the state has it."""
    return next((run for run in state.runs if run.run_id == run_id), None)


def get_best_run(state: AgentState) -> RunInfo | None:
    """The champion: the accepted run with the lowest val_mse, None before there is one."""
    if state.best_run_id is not None:
        return get_run(state, state.best_run_id)
    scored = [(run.val_mse, run) for run in state.runs if run.accepted and run.val_mse is not None]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


def get_recent_runs(state: AgentState, k: int = 5) -> list[RunInfo]:
    """The last `k` runs, oldest first."""
    return list(state.runs[-k:]) if k > 0 else []
