"""Trains on a cluster: each attempt at a training is a job, and the job is our own supervisor.

The engine delivers jobs at least once; that an attempt begins exactly once is ours (`processes.cluster_job`).
A job has a name before it has a number: search, run, attempt. Whether a training has begun, how far it is and
how it ended stands in the files of its folder, which all nodes share; the engine is asked only whether a job
lives. What it does not answer is unknown, and waits. Calls run on the agent's own host.
"""

from __future__ import annotations

import dataclasses
import math
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nas_agent_graph.context import IN_PROGRESS, RunState, SearchLauncher
from nas_agent_graph.host.clock import Clock, SystemClock
from nas_agent_graph.launchers.engine import Conversation, Engine, JobRequest, NotNow, Word
from nas_agent_graph.launchers.environment import training_environment
from nas_agent_graph.launchers.memory_request import estimated_request_mb
from nas_agent_graph.launchers.place import Place, read_place, write_place
from nas_system.errors import ConfigError, RunError, SearchPaused
from nas_system.files import make_room, read_record, write_json
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job
from nas_system.processes.machine_memory import MEMORY_SHARE
from nas_system.processes.run_files import CLUSTER_FILE, RunPaths
from nas_system.processes.run_lock import attempt_in
from nas_system.processes.sandbox.modes import mode_in
from nas_system.processes.work_folder import continue_from

SHARED_SETTLE_S = 60.0
"""A file may be there for so long before another host sees it, in a folder that is shared by a network: the
caches of names and attributes (`acdirmax` of nfs(5))."""
LOCAL_SETTLE_S = 1.0
_NETWORK = (
    *("nfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "panfs", "pvfs"),
    *("cifs", "smb", "9p", "afs", "fuse"),
)
"""How the names of file systems begin that several hosts may share."""
MOST_FAILURES = 3
"""A job that has ended so often before its training began is not submitted again."""
_ORDINARY_REASONS = ("", "None", "Priority", "Resources", "BeginTime")
KEPT = (
    *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "TMPDIR"),
    *("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
)
"""Variables that a job keeps of those that its engine gives it."""


class ClusterLauncher:
    """Sends trainings to one engine; `here` does what belongs on the agent's host."""

    def __init__(
        self,
        engine: Engine,
        here: SearchLauncher,
        *,
        workspace: Path,
        say: Callable[[str], None],
        sandbox: str | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        talks: bool = True,
        estimates_memory: bool = False,
    ) -> None:
        """`sandbox` is a mode, by default what the environment says; `say` is called with notes for people.
        Without `talks`, who moves the `clock` calls `conversation.turn`. With `estimates_memory` a job
        without a limit on its memory asks for what its trainer estimates.

        Raises ConfigError for an environment that trainings cannot have.
        """
        self._engine, self._here, self._say = engine, here, say
        seen = training_environment(os.environ if environment is None else environment)
        self._workspace, self._python = workspace, python
        self._sandbox = mode_in(seen) if sandbox is None else sandbox
        # Of the agent's host.
        self._environment = {name: value for name, value in seen.items() if name not in KEPT}
        self._clock = clock or SystemClock()
        self._talks, self._estimates_memory = talks, estimates_memory
        self._conversation: Conversation | None = None
        self._places: dict[Path, Place | None] = {}
        self._paths: dict[Path, RunPaths] = {}
        self._gone: dict[str, float] = {}
        """When the question was asked after which the engine no longer had a job, by its name."""
        self._begun_at: dict[str, float] = {}
        """When a job was first seen to have begun, by its name."""
        self._claimed: set[str] = set()
        """Jobs that have made their claim: no claim is ever taken back."""
        self._reasons: set[tuple[str, str]] = set()
        self._settle_s = settle_seconds(workspace)

    @property
    def conversation(self) -> Conversation:
        """Return the conversation with the engine, which begins when it is first needed."""
        if self._conversation is None:
            search_id = self._search_id()
            self._conversation = Conversation(self._engine, f"nas-{search_id}-", self._say, self._clock)
            if self._talks:
                self._conversation.start()
        return self._conversation

    def _search_id(self) -> str:
        """Return what tells this search's jobs from those of others: made once, and kept with its runs.

        A copy of the folder is another search; that it was moved changes nothing.
        """
        path = self._workspace / "runs" / CLUSTER_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        record, inode = read_record(path) or {}, path.parent.stat().st_ino
        known = record.get("search_id")
        if isinstance(known, str) and len(known) == 8 and known.isalnum() and record.get("inode") == inode:
            return known
        search_id = secrets.token_hex(4)
        write_json(path, {"schema": 1, "search_id": search_id, "inode": inode})
        return search_id

    # -- trainings -------------------------------------------------------------------------------

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """Submit the attempt; it waits here while the engine takes no job.

        Raises RunError if its job has ended before it began again and again.
        """
        paths, known = RunPaths(run_dir), self._place_of(run_dir)
        if known is None or known.attempt != attempt:
            # Supervisors that end between claim and first record, again and again, count as well.
            has_begun = known is None or attempt_in(read_record(paths.process)) >= known.attempt
            failures = 0 if known is None or has_begun else known.failures
            known = Place(
                self._engine.name,
                name="",
                attempt=attempt,
                starts=0,
                failures=failures,
                ended_as=None if known is None else known.ended_as,
                memory_mb=self._memory_to_ask_for(run_dir, job, known),
            )
        if known.failures >= MOST_FAILURES:
            raise RunError(
                f"the job of {run_dir} has ended {known.failures} times before its training began "
                f"({known.ended_as}): does a node see {self._workspace}, and {self._python}? "
                f"{paths.supervisor_log} holds what it printed, and nas doctor --launcher "
                f"{self._engine.name} tries it"
            )
        if job.continues is not None and attempt == 1 and not RunPaths(paths.work).last.exists():
            try:
                continue_from(job.continues, run_dir)
            except OSError as error:
                reason = error.strerror or str(error)
                raise RunError(f"the training in {job.continues} cannot be continued: {reason}") from error
        # What was asked of an earlier start of this attempt is not asked of this one.
        make_room(paths.stop_request)
        parts = run_dir.relative_to(self._workspace).parts
        training = "-".join(part for part in parts if part not in ("runs", "repeats"))
        again = f"-{known.starts + 1}" if known.starts else ""
        name = f"{self.conversation.prefix}{training}-a{attempt}{again}"
        self._write(run_dir, dataclasses.replace(known, name=name, starts=known.starts + 1, ended_as=None))
        environment = self._environment | dict(job.environment)
        command = [self._python, "-m", "nas_system.processes.supervisor"]
        command += job.supervisor_arguments(run_dir, attempt, sandbox=self._sandbox)
        command += ["--engine", self._engine.name]
        command += ["--", *job.command]
        limit_mb = job.memory_limit_mb
        script = job_script(command, environment, self._workspace, paths.supervisor_log)
        self.conversation.submit(
            JobRequest(
                name,
                script,
                str(paths.supervisor_log),
                time_limit_s=job.time_limit_s + job.grace_s,
                memory_mb=known.memory_mb if limit_mb is None else math.ceil(limit_mb / MEMORY_SHARE),
                memory_is_estimated=limit_mb is None and known.memory_mb is not None,
            )
        )

    def _memory_to_ask_for(self, run_dir: Path, job: Job, last: Place | None) -> int | None:
        """Return the MiB for an attempt whose job has no limit on its memory; None for the engine's default.

        Twice as much as the `last` attempt had, if that was too little.
        """
        if not self._estimates_memory or job.memory_limit_mb is not None:
            return None
        if last is not None and last.memory_mb is not None:
            # Who submits another attempt knows that the last one has ended.
            outcome = read_outcome(run_dir, is_running=lambda _: False)
            return 2 * last.memory_mb if outcome.status is Status.OOM_HOST else last.memory_mb
        try:
            return estimated_request_mb(job.command, self.call)
        except RunError as error:
            self._say(
                f"{run_dir.name}: no estimate of its memory ({one_line(str(error), 200)}); its job gets "
                f"what {self._engine.name} gives by default"
            )
            return None

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        """Return what the runs' files say and, of those that have not ended, what the engine does.

        Raises ConfigError if the engine will never take a job.
        """
        places = {run_dir: self._place_of(run_dir) for run_dir in run_dirs}
        # The engine's word first: what the files say is newer than it.
        names = [place.name for place in places.values() if place is not None]
        words = self.conversation.words_on(names) if names else {}
        return {
            run_dir: self._here.survey([run_dir])[run_dir]
            if place is None
            else self._state_of(run_dir, place, *words[place.name])
            for run_dir, place in places.items()
        }

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        """Return how many of these trainings wait for a node. Raises as `survey` does."""
        sent = [(run_dir, place) for run_dir in run_dirs if (place := self._place_of(run_dir)) is not None]
        not_begun = [run_dir for run_dir, place in sent if place.name not in self._claimed]
        return sum(found == "queued" for found in self.survey(not_begun).values())

    def is_running(self, run_dir: Path) -> bool:
        """Return whether the training's files may still change, as far as is known."""
        return self.survey([run_dir])[run_dir] in IN_PROGRESS

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        """Ask the training to end by a file, as no signal reaches it; end its job with `force`, or if it has
        not begun."""
        place = self._place_of(run_dir)
        if place is None:
            self._here.cancel(run_dir, force=force)
            return
        paths = RunPaths(run_dir)
        if attempt_in(read_record(paths.exit)) >= place.attempt:
            return
        order = {"attempt": place.attempt, "force": force}
        if read_record(paths.stop_request) != order:
            write_json(paths.stop_request, order)
        if force or not paths.claim(place.attempt).exists():
            self.conversation.kill(place.name)

    def _state_of(self, run_dir: Path, place: Place, word: Word, asked_at: float, detail: str) -> RunState:
        paths = self._paths.get(run_dir)
        if paths is None:
            paths = self._paths[run_dir] = RunPaths(run_dir)
        has_begun = place.name in self._claimed or paths.claim(place.attempt).exists()
        if has_begun:
            self._claimed.add(place.name)
        if os.path.exists(paths.exit) and attempt_in(read_record(paths.exit)) >= place.attempt:
            self._here.survey([run_dir])  # its pictures can be drawn
            return "finished"
        if word == "unknown":
            return "unknown"
        if word == "running":
            return "running" if has_begun else "queued"
        if word == "queued":
            if has_begun:
                return self._requeued(place, asked_at)
            self._say_why_it_waits(run_dir, place, detail)
            return "queued"
        return self._gone_or_settling(run_dir, place, asked_at, has_begun, detail)

    def _requeued(self, place: Place, asked_at: float) -> RunState:
        """End a job that waits although its training had begun: it would find its own claim, and leave."""
        begun_at = self._begun_at.setdefault(place.name, self._clock.monotonic())
        if asked_at > begun_at:  # not just an answer from before the beginning
            self.conversation.kill(place.name)
        return "running"

    def _gone_or_settling(
        self, run_dir: Path, place: Place, asked_at: float, has_begun: bool, detail: str
    ) -> RunState:
        """Give a job up only if the engine says twice that it is gone, with time between for its last files
        to show."""
        since = self._gone.setdefault(place.name, asked_at)
        if asked_at - since < self._settle_s:
            self.conversation.ask_at(since + self._settle_s)
            return "running" if has_begun else "queued"
        # A supervisor that ended between its claim and its first record trained nothing.
        began = has_begun and attempt_in(read_record(RunPaths(run_dir).process)) >= place.attempt
        if detail and place.ended_as is None:
            failures = place.failures + (not began)
            self._write(run_dir, dataclasses.replace(place, ended_as=detail, failures=failures))
        return "lost" if began else "absent"

    def _say_why_it_waits(self, run_dir: Path, place: Place, reason: str) -> None:
        if reason in _ORDINARY_REASONS or (place.name, reason) in self._reasons:
            return
        self._reasons.add((place.name, reason))
        self._say(f"{run_dir.name} waits in the queue: {reason}")

    def _place_of(self, run_dir: Path) -> Place | None:
        if run_dir not in self._places:
            self._places[run_dir] = read_place(run_dir)
        return self._places[run_dir]

    def _write(self, run_dir: Path, place: Place) -> None:
        write_place(run_dir, place)
        self._places[run_dir] = place

    # -- what the search asks besides ------------------------------------------------------------

    def warm_up(self, runs_dir: Path, modules: Sequence[str]) -> None:
        """Prepare for calls, which run on the agent's host, and begin to talk to the engine."""
        self._here.warm_up(runs_dir, modules)
        self._say(f"trainings are jobs of {self._engine.name}, named {self.conversation.prefix}RUN-aATTEMPT")

    def finish(self, runs_dir: Path) -> None:
        """Return once the pictures of all finished runs are there. Raises RunError if some are not."""
        self._here.finish(runs_dir)

    def close(self) -> None:
        """End the conversation. Jobs go on."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        self._here.close()

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Run `python -m module` on the agent's host. Raises ConfigError or RunError."""
        return self._here.call(module, arguments, timeout_s=timeout_s)

    def memory_limit_mb(self) -> int | None:
        """Return None: each job's supervisor takes what its own node or allocation has."""
        return None

    def cores(self) -> int:
        """Raises ConfigError: how much of a cluster a search may use is for a person to say."""
        raise ConfigError(
            f"auto: how many trainings {self._engine.name} is to run, and with how many cores each, is for "
            "you to say; give --parallel and --threads numbers"
        )

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        """Return none: the engine gives each job its own."""
        return ()

    def check_device(self, name: str) -> None:
        """Raise ConfigError if the engine would refuse every job, SearchPaused if it cannot be asked."""
        try:
            self._engine.check()
        except NotNow as reason:
            raise SearchPaused(
                f"{self._engine.name} does not answer ({reason}). Nothing is lost; give the same command "
                "again when it does"
            ) from None

    def check_sandbox(self) -> str | None:
        """Return None: each job's supervisor finds out on its node, and writes down what holds there."""
        return None


def job_script(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> str:
    """Return what a job runs, for `/bin/sh`: the command with this environment and nothing else.

    Engines add the login environment of a person, or that of whoever started the cluster.
    """
    kept = " ".join(f'${{{name}+"{name}=${name}"}}' for name in KEPT)
    given = " ".join(shlex.quote(f"{name}={value}") for name, value in sorted(environment.items()))
    return (
        "#!/bin/sh\n"
        f"exec >>{shlex.quote(str(log))} 2>&1\n"
        f"cd {shlex.quote(str(folder))} || exit 66\n"
        f"exec env -i {kept} {given} {shlex.join(command)}\n"
    )


def settle_seconds(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> float:
    """Return how long a file may be there before this host sees it."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir()).resolve()
    kind, longest = "", -1
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return SHARED_SETTLE_S
    for line in lines:
        fields = line.split()
        point = Path(fields[4].replace("\\040", " ")) if len(fields) > 4 and " - " in line else None
        if point is not None and there.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = line.partition(" - ")[2].split()[0], len(point.parts)
    return SHARED_SETTLE_S if not kind or kind.startswith(_NETWORK) else LOCAL_SETTLE_S
