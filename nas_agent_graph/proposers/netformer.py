"""Netformer as proposer: what was learned from other data sets opens a search, TPE continues it.

The list of configurations comes from `python -m nas_system.netformer propose`, a process of its own,
since the networks need torch. It is written to the workspace once, before the first proposal; from then
on every proposal is a function of that file and of the runs, even if the networks are replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_agent_graph.context import Launcher
from nas_agent_graph.proposers.sampling import known_keys
from nas_agent_graph.proposers.setup import ProposerSetup, ReadyProposer
from nas_agent_graph.search_view import BASE_RUN, Proposal, Proposer, SearchView
from nas_system.errors import ConfigError, NasError, ProposalError, RunError, StateError
from nas_system.files import ARCHIVE_FILE, archive_folder, finite, read_record, write_json
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space import (
    Change,
    RunConfig,
    apply_changes,
    canonical_key,
    changes_between,
)
from nas_system.space.task_info import TaskInfo

NAME = "netformer"
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
        """Read the list for this very task; None if there is none. Raises StateError for another task's."""
        record = read_record(path)
        if record is None:
            return None
        if record.get("schema") != SCHEMA or not isinstance(record.get("proposals"), list):
            raise StateError(f"{path} is not a list of proposals that this program can read; remove it")
        if record.get("task") != task:
            raise StateError(f"{path} was made for other data or another task; remove it")
        return cls(str(record.get("model", "")), tuple(record["proposals"]))


def check(setup: ProposerSetup) -> None:
    """Raise ConfigError for a task that the networks know nothing of, or if they cannot be used."""
    if not setup.task.is_series:
        raise ConfigError(
            f"--proposer {NAME} has learned from series to forecast, and the task {setup.task.name} is none; "
            "leave it out, tpe proposes then"
        )
    if not (setup.ledger.runs_dir / LIST_FILE).exists():
        _call(setup.launcher, ["propose", "--check"])


def prepare(setup: ProposerSetup, then: Proposer) -> ReadyProposer:
    """Make the ranked list before the first run: no later run waits for the networks or fails on them."""
    ranked = setup.disk.retry_until_space(lambda: make_list(setup))
    introduction = f"{NAME} for {OPENING} runs, then {then.name}"
    return ReadyProposer(NetformerProposer(ranked, then), then, introduction)


def after_search(setup: ProposerSetup, chosen: bool) -> None:
    """Add the finished search to the user's archive, from which the next search learns."""
    # Only users who already have an archive get all their searches added.
    if not setup.task.is_series or not (chosen or (archive_folder() / ARCHIVE_FILE).exists()):
        return
    try:
        added = _call(setup.launcher, ["archive", "--add", str(setup.ledger.workspace)]).strip()
    except NasError as error:
        added = f"the search was not added to the archive ({error})"
    setup.disk.say(added)


class NetformerProposer:
    """The ranked list first, then another proposer, which learns from what the list has found."""

    name = NAME

    def __init__(self, ranked: RankedList, then: Proposer, *, opening: int = OPENING) -> None:
        """`opening` is the number of runs that the list decides."""
        self.ranked = ranked
        self.then = then
        self.opening = opening

    def propose(self, view: SearchView) -> Proposal:
        used = sum(run.proposer == NAME for run in (*view.runs, *view.running))
        if used < self.opening:
            proposal = self._from_list(view)
            if proposal is not None:
                return proposal
        proposal = self.then.propose(view)
        return replace(proposal, proposer=f"{NAME}:{self.then.name}")

    def _from_list(self, view: SearchView) -> Proposal | None:
        """Return the best entry that can be trained and nobody has begun; a later one after every refusal."""
        known = known_keys(view)
        to_pass_over = view.attempt
        for entry in self.ranked.entries:
            config = _config_in(entry, view)
            if config is None or config.model.family not in view.families or canonical_key(config) in known:
                continue
            changes = _changes_to(config, view)
            if changes is None:
                continue
            if to_pass_over:
                to_pass_over -= 1
                continue
            return _proposal(entry, changes)
        return None


def task_fingerprint(info: TaskInfo | None) -> str:
    """Return a short hash of the task and its data."""
    about = info and {"task": info.task.model_dump(mode="json"), "sha256": info.source.sha256}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def make_list(setup: ProposerSetup) -> RankedList:
    """Return the list of this search: made once, then read. Raises ConfigError, StateError or OSError."""
    runs_dir, seed = setup.ledger.runs_dir, setup.ledger.state.seed
    facts_file, list_file = runs_dir / FACTS_FILE, runs_dir / LIST_FILE
    task = task_fingerprint(load_task_info(runs_dir))
    known = RankedList.read(list_file, task)
    if known is not None:
        return known
    flags = ["propose", "--facts", str(facts_file), "--count", str(LISTED), "--seed", str(seed)]
    answer = json.loads(_call(setup.launcher, flags))
    record = {"schema": SCHEMA, "task": task, "model": answer["model"], "proposals": answer["proposals"]}
    write_json(list_file, record | {"learned_from": answer["learned_from"], "seed": seed})
    return RankedList(answer["model"], tuple(answer["proposals"]))


def _call(launcher: Launcher, arguments: Sequence[str]) -> str:
    try:
        return launcher.call(MODULE, arguments, timeout_s=CALL_TIMEOUT_S)
    except RunError as error:
        raise ConfigError(f"--proposer {NAME} cannot be used: {error}") from None


def _config_in(entry: Mapping[str, Any], view: SearchView) -> RunConfig | None:
    plain = {"task": view.base.task.model_dump(), "seed": view.base.seed}
    try:
        return RunConfig.model_validate(plain | dict(entry["config"]))
    except (ValidationError, KeyError, TypeError, ValueError):
        return None


def _changes_to(config: RunConfig, view: SearchView) -> tuple[Change, ...] | None:
    """Return the changes to the base configuration; None if this search refuses the result."""
    changes = tuple(changes_between(view.base, config, view.fit))
    try:
        apply_changes(view.base, changes, max_seq_len=view.max_seq_len, fit=view.fit)
    except ProposalError:
        return None
    return changes


def _proposal(entry: Mapping[str, Any], changes: tuple[Change, ...]) -> Proposal:
    rank = entry.get("rank")
    expected = finite(entry.get("expected_val_mse"))
    return Proposal(
        NAME,
        parent=BASE_RUN,
        changes=changes,
        hypothesis=f"rank {rank} of what other data sets have taught about data like this",
        expected_score=expected,
        rank=rank if isinstance(rank, int) else None,
    )
