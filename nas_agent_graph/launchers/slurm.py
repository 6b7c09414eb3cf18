"""Slurm, by its own programs: `sbatch`, `squeue` and `scancel`. No accounting (`sacct`) is needed.

A training is a batch job with our supervisor in it. How it ended stands in the run's folder; Slurm is asked
whether it lives. What the flags mean: sbatch(1), squeue(1).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from nas_agent_graph.launchers.engine import (
    QUESTION_TIMEOUT_S,
    EngineSilent,
    JobRequest,
    JobState,
    ListedJob,
    NotNow,
)
from nas_system.errors import ConfigError
from nas_system.nas_agent.log_text import one_line

STOPPED_BEFORE_S = 60
"""So long before the end of a job's time its supervisor is asked to end, so that the training can go on."""
_SPARE_S = 120.0
_REASON_CHARACTERS = 300
_OWN = {
    **dict.fromkeys(("-J", "--job-name"), "a job is found again by its name"),
    **dict.fromkeys(("--export", "--export-file"), "no key may reach a job"),
    **dict.fromkeys(("-o", "--output", "-e", "--error", "--open-mode"), "what a job prints is with its run"),
    **dict.fromkeys(("--requeue", "--no-requeue"), "the search begins an attempt again itself"),
    **dict.fromkeys(("-a", "--array", "-N", "--nodes", "-n", "--ntasks"), "a job is one training on a node"),
    **dict.fromkeys(("-D", "--chdir"), "a job works in the workspace"),
    **dict.fromkeys(("-W", "--wait", "--wrap", "--parsable", "--test-only"), "it changes what sbatch does"),
    "--signal": "a training is asked to end before its job's time is over",
    **dict.fromkeys(("-h", "--help", "--usage", "-V", "--version"), "it submits nothing"),
    "--": "what follows is taken for a script",
}
_WITH_VALUE = "AaBbcCDdeFGiJLMmNnopqStwx"
"""Short flags of sbatch that take a value."""
_NOT_PASSED = re.compile(
    r"(SQUEUE|SCANCEL)_.*|SBATCH_(ARRAY_INX|WAIT|(NO_)?REQUEUE|EXPORT|GET_USER_ENV|IGNORE_PBS|SIGNAL|OPEN_MODE)"
)
"""Variables that change what these programs are asked: which jobs are listed or ended, what a job is."""
_FINAL = re.compile(
    r"invalid|unrecognized|ambiguous|not available|can ?not be satisfied|not permitted|denied|violates|exceed"
    r"|more (processors|nodes|cpus)|too (many|large|long)|requires an? argument|mutually exclusive"
    r"|unable to open file",
    re.IGNORECASE,
)
"""Of a refusal that stays one. Any other may have its cause in Slurm: a controller that dies in the middle of
an answer has many words for it."""
_PASSING = re.compile(r"authentication|credential|timed out|connection|socket|communication", re.IGNORECASE)
"""Of a failure to talk, also where it says `invalid`."""
_QUEUE_LIMIT = re.compile(r"submit.?limit|maxsubmit|temporarily unable to accept", re.IGNORECASE)
_QUEUED = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"),
}
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
_MOST_ALIVE: Sequence[JobState] = ("running", "queued", "ended")


class Slurm:
    """The cluster that the environment (`SLURM_CONF`) leads to."""

    name = "slurm"

    def __init__(
        self, flags: str = "", *, cpus: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """`flags` are a person's own for sbatch, such as `-p gpu --gres=gpu:1`; `cpus` those of a training.

        `environment` (default: ours) is that of Slurm's programs; of it a job gets nothing but PATH.
        Raises ConfigError for flags that are the search's own.
        """
        try:
            words = shlex.split(flags)
        except ValueError as error:
            raise ConfigError(f"--slurm {flags!r}: {error}") from None
        self._flags = _kept_flags(words)
        self._has_time = any(re.match(r"(-t|--time)(?![-\w])|-t\d", word) for word in self._flags)
        self._cpus = cpus
        given = os.environ if environment is None else environment
        self._environment = {name: value for name, value in given.items() if not _NOT_PASSED.fullmatch(name)}

    def check(self) -> None:
        self._sbatch(["--test-only", *self._resources(None)], "#!/bin/sh\n")

    def submit(self, request: JobRequest) -> None:
        minutes = math.ceil((request.time_limit_s + _SPARE_S) / 60)
        command = [
            "--parsable",
            f"--job-name={request.name}",
            # Values of other variables stand in the script; these programs' own environment holds keys.
            "--export=PATH",
            "--no-requeue",
            f"--signal=B:USR1@{STOPPED_BEFORE_S}",
            f"--output={request.log}",
            "--open-mode=append",
            *([] if self._has_time else [f"--time={minutes}"]),
            *self._resources(request.memory_mb),
        ]
        said = self._sbatch(command, request.script)
        # Some centers print a banner around the number.
        if not any(line.strip().partition(";")[0].isdecimal() for line in said.splitlines()):
            raise ConfigError(f"sbatch has submitted no job ({one_line(said, _REASON_CHARACTERS)})")

    def jobs(self, prefix: str) -> Mapping[str, ListedJob]:
        # Never by number: a job that is over for some minutes would be an error.
        command = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%j|%T|%r"]
        done = self._ask(command)
        if done.returncode != 0:
            raise EngineSilent(_said(done))
        found: dict[str, ListedJob] = {}
        for line in done.stdout.splitlines():
            name, _, rest = line.strip().partition("|")
            word, _, reason = rest.partition("|")
            if name.startswith(prefix):
                job = ListedJob(_state_of(word), word if _state_of(word) == "ended" else reason)
                # Two of one name: one was submitted although sbatch said that it had timed out.
                found[name] = min(found.get(name, job), job, key=lambda job: _MOST_ALIVE.index(job.state))
        return found

    def kill(self, name: str) -> None:
        done = self._ask(["scancel", f"--user={os.getuid()}", f"--name={name}"])
        if done.returncode != 0:
            raise EngineSilent(_said(done))

    def _resources(self, memory_mb: int | None) -> list[str]:
        memory = [] if memory_mb is None else [f"--mem={memory_mb}M"]
        # A person's own come last: of two, sbatch takes the latter.
        return ["--nodes=1", "--ntasks=1", f"--cpus-per-task={self._cpus}", *memory, *self._flags]

    def _sbatch(self, arguments: Sequence[str], script: str) -> str:
        """Return what sbatch prints. Raises EngineSilent, NotNow, or ConfigError for what Slurm will never
        take."""
        done = self._ask(["sbatch", *arguments], script)
        if done.returncode == 0:
            return done.stdout
        said = _said(done)
        if _QUEUE_LIMIT.search(said):
            raise NotNow(said)
        if _PASSING.search(said) or not _FINAL.search(said):
            raise EngineSilent(said)
        shown = f" with --slurm {shlex.quote(shlex.join(self._flags))}" if self._flags else ""
        raise ConfigError(
            f"Slurm refuses such jobs{shown}: {said}. `sinfo` shows the partitions; change --slurm"
        )

    def _ask(self, command: Sequence[str], script: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                input=script,
                capture_output=True,
                text=True,
                errors="replace",
                env=self._environment,
                timeout=QUESTION_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineSilent(f"{command[0]} did not end within {QUESTION_TIMEOUT_S:g} s") from None
        except FileNotFoundError:
            raise ConfigError(
                f"--launcher slurm: {command[0]} is not on the PATH; start the search where jobs are "
                "submitted, on a login node"
            ) from None
        except OSError as error:
            raise NotNow(f"{command[0]} cannot be started: {error.strerror}") from None


def _kept_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """Return a person's flags for sbatch. Raises ConfigError for one of the search's own, with why.

    However it is spelled: getopt(3) takes attached values (`-Jx`), clusters (`-HJ x`), beginnings of names.
    """
    is_value = False
    for flag in flags:
        if is_value:
            is_value = False
            continue
        name = flag.partition("=")[0]
        if flag.startswith("--"):
            # What begins two names is refused by sbatch.
            found = next((own for own in _OWN if own == name or (len(name) > 2 and own.startswith(name))), "")
        else:
            asked, is_value = _short_flags(flag)
            found = next((one for one in asked if one in _OWN), "")
        if found:
            shown = found if name == found else f"{name} ({found})"
            raise ConfigError(f"{shown} is the search's own: {_OWN[found]}; leave it out")
    return tuple(flags)


def _short_flags(word: str) -> tuple[list[str], bool]:
    """Return the short flags of a word, and whether the next word is the value of the last."""
    if not word.startswith("-"):
        return [], False
    flags: list[str] = []
    for place, letter in enumerate(word[1:], 1):
        flags.append(f"-{letter}")
        if letter in _WITH_VALUE:
            return flags, place == len(word) - 1
    return flags, False


def _state_of(word: str) -> JobState:
    if word in _QUEUED:
        return "queued"
    return "running" if word in _RUNNING else "ended"


def _said(done: subprocess.CompletedProcess[str]) -> str:
    text = f"{done.stderr} {done.stdout}".replace("sbatch: error: ", "").replace("allocation failure: ", "")
    return one_line(text, _REASON_CHARACTERS) or f"it ended with exit code {done.returncode}"
