"""The search's memory: agent_state.json and runs/, kept in step, rebuilt from each other."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from nas_system.config_io.config_file import read_config
from nas_system.errors import ConfigError, StateError
from nas_system.files import RecordCache, read_record, set_aside
from nas_system.nas_agent.agent_state import (
    METRIC_NAMES,
    PURPOSES,
    STATE_FILE,
    AgentState,
    NewerState,
    RepeatInfo,
    RunInfo,
    RunInProgress,
    RunTexts,
    UnreadableState,
    add_repeat,
    add_run,
    get_best_run,
    get_run,
    load_agent_state,
    save_agent_state,
)
from nas_system.nas_agent.run_folders import refuse_linked_runs
from nas_system.processes.run_files import BASE_CONFIG_FILE, FACTS_FILE, RunPaths, run_ids
from nas_system.space.run_config import RunConfig, canonical_key
from nas_system.space.tasks.task import metric_on


class Ledger:
    """One workspace: its state in memory, its files on disk, a cache of the runs' configurations."""

    def __init__(self, workspace: Path, state: AgentState) -> None:
        self.workspace = workspace
        self.runs_dir = workspace / "runs"
        self.state = state
        self._configs: dict[str, RunConfig | None] = {}
        self._keys: dict[str, str | None] = {}
        self._proposals: dict[str, Mapping[str, Any]] = {}
        self._records = RecordCache()
        self._texts = RunTexts()
        self._paths: dict[str, RunPaths] = {}
        self._ended: tuple[tuple[RunInfo, ...], frozenset[str]] = ((), frozenset())
        """The runs that have ended, and their ids."""

    @classmethod
    def open(cls, workspace: Path) -> tuple[Ledger, str | None]:
        """Load the workspace; the second value is a note, in one line, if the state had to be rebuilt.

        A state that cannot be read is set aside (never deleted) and rebuilt from `runs/`.
        Raises StateError when neither tells what the search was, or the state is newer than
        this program, or the folder of a run is a link.
        """
        path = workspace / STATE_FILE
        runs_dir = workspace / "runs"
        refuse_linked_runs(runs_dir)
        if path.is_symlink():
            raise StateError(
                f"{path} is a link to {os.readlink(path)}, and a search replaces the whole file: "
                "put the file itself here, or give the folder it lies in as --workspace"
            )
        try:
            state = load_agent_state(path)
        except (NewerState, UnreadableState):
            raise
        except StateError as error:
            aside = set_aside(path)
            state = rebuild_state(runs_dir)
            if state is None:
                os.replace(aside, path)
                raise StateError(
                    f"{error}; and {runs_dir} holds no run to rebuild it from, or no {FACTS_FILE} and "
                    f"{BASE_CONFIG_FILE} next to its runs. Move {path} and {runs_dir} away to start again"
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
        """Return the files of one run."""
        known = self._paths.get(run_id)
        if known is None:
            known = self._paths[run_id] = RunPaths(self.runs_dir / run_id)
        return known

    def save(self, **changes: Any) -> None:
        """Replace fields of the state and write it, durably, before anything else happens."""
        state = self.state.replace(**changes)
        save_agent_state(state, self.workspace / STATE_FILE, self._texts)
        self.state = state

    def begin(self, run_id: str, step: str, device: str | None = None, *, purpose: str | None = None) -> None:
        """Record a run, or a repeat for a purpose, as in progress, with the CUDA device that is leased to
        it."""
        after = None if purpose is None else len(self.state.runs)
        run = RunInProgress(run_id=run_id, step=step, device=device, purpose=purpose, after=after)
        self.save(in_progress=(*self.state.in_progress, run))

    def reach(self, run_id: str, step: str) -> None:
        """Record which node has acted on a run in progress; nothing for one that is not."""
        self._update(run_id, step=step)

    def lease(self, run_id: str, device: str | None) -> None:
        """Record which CUDA device a run in progress has from now on."""
        self._update(run_id, device=device)

    def lease_alone(self, run_id: str) -> None:
        """Record that a run in progress needs all of its device."""
        self._update(run_id, alone=True)

    def _update(self, run_id: str, **changes: object) -> None:
        runs = tuple(
            run.model_copy(update=changes) if run.run_id == run_id else run for run in self.state.in_progress
        )
        if runs != self.state.in_progress:
            self.save(in_progress=runs)

    def finish(self, run: RunInfo, repeats: Sequence[RepeatInfo] = (), **changes: Any) -> None:
        """Add a finished run with the repeats that belong to it; it is in progress no longer."""
        state = add_run(self.state, run)
        for repeat in repeats:
            state = add_repeat(state, repeat)
        left = tuple(other for other in self.state.in_progress if other.run_id != run.run_id)
        self.save(
            runs=state.runs,
            repeats=state.repeats,
            best_run_id=state.best_run_id,
            in_progress=left,
            **changes,
        )

    def finish_repeat(self, repeat: RepeatInfo, refuted: Sequence[RunInfo] = ()) -> None:
        """Add a finished repeat, which is in progress no longer; `refuted` are runs whose scores turned out
        not to be theirs, as they stand from now on."""
        others = {run.run_id: run for run in refuted}
        state = self.state.replace(runs=tuple(others.get(run.run_id, run) for run in self.state.runs))
        state = add_repeat(state, repeat)
        left = tuple(other for other in state.in_progress if other.run_id != repeat.training_id)
        self.save(runs=state.runs, repeats=state.repeats, best_run_id=state.best_run_id, in_progress=left)

    def config(self, run_id: str) -> RunConfig | None:
        """Return what a run was trained with; None when its folder is gone, damaged or edited."""
        if run_id not in self._configs:
            try:
                self._configs[run_id] = self._read_config(run_id)
            except ConfigError:
                self._configs[run_id] = None
        return self._configs[run_id]

    def config_problem(self, run_id: str) -> str | None:
        """Return why the configuration in a run's folder cannot be used; None if it can."""
        try:
            self._read_config(run_id)
        except ConfigError as error:
            return str(error)
        return None

    def _read_config(self, run_id: str) -> RunConfig:
        """Read it from its file. Raises ConfigError if that is not what was trained."""
        path, run = self.paths(run_id).config, get_run(self.state, run_id)
        config = read_config(path, follow_link=False)
        if run is not None and run.key is not None and canonical_key(config) != run.key:
            raise ConfigError(f"{path} was changed after the training; the run's score is not this one's")
        return config

    def remember(self, run_id: str, config: RunConfig) -> None:
        """Keep the configuration of the current run, so that it is not read back."""
        self._configs[run_id] = config
        self._keys.pop(run_id, None)

    def key(self, run_id: str) -> str | None:
        """Return the canonical key of `config`; None where that is None."""
        if run_id not in self._keys:
            config = self.config(run_id)
            self._keys[run_id] = None if config is None else canonical_key(config)
        return self._keys[run_id]

    def proposal(self, run_id: str) -> Mapping[str, Any]:
        """Read proposal.json of a run; empty when it is gone or damaged."""
        known = self._proposals.get(run_id)
        if known is not None:
            return known
        path = self.paths(run_id).proposal
        if not self._has_ended(run_id):
            return self._records.read(path) or {}  # that of a run in progress may still change
        self._proposals[run_id] = found = read_record(path) or {}
        self._records.forget(path)
        return found

    def _has_ended(self, run_id: str) -> bool:
        if self._ended[0] is not self.state.runs:
            self._ended = (self.state.runs, frozenset(run.run_id for run in self.state.runs))
        return run_id in self._ended[1]

    def history(self, paths: RunPaths) -> Mapping[str, Any] | None:
        """Return what a training has written about its epochs; None while that cannot be read."""
        return self._records.read(paths.history)

    def end(self, paths: RunPaths) -> Mapping[str, Any] | None:
        """Return what the supervisor of a training has written at its end; None while that cannot be read."""
        return self._records.read(paths.exit)

    def run_with_key(self, key: str) -> RunInfo | None:
        """Return the finished run that already trained this configuration."""
        return next((run for run in self.state.runs if run.key == key), None)


def rebuild_state(runs_dir: Path) -> AgentState | None:
    """Rebuild the state from the run directories; None if that is impossible.

    Every finished run left its entry and its place in verdict.json; the task and the data stand in
    task_facts.json, the seed in base_config.py. A run without a verdict is in progress, unless it is so old
    that its verdict must have been lost.
    """
    ids = run_ids(runs_dir)
    facts = read_record(runs_dir / FACTS_FILE)
    if not ids or facts is None:
        return None
    verdicts = {run_id: _verdict(runs_dir / run_id) for run_id in ids}
    without = [run_id for run_id in ids if verdicts[run_id] is None]
    in_progress = _in_progress(runs_dir, ids, without)
    ids = _in_order_of_end([run_id for run_id in ids if run_id not in in_progress], verdicts)
    runs = tuple(
        verdict.run if (verdict := verdicts[run_id]) else _lost_run(runs_dir / run_id) for run_id in ids
    )
    known = [verdict for run_id in ids if (verdict := verdicts[run_id])]
    measured = [verdict for verdict in known if verdict.noise_runs]
    repeats, unfinished = _repeats(runs_dir, ids, known)
    values = {
        "task": facts.get("task"),
        "data": facts.get("source"),
        "noise": measured[-1].noise if measured else None,
        "noise_runs": measured[-1].noise_runs if measured else 0,
        "in_progress": [
            RunInProgress(run_id=run_id, step="read_context", device=_device(runs_dir / run_id))
            for run_id in in_progress
        ]
        + unfinished,
        "repeats": repeats,
        "leads_by": "margin" if known and not any(verdict.by_mean for verdict in known) else "mean",
        "max_runs": max(AgentState().max_runs, len(runs) + len(in_progress)),
    }
    try:
        seed = read_config(runs_dir / BASE_CONFIG_FILE, follow_link=False).seed
        state = AgentState.model_validate({**values, "seed": seed, "runs": runs})
    except (ValidationError, ConfigError):
        return None
    best = get_best_run(state)
    scores = {run_id: _hold_out_score(runs_dir / run_id, state.metric) for run_id in ids}
    state = state.replace(
        best_run_id=best.run_id if best else None,
        hold_out={run_id: score for run_id, score in scores.items() if score is not None},
    )
    return state if state.task and state.data else None


class _Verdict(NamedTuple):
    """Of verdict.json what the state is rebuilt from."""

    run: RunInfo
    noise: Any
    """Validated with the whole state, like `noise_runs`."""
    noise_runs: Any
    number: int | None
    """The run's place among those that have ended; None where a search knew one run at a time."""
    repeats: list[RepeatInfo]
    """That ended with the run."""
    by_mean: bool
    """Whether the lowest mean leads, see `AgentState.leads_by`."""


def _repeats(
    runs_dir: Path, ids: list[str], verdicts: list[_Verdict]
) -> tuple[list[RepeatInfo], list[RunInProgress]]:
    """Return the repeats that have ended, as they ended, and those in progress."""
    ended = {repeat.training_id: (-1, repeat) for verdict in verdicts for repeat in verdict.repeats}
    in_progress = []
    for folder in itertools.chain.from_iterable(
        sorted((runs_dir / run_id / "repeats").glob("seed_*")) for run_id in ids
    ):
        paths, training_id = RunPaths(folder), folder.relative_to(runs_dir).as_posix()
        record, asked = read_record(paths.verdict) or {}, read_record(paths.proposal) or {}
        repeat = _repeat_in(record.get("repeat"))
        if repeat is not None and repeat.training_id == training_id:
            number = record.get("number")
            ended[training_id] = (number if type(number) is int else len(ended), repeat)
        elif training_id not in ended and asked.get("purpose") in PURPOSES:
            seen = asked.get("seen")
            after = seen.get("ended") if isinstance(seen, dict) else None
            in_progress.append(
                RunInProgress(
                    run_id=training_id,
                    step="read_context",
                    device=_device(folder),
                    purpose=asked["purpose"],
                    after=after if type(after) is int and after >= 0 else 0,
                )
            )
    in_order = sorted(ended.values(), key=lambda entry: (entry[0], entry[1].seed))
    return [repeat for _, repeat in in_order], in_progress


def _repeat_in(entry: object) -> RepeatInfo | None:
    """Read a repeat's entry in a verdict; None if it is none."""
    if not isinstance(entry, dict):
        return None
    try:
        return RepeatInfo.model_validate({n: entry[n] for n in RepeatInfo.model_fields if n in entry})
    except ValidationError:
        return None


def _in_progress(runs_dir: Path, ids: list[str], without_verdict: list[str]) -> list[str]:
    """Return the runs that have not ended, of those without a verdict: the last one, and what its proposer
    saw in progress. Any other has ended, and lost its verdict. Only the last run may have no proposal yet;
    then the one before it tells."""
    open_ids = ids[-1:]
    for run_id in reversed(ids[-2:]):
        seen = (read_record(RunPaths(runs_dir / run_id).proposal) or {}).get("seen")
        known = seen.get("in_progress") if isinstance(seen, dict) else None
        if isinstance(known, list):
            open_ids += [run_id, *known]
            break
    return [run_id for run_id in without_verdict if run_id in open_ids]


def _device(run_dir: Path) -> str | None:
    """Return the CUDA device that was leased to the run when it was proposed."""
    device = (read_record(RunPaths(run_dir).proposal) or {}).get("device")
    return device if isinstance(device, str) else None


def _in_order_of_end(ids: list[str], verdicts: Mapping[str, _Verdict | None]) -> list[str]:
    """Return the runs as they ended; what lost its number takes the places that are free."""
    numbers = {run_id: verdict.number for run_id in ids if (verdict := verdicts[run_id])}
    taken = set(numbers.values())
    free = iter([place for place in range(len(ids)) if place not in taken] + [len(ids)] * len(ids))
    places = {run_id: next(free) if (number := numbers.get(run_id)) is None else number for run_id in ids}
    return sorted(ids, key=places.__getitem__)


def _verdict(run_dir: Path) -> _Verdict | None:
    """Read verdict.json; None for one that is damaged or another run's copy."""
    verdict = read_record(RunPaths(run_dir).verdict)
    if verdict is None:
        return None
    entry = verdict.get("run")
    if not isinstance(entry, dict):
        return None
    try:
        # A field that a newer program added must not cost the run its score.
        run = RunInfo.model_validate(
            {name: entry[name] for name in (*RunInfo.model_fields, *METRIC_NAMES) if name in entry}
        )
    except ValidationError:
        return None
    if run.run_id != run_dir.name:
        return None
    number = verdict.get("number")
    known = number if type(number) is int and number >= 0 else None
    entries = verdict.get("repeats")
    repeats = [
        repeat
        for entry in (entries if isinstance(entries, list) else ())
        if (repeat := _repeat_in(entry)) is not None and repeat.run_id == run.run_id
    ]
    by_mean = verdict.get("leads_by") == "mean"
    return _Verdict(run, verdict.get("noise"), verdict.get("noise_runs"), known, repeats, by_mean)


def _lost_run(run_dir: Path) -> RunInfo:
    """Return what is known of a run without its verdict: that it existed, and what it cost."""
    proposal = read_record(RunPaths(run_dir).proposal) or {}
    tokens = proposal.get("tokens")
    return RunInfo(
        run_id=run_dir.name,
        status="MISSING",
        cause="verdict.json is gone or damaged",
        tokens=tokens if type(tokens) is int else 0,
    )


def _hold_out_score(run_dir: Path, metric: str) -> float | None:
    record = read_record(RunPaths(run_dir).hold_out) or {}
    score = record.get(metric_on("hold_out", metric), record.get(metric_on("sealed", metric)))
    return float(score) if isinstance(score, int | float) and math.isfinite(score) else None
