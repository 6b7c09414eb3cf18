"""The search's memory: agent_state.json and runs/, kept in step, rebuilt from each other."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_system.errors import ConfigError, StateError, WorkspaceBusy
from nas_system.nas_agent.agent_state import (
    STATE_FILE,
    AgentState,
    CurrentRun,
    NewerState,
    RunInfo,
    add_run,
    load_agent_state,
    save_agent_state,
)
from nas_system.nas_agent.config_file import read_config
from nas_system.nas_agent.records import load_record
from nas_system.nas_agent.run_manager import BASE_CONFIG_FILE, FACTS_FILE, RunPaths, run_ids
from nas_system.space import RunConfig


class Ledger:
    """One workspace: its state in memory, its files on disk, a cache of the runs' configurations."""

    def __init__(self, workspace: Path, state: AgentState) -> None:
        self.workspace = workspace
        self.runs_dir = workspace / "runs"
        self.state = state
        self._configs: dict[str, RunConfig | None] = {}
        self._proposals: dict[str, dict[str, Any]] = {}

    @classmethod
    def open(cls, workspace: Path) -> tuple[Ledger, str | None]:
        """Load the workspace; the second value says in one line if the state had to be rebuilt.

        A state that cannot be read is set aside (never deleted) and rebuilt from `runs/`.
        Raises StateError when neither tells what the search was, or the state is newer than
        this program.
        """
        path = workspace / STATE_FILE
        runs_dir = workspace / "runs"
        try:
            state = load_agent_state(path)
        except NewerState:
            raise
        except StateError as error:
            aside = _set_aside(path)
            state = rebuild_state(runs_dir)
            if state is None:
                os.replace(aside, path)
                raise StateError(
                    f"{error}; and {runs_dir} holds no run to rebuild it from. Move {path} away to start anew"
                ) from None
            save_agent_state(state, path)
            note = f"{error}; set aside as {aside.name} and rebuilt from {len(state.runs)} runs on disk"
            return cls(workspace, state), note
        if state.task is None and (state.runs or run_ids(runs_dir)):
            rebuilt = None if state.runs else rebuild_state(runs_dir)
            if rebuilt is None:
                raise StateError(
                    f"{workspace} holds runs that no search made (trained or recorded by hand); a search "
                    "would write over them. Choose another --workspace, or move runs/ and agent_state.json "
                    "away"
                )
            save_agent_state(rebuilt, path)
            return cls(workspace, rebuilt), (
                f"{path} was missing; rebuilt from {len(rebuilt.runs)} runs on disk"
            )
        return cls(workspace, state), None

    def paths(self, run_id: str) -> RunPaths:
        """The files of one run."""
        return RunPaths(self.runs_dir / run_id)

    def save(self, **changes: Any) -> None:
        """Replace fields of the state and write it, durably, before anything else happens."""
        state = self.state.replace(**changes)
        save_agent_state(state, self.workspace / STATE_FILE)
        self.state = state

    def begin(self, run_id: str, step: str) -> None:
        """Record which run is under way and which node acts on it next."""
        self.save(current=CurrentRun(run_id=run_id, step=step))

    def finish(self, run: RunInfo, **changes: Any) -> None:
        """Add a finished run; nothing is under way after it."""
        state = add_run(self.state, run)
        self.save(runs=state.runs, best_run_id=state.best_run_id, current=None, **changes)

    def config(self, run_id: str) -> RunConfig | None:
        """The configuration a run was trained with; None when its folder is gone or spoiled."""
        if run_id not in self._configs:
            try:
                self._configs[run_id] = read_config(self.paths(run_id).config)
            except ConfigError:
                self._configs[run_id] = None
        return self._configs[run_id]

    def remember(self, run_id: str, config: RunConfig) -> None:
        """Keep the configuration of a run that is under way, so that it is not read back."""
        self._configs[run_id] = config

    def proposal(self, run_id: str) -> dict[str, Any]:
        """proposal.json of a finished run; empty when it is gone or spoiled."""
        if run_id not in self._proposals:
            self._proposals[run_id] = load_record(self.paths(run_id).proposal) or {}
        return self._proposals[run_id]

    def run_with_key(self, key: str) -> RunInfo | None:
        """The finished run that already trained this configuration."""
        return next((run for run in self.state.runs if run.key == key), None)


def _set_aside(path: Path) -> Path:
    for number in range(1000):
        aside = path.with_name(f"{path.name}.damaged{f'.{number}' if number else ''}")
        if not aside.exists():
            os.replace(path, aside)
            return aside
    raise StateError(f"{path}: a thousand damaged copies lie beside it; look into the disk")


def rebuild_state(runs_dir: Path) -> AgentState | None:
    """The state as the run directories tell it; None if they tell nothing.

    Every finished run left its entry in verdict.json; the task and the data stand in
    task_facts.json, the seed in base_config.py. A last run without a verdict is the one that was under way.
    """
    ids = run_ids(runs_dir)
    facts = load_record(runs_dir / FACTS_FILE)
    if not ids or facts is None:
        return None
    try:
        seed = read_config(runs_dir / BASE_CONFIG_FILE).seed
        state = AgentState.model_validate({"task": facts["task"], "data": facts["source"], "seed": seed})
    except (KeyError, ValidationError, ConfigError):
        return None
    for run_id in ids:
        verdict = _verdict(runs_dir / run_id)
        if verdict is None:
            if run_id == ids[-1]:
                return state.replace(current=CurrentRun(run_id=run_id, step="read_context"))
            verdict = {"run": RunInfo(run_id=run_id, status="MISSING", cause="verdict.json is gone")}
        state = add_run(state, verdict["run"])
        if verdict.get("noise_runs"):
            state = state.replace(noise=verdict.get("noise"), noise_runs=verdict["noise_runs"])
    return state.replace(max_runs=max(state.max_runs, len(state.runs)))


def _verdict(run_dir: Path) -> dict[str, Any] | None:
    verdict = load_record(RunPaths(run_dir).verdict)
    if verdict is None:
        return None
    try:
        return verdict | {"run": RunInfo.model_validate(verdict.get("run"))}
    except ValidationError:
        return None


class WorkspaceLock:
    """One agent per workspace: a kernel lock that the death of its holder frees."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / "runs" / ".agent.lock"
        self._descriptor: int | None = None

    def __enter__(self) -> WorkspaceLock:
        """Raises WorkspaceBusy, naming the holder, or ConfigError if nothing can be written here."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"{self.path.parent}: cannot be written ({error.strerror}); choose another --workspace"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise WorkspaceBusy(
                f"{self.path.parent.parent} is held by another agent ({holder or 'unknown'}); "
                "wait for it, stop it, or choose another --workspace"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)
