"""Netformer as proposer: what was learned from other data sets opens a search, TPE carries on.

The list of configurations comes from `python -m nas_system.netformer propose`, a process of its own,
since the networks need torch. It is written to the workspace once, before the first proposal; from then
on every proposal is a function of that file and of the finished runs, whatever happens to the networks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_agent_graph.context import Launcher, Proposal, SearchView
from nas_agent_graph.proposers.sampling import families_for, known_keys
from nas_system.errors import ConfigError, ProposalError, RunError, StateError
from nas_system.files import finite, read_record, write_json
from nas_system.space import (
    Change,
    ForecastingTask,
    RunConfig,
    TaskConfig,
    apply_changes,
    canonical_key,
    changes_between,
)

NAME = "netformer"
CARRIED_ON = "netformer:tpe"
"""Who proposes after the list: TPE, which learns from what the list has found."""
MODULE = "nas_system.netformer"
LIST_FILE = "netformer_proposals.json"
SCHEMA = 1
OPENING = 8
"""Runs that the list decides; measured on the archive's own tasks (`benchmarks.proposers --choose`)."""
LISTED = 40
"""More than the opening needs: duplicates and what the task refuses are passed over."""
CALL_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class RankedList:
    """Configurations for one task, most promising first."""

    model: str
    """Checksum of the networks that ranked it."""
    entries: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, path: Path, task: str) -> RankedList | None:
        """The list for this very task; None if there is none. Raises StateError for another task's."""
        record = read_record(path)
        if record is None:
            return None
        if record.get("schema") != SCHEMA or not isinstance(record.get("proposals"), list):
            raise StateError(f"{path} is not a list of proposals that this program can read; remove it")
        if record.get("task") != task:
            raise StateError(f"{path} was made for other data or another task; remove it")
        return cls(str(record.get("model", "")), tuple(record["proposals"]))


class NetformerProposer:
    """The ranked list first, then TPE."""

    name = NAME

    def __init__(self, ranked: RankedList, *, opening: int = OPENING) -> None:
        # Optuna takes a while to import, and a search that has ended needs neither.
        from nas_agent_graph.proposers.tpe import TPEProposer

        self.ranked = ranked
        self.opening = opening
        self.then = TPEProposer()

    def propose(self, view: SearchView) -> Proposal:
        used = sum(run.proposer == NAME for run in view.runs)
        if used < self.opening:
            proposal = self._from_list(view)
            if proposal is not None:
                return proposal
        return replace(self.then.propose(view), proposer=CARRIED_ON)

    def _from_list(self, view: SearchView) -> Proposal | None:
        """The best entry that can be trained and has not been; one further for every refusal."""
        known, families = known_keys(view), families_for(view)
        to_pass_over = view.attempt
        for entry in self.ranked.entries:
            config = _config_in(entry, view)
            if config is None or config.model.family not in families or canonical_key(config) in known:
                continue
            changes = _changes_to(config, view)
            if changes is None:
                continue
            if to_pass_over:
                to_pass_over -= 1
                continue
            return _proposal(entry, changes)
        return None


def list_file_of(runs_dir: Path) -> Path:
    return runs_dir / LIST_FILE


def task_fingerprint(facts: Mapping[str, Any]) -> str:
    """The same for the same data and the same task."""
    about = {"task": facts.get("task"), "sha256": facts.get("source", {}).get("sha256")}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def check_task(task: TaskConfig) -> None:
    """Raises ConfigError for a task that the networks know nothing of."""
    if not isinstance(task, ForecastingTask):
        raise ConfigError(
            f"--proposer {NAME} has learned from series to forecast, and the task {task.name} is none; "
            "leave it out, tpe proposes then"
        )


def check_model(launcher: Launcher) -> None:
    """Raises ConfigError if the networks cannot be used."""
    _call(launcher, ["propose", "--check"])


def make_list(
    launcher: Launcher, runs_dir: Path, facts_file: Path, facts: Mapping[str, Any], seed: int
) -> RankedList:
    """The list of this search: made once, then read. Raises ConfigError, StateError or OSError."""
    path, task = list_file_of(runs_dir), task_fingerprint(facts)
    known = RankedList.read(path, task)
    if known is not None:
        return known
    flags = ["propose", "--facts", str(facts_file), "--count", str(LISTED), "--seed", str(seed)]
    answer = json.loads(_call(launcher, flags))
    record = {"schema": SCHEMA, "task": task, "model": answer["model"], "proposals": answer["proposals"]}
    write_json(path, record | {"learned_from": answer["learned_from"], "seed": seed})
    return RankedList(answer["model"], tuple(answer["proposals"]))


def add_to_archive(launcher: Launcher, workspace: Path) -> str:
    """Add the finished search to the user's archive; returns what was done, in words."""
    return _call(launcher, ["archive", "--add", str(workspace)]).strip()


def _call(launcher: Launcher, arguments: Sequence[str]) -> str:
    try:
        return launcher.call(MODULE, arguments, timeout_s=CALL_TIMEOUT_S)
    except RunError as error:
        raise ConfigError(f"--proposer netformer cannot be used: {error}") from None


def _config_in(entry: Mapping[str, Any], view: SearchView) -> RunConfig | None:
    plain = {"task": view.base.task.model_dump(), "seed": view.base.seed}
    try:
        return RunConfig.model_validate(plain | dict(entry["config"]))
    except (ValidationError, KeyError, TypeError, ValueError):
        return None


def _changes_to(config: RunConfig, view: SearchView) -> tuple[Change, ...] | None:
    """None if this search refuses the configuration."""
    changes = tuple(changes_between(view.base, config))
    try:
        apply_changes(view.base, changes, max_seq_len=view.max_seq_len)
    except ProposalError:
        return None
    return changes


def _proposal(entry: Mapping[str, Any], changes: tuple[Change, ...]) -> Proposal:
    rank = entry.get("rank")
    expected = finite(entry.get("expected_val_mse"))
    return Proposal(
        NAME,
        parent="run_0000",
        changes=changes,
        hypothesis=f"rank {rank} of what other data sets have taught about data like this",
        expected_score=expected,
        rank=rank if isinstance(rank, int) else None,
    )
