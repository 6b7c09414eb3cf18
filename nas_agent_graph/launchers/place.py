"""Which job of a cluster a training's latest attempt is: `place.json`, written by the agent alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_system.errors import ConfigError
from nas_system.files import read_record, write_json
from nas_system.nas_agent.outcome import Outcome, Status
from nas_system.processes.run_files import RunPaths
from nas_system.processes.run_lock import attempt_in, is_alive

_LARGEST_MB = 2**30


@dataclass(frozen=True)
class Place:
    """Which job an attempt is, as place.json says; nobody but the agent writes it."""

    engine: str
    name: str
    attempt: int
    starts: int = 1
    """How often the attempt has been submitted."""
    failures: int = 0
    """How many of these jobs have ended, by the engine's word, before the training began."""
    ended_as: str | None = None
    """The engine's own word for its end, where the training left none."""
    memory_mb: int | None = None
    """What its job asks for, where that was estimated."""


def read_place(run_dir: Path) -> Place | None:
    """Return where the run's latest attempt was sent; None for a run that trains on this machine."""
    record = read_record(RunPaths(run_dir).place) or {}
    attempt, engine, name = attempt_in(record), record.get("engine"), record.get("name")
    if attempt == 0 or not isinstance(engine, str) or not isinstance(name, str):
        return None
    starts, failures, ended_as = (record.get(key) for key in ("starts", "failures", "ended_as"))
    memory_mb = record.get("memory_mb")
    return Place(
        engine,
        name,
        attempt,
        starts if type(starts) is int and starts > 0 else 1,
        failures if type(failures) is int and failures > 0 else 0,
        ended_as if isinstance(ended_as, str) else None,
        memory_mb if type(memory_mb) is int and 0 < memory_mb <= _LARGEST_MB else None,
    )


def write_place(run_dir: Path, place: Place) -> None:
    """Write it down, durably, before the job is submitted."""
    write_json(RunPaths(run_dir).place, {"schema": 1, **dataclasses.asdict(place)})


def has_outgrown_estimate(run_dir: Path, outcome: Outcome) -> bool:
    """Return whether the training ran out of host memory in a job whose memory was estimated."""
    if outcome.status is not Status.OOM_HOST:
        return False
    place = read_place(run_dir)
    return place is not None and place.memory_mb is not None


def where_it_trains(run_dir: Path) -> str:
    """Say for people whether a run that has not ended trains now, and where."""
    place, paths = read_place(run_dir), RunPaths(run_dir)
    if place is None or attempt_in(read_record(paths.exit)) >= place.attempt:
        return "training now" if is_alive(run_dir) else "not training at this moment"
    claim = read_record(paths.claim(place.attempt))
    if claim is None:
        return f"waits for a node, as job {place.name} of {place.engine}"
    return f"on {claim.get('host')}, as job {claim.get('job') or place.name} of {place.engine}"


def refuse_other_engines(run_dirs: Sequence[Path], launcher: str) -> None:
    """Raise ConfigError for a training that is with another engine and has not ended: two would train it."""
    for run_dir in run_dirs:
        place = read_place(run_dir)
        ended = attempt_in(read_record(RunPaths(run_dir).exit))
        if place is not None and place.engine != launcher and ended < place.attempt:
            raise ConfigError(
                f"{run_dir.name} was sent to {place.engine} as {place.name} and has not ended; go on with "
                f"--launcher {place.engine}. If it is certain that it does not run there any more, remove "
                f"{RunPaths(run_dir).place}"
            )
