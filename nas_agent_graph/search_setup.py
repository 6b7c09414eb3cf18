"""What a search begins with: its task, its base configuration and its data, and the limits of its runs.

Task, base configuration and data are fixed at the first start and checked at every later one: one search
never mixes two.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Launcher
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.pool.slots import SEQUENTIAL, Slots
from nas_agent_graph.search_view import CONTINUED
from nas_agent_graph.text.terminal import printable
from nas_system.config_io.config_file import named_config, read_config, write_config
from nas_system.errors import ConfigError, RunError
from nas_system.files import (
    find_moved,
    read_object,
    set_aside,
    sha256_of_file,
    sha256_of_files,
    write_json,
)
from nas_system.nas_agent.agent_state import get_best_run, get_run
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Status
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.processes.job import SILENCE_LIMIT_S, disk_limit_mb
from nas_system.processes.run_files import BASE_CONFIG_FILE, FACTS_FILE, RunPaths
from nas_system.space import ForecastingTask, RunConfig, TaskConfig, canonical_key
from nas_system.space.changes import explain
from nas_system.space.data_card import said_of, warnings_of
from nas_system.space.families import FAMILIES, families_of
from nas_system.space.sampling import SHORTEST_LOOK_BACK, fitting_default, is_installed
from nas_system.space.series_defaults import SHORT, SeriesFit
from nas_system.space.task_flags import task_fields, task_with
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.space.tasks import TASK_NAMES, class_of

NEW_FACTS_FILE = "task_facts.new.json"


def open_search(
    ledger: Ledger, arguments: argparse.Namespace, launcher: Launcher, disk: DiskSpace
) -> tuple[RunConfig, TaskInfo]:
    """Return the base configuration and the task info: fixed at the first start, then checked."""
    made = ledger.runs_dir / NEW_FACTS_FILE
    _set_folder_aside(made)
    made.unlink(missing_ok=True)
    try:
        base, info = look_up_search(ledger, arguments, launcher, ledger.runs_dir)
    except RunError:
        disk.prove(ledger.runs_dir)  # raises OSError, on which the caller waits
        raise
    if made.exists():
        _set_folder_aside(facts_file_of(ledger))
        os.replace(made, facts_file_of(ledger))
    if ledger.state.data is not None and ledger.state.data != info.source.to_json():
        ledger.save(data=info.source.to_json())  # the same data in another place
    write_config(ledger.runs_dir / BASE_CONFIG_FILE, base)
    if ledger.state.task is None:
        ledger.save(
            task=base.task,
            data=info.source.to_json(),
            seed=base.seed,
            max_runs=arguments.max_runs,
            leads_by="mean",
        )
    return base, info


def _set_folder_aside(path: Path) -> None:
    """Rename a folder that stands where a file of ours belongs."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)


def look_up_search(
    ledger: Ledger, arguments: argparse.Namespace, launcher: Launcher, folder: Path
) -> tuple[RunConfig, TaskInfo]:
    """Return what `open_search` will fix, with nothing fixed yet; new task info is left in `folder`."""
    stored = ledger.state.task
    task = task_of(arguments, stored)
    moved = None if stored is None else _moved_data(ledger, stored, task)
    if stored is not None:
        # The path at the beginning stays the name of the data.
        task = task if moved is None else task.model_copy(update={"dataset": dict(stored)["dataset"]})
        _refuse_other_task(stored, task)
    base_file = ledger.runs_dir / BASE_CONFIG_FILE
    first = stored is None or not base_file.exists()
    if first:
        base = named_config(arguments.base_config or task.default_config)
        seed = base.seed if arguments.seed is None else arguments.seed
        try:
            base = RunConfig.model_validate(base.model_copy(update={"task": task, "seed": seed}).model_dump())
        except ValidationError as error:
            raise ConfigError(f"--base-config {arguments.base_config}: {explain(error)}") from None
    else:
        base = read_config(base_file, follow_link=False)
        _refuse_other_base(base, arguments)
    info = _task_info(ledger, task, arguments, launcher, folder / NEW_FACTS_FILE, moved)
    if not first:
        return base, info
    base = base.model_copy(update={"task": base.task.decided_by(info.task)})
    if (count := base.task.trainings) > 1:
        print(f"each configuration is trained {count} times: its score is the mean over {count} origins")
    return _fitting(base, info, arguments.base_config), info


def _fitting(base: RunConfig, info: TaskInfo, name: str | None) -> RunConfig:
    """Return the base configuration; the default one is fitted to a short series."""
    longest, fit = info.max_seq_len, SeriesFit.of(info.measured)
    if name is None and fit is not None and fit.train_rows - base.data.seq_len < SHORT:
        fitted = fitting_default(base.model.family, base.task, base.seed, longest, fit)
        if fitted is not None:
            return fitted
    if longest is None or base.data.seq_len <= longest:
        return base
    problem = (
        f"data.seq_len={base.data.seq_len} leaves no training window, {longest} is the longest that does"
    )
    if name is not None:
        raise ConfigError(f"--base-config {name}: {problem}; shorten it, or bring a longer series")
    plain = base.model_dump()
    plain["data"]["seq_len"] = max(min(SHORTEST_LOOK_BACK, longest), longest // 2)
    plain["model"]["label_len"] = min(plain["model"].get("label_len", 0), plain["data"]["seq_len"])
    print(f"note: the default's {problem}; run_0000 looks back {plain['data']['seq_len']} steps", flush=True)
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        raise ConfigError(f"the series is too short to search on: {problem}; bring a longer one") from None


def task_of(arguments: argparse.Namespace, stored: TaskConfig | None) -> TaskConfig:
    """Return the stored task, or the default one, with the given flags on top.

    The number of origins of a new search is found with its data unless it is given; that of an old one stays.
    """
    given = task_fields(arguments)
    if stored is not None and given.get("origins") == 0:
        del given["origins"]
    kind = class_of(given.get("name", TASK_NAMES[0]))
    if stored is None and kind is not None and "origins" in kind.model_fields:
        given.setdefault("origins", 0)
    if "dataset" in given:
        path = Path(given["dataset"]).expanduser()
        if path.suffix != "" or os.sep in given["dataset"]:
            given["dataset"] = str(path.absolute())
    return task_with(stored or ForecastingTask(), given)


def _refuse_other_task(stored: TaskConfig, wanted: TaskConfig) -> None:
    before, now = dict(stored), dict(wanted)
    if type(stored) is not type(wanted):
        before, now = {"task": stored.name}, {"task": wanted.name}
    different = [
        f"{name} is {_shown(before[name])}, not {_shown(now[name])}"
        for name in before
        if before[name] != now[name]
    ]
    if different:
        raise ConfigError(
            f"this workspace holds a search for another task ({'; '.join(different)}); "
            "choose another --workspace, or leave the task flags out"
        )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _refuse_other_base(base: RunConfig, arguments: argparse.Namespace) -> None:
    if arguments.base_config is not None:
        # Compared under this search's task, which may leave fields without effect.
        wanted = named_config(arguments.base_config).model_copy(update={"task": base.task})
        if canonical_key(wanted) != canonical_key(base):
            raise ConfigError(
                f"this search began with another base configuration than {arguments.base_config!r}; "
                "choose another --workspace, or leave --base-config out"
            )
    if arguments.seed is not None and arguments.seed != base.seed:
        raise ConfigError(
            f"this search began with --seed {base.seed}, not {arguments.seed}; choose another --workspace"
        )


def refuse_to_continue(ledger: Ledger, run_id: str, end: str | None) -> None:
    """Raise ConfigError unless the run was stopped early and may be trained on now."""
    run = get_run(ledger.state, run_id)
    if run is None or run.status != Status.PRUNED:
        known = [other.run_id for other in ledger.state.runs if other.status == Status.PRUNED]
        raise ConfigError(
            f"--continue {run_id}: only a run that was stopped early is continued; there are: "
            f"{', '.join(known) or 'none'}"
        )
    for other in ledger.state.run_ids:
        record = ledger.proposal(other)
        if record.get("proposer") == CONTINUED and record.get("parent") == run_id:
            raise ConfigError(f"--continue {run_id}: {other} is that run's continuation; leave it out")
    if not RunPaths(ledger.paths(run_id).work).last.is_file():
        raise ConfigError(f"--continue {run_id}: its checkpoint is gone; propose it again with other values")
    if end is not None:
        raise ConfigError(f"--continue {run_id}: {end}; raise the limit, a continued run counts as one more")


def modules_for(task: TaskConfig) -> list[str]:
    """Return what every training of the task imports: its kind, and a package that all its families need."""
    packages = {FAMILIES[family].needs_package for family in families_of(task.kind)}
    package = packages.pop() if len(packages) == 1 else None
    kind = f"nas_system.tasks.{task.kind}"
    return [kind] if package is None or not is_installed(package) else [kind, package]


def facts_file_of(ledger: Ledger) -> Path:
    return ledger.runs_dir / FACTS_FILE


def _task_info(
    ledger: Ledger,
    task: TaskConfig,
    arguments: argparse.Namespace,
    launcher: Launcher,
    made: Path,
    moved: Path | None,
) -> TaskInfo:
    """Return the task info; measured once, again only if the data cannot be found, never with other data.

    `moved` is where the file of the data is now, if that was said.
    """
    info = load_task_info(ledger.runs_dir)
    stored = ledger.state.data
    if info is not None and stored is not None and info.source.kind == "csv":
        place = moved or place_of_data(info.source, ledger, arguments)
        if place is not None:
            return info if place == info.source.path else info_at(place, info, ledger, made)
    if info is not None and stored is not None and _data_is_there(info.source) and arguments.data_dir is None:
        return info
    command = ["--out", str(made), "--task-json", task.model_dump_json()]
    if arguments.data_dir is not None:
        command += ["--data-dir", str(arguments.data_dir.expanduser().absolute())]
    if arguments.dry_run:
        command.append("--no-download")
    launcher.call("nas_system.describe", command, timeout_s=task.describe_timeout_s)
    info = TaskInfo.from_json(read_object(made))
    source = info.source
    if stored is not None and source.sha256 != stored.get("sha256"):
        made.unlink()
        if source.kind == stored.get("kind") == "csv":
            raise ConfigError(_changed(ledger, source.path or Path(source.name), source.sha256))
        raise ConfigError(
            f"this search began with the data {stored.get('name')} ({stored.get('kind')}, sha256 "
            f"{str(stored.get('sha256'))[:12]}), but now there is {source.name} "
            f"({source.kind}, sha256 {source.sha256[:12]}); one search never "
            "mixes two. Bring the first back (--data-dir), or choose another --workspace"
        )
    if source.notice:
        print(f"NOTE: {source.notice}", flush=True)
    for text in said_of(info):
        print(f"note: {printable(text, 600)}", flush=True)
    for warning in warnings_of(info):
        print(f"WARNING: {printable(warning, 600)}", flush=True)
    return info


def _moved_data(ledger: Ledger, stored: TaskConfig, wanted: TaskConfig) -> Path | None:
    """Return the file that is named now if it holds the data of the search and was elsewhere.

    Raises ConfigError for the file of the search with other rows in it.
    """
    before, now = (dict(task).get("dataset", "") for task in (stored, wanted))
    path = Path(now)
    data = ledger.state.data or {}
    if before == now or data.get("kind") != "csv" or not path.is_file():
        return None
    checksum = sha256_of_file(path)
    if checksum == data.get("sha256"):
        return path
    if path.name == Path(before).name:
        raise ConfigError(_changed(ledger, path, checksum))
    return None


def place_of_data(source: DataSource, ledger: Ledger, arguments: argparse.Namespace) -> Path | None:
    """Return the file of the search's data, also where its project was moved as a whole."""
    assert source.path is not None
    if _data_is_there(source):
        return source.path
    workspace = ledger.runs_dir.absolute().parent
    folders = [Path.cwd(), workspace, workspace.parent]
    if arguments.data_dir is not None:
        folders.insert(0, arguments.data_dir.expanduser())
    return find_moved(source.path, source.sha256, folders)


def info_at(place: Path, info: TaskInfo, ledger: Ledger, made: Path) -> TaskInfo:
    """Write into `made` where the data are now; nothing else about them has changed."""
    record = read_object(facts_file_of(ledger))
    record["source"] = replace(info.source, path=place).to_json()
    write_json(made, record)
    print(f"note: the data of this search are now {place} (the same sha256)", flush=True)
    return replace(info, source=replace(info.source, path=place))


def _changed(ledger: Ledger, path: Path, checksum: str) -> str:
    """Say that a file holds other data than at the beginning, and how to go on with those."""
    stored = str((ledger.state.data or {}).get("sha256"))
    best = get_best_run(ledger.state)
    again, with_flags = "begin again", f"--workspace NEW --dataset {path}"
    if best is not None:
        again += " from the best configuration"
        with_flags += f" --base-config {ledger.paths(best.run_id).config}"
    return (
        f"{path} has changed since this search began (sha256 {stored[:12]}, now {checksum[:12]}); one search "
        f"never mixes two. Bring the first back, or {again}, with the same task flags and: "
        f"{with_flags}"
    )


def _data_is_there(source: DataSource) -> bool:
    path, files = source.path, source.files
    if path is None:
        return True
    if files:
        there = all(isinstance(name, str) and (path / name).is_file() for name in files)
        return there and sha256_of_files(path, files) == source.sha256
    return path.is_file() and sha256_of_file(path) == source.sha256


def limits_of(arguments: argparse.Namespace, launcher: Launcher, parallel: int = 1) -> Limits:
    """Return what the search may spend; `parallel` trainings share the memory of the machine and its disk."""
    at_once = min(parallel, arguments.max_runs)
    return Limits(
        max_runs=arguments.max_runs,
        max_seconds=None if arguments.max_hours is None else arguments.max_hours * 3600,
        max_tokens=arguments.max_tokens,
        max_cost_usd=arguments.max_cost,
        run_seconds=None if arguments.minutes_per_run is None else arguments.minutes_per_run * 60,
        run_steps=arguments.steps_per_run,
        least_free_mb=arguments.keep_free,
        disk_wait_seconds=None if arguments.wait_for_disk is None else arguments.wait_for_disk * 60,
        silence_seconds=_silence_limit_s(arguments.max_silent_minutes),
        memory_mb=_memory_limit_mb(arguments.memory_per_run, launcher, at_once),
        disk_mb=_disk_limit_mb(arguments.disk_per_run, arguments.workspace.expanduser().absolute(), at_once),
        stop_early=None if arguments.stop_early == "off" else arguments.stop_early,
        repeat_base=0 if arguments.repeats == 0 else arguments.repeat_base,
        repeats=arguments.repeats,
    )


def _silence_limit_s(minutes: float | None) -> float | None:
    """Return the default if none is given; 0 means no limit."""
    return SILENCE_LIMIT_S if minutes is None else minutes * 60 or None


LEAST_MEMORY_MB = 400
"""What a training holds before its first step: Python, torch and a short series."""


def _memory_limit_mb(gib: float | str | None, launcher: Launcher, parallel: int) -> int | None:
    """Return a part of the launcher's limit if none or `auto` is given; 0 means no limit."""
    if isinstance(gib, float):
        return math.ceil(gib * 1024) or None
    limit = launcher.memory_limit_mb()
    if limit is None or parallel == 1:
        return limit
    if limit // parallel < LEAST_MEMORY_MB:
        raise ConfigError(
            f"--parallel {parallel} leaves each training {limit // parallel} MiB of memory, too little; "
            f"lower it to {max(1, limit // LEAST_MEMORY_MB)}, or say how much with --memory-per-run"
        )
    return limit // parallel


def _disk_limit_mb(gib: float | None, workspace: Path, parallel: int) -> int | None:
    """Return a share of what is free if no limit is given; 0 means no limit."""
    if gib is not None:
        return math.ceil(gib * 1024) or None
    there = next(folder for folder in (workspace, *workspace.parents) if folder.is_dir())
    return disk_limit_mb(shutil.disk_usage(there).free / 2**20 / parallel)


def train_command_of(
    arguments: argparse.Namespace,
    facts_file: Path,
    launcher: Launcher,
    slots: Slots = SEQUENTIAL,
    trainer: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return the beginning of every training's command line."""
    if trainer is not None:
        return tuple(trainer)
    command = [sys.executable, "-m", "nas_system.train", "--facts", str(facts_file)]
    # Of a leased device a training sees nothing else.
    device = "cuda:0" if slots.devices else arguments.device
    command += ["--device", device, "--pictures", "later"]
    if arguments.threads == "auto" and slots.total > 1:
        command += ["--threads", str(max(1, launcher.cores() // slots.total))]
    elif arguments.threads is not None:
        command += ["--threads", str(arguments.threads)]
    return tuple(command)
