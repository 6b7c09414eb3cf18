"""How a run ended: one word, one sentence, and the numbers that are known.

A failed training is data, not an exception. Only files decide: exit.json, written by the supervisor, and
metrics.json and error.json, written by the training. What a training prints never decides anything.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from nas_system.errors import StateError, advice_on_limit
from nas_system.files import read_object, read_record
from nas_system.nas_agent.log_text import log_tail, one_line
from nas_system.nas_agent.pruned import Pruned, read_pruned
from nas_system.processes.run_files import SCHEMA_VERSION, RunPaths
from nas_system.processes.run_lock import attempt_in, is_alive, is_supervised
from nas_system.space.tasks.task import metric_on

__all__ = ["Outcome", "Status", "is_alive", "log_tail", "read_outcome"]

CAUSE_CHARACTERS = 200
_FACTS_CHARACTERS = 60
_FULL_DISK_MB = 1.0
_JOB_OUT_OF_MEMORY = "OUT_OF_MEMORY"
"""Slurm's word for a job that its control group killed, supervisor and all."""
_RESULTS = ("metrics.json", "best_model.pth")
"""Without either of them a training that ended well has no result."""
UNKNOWN = "the reason is not on record"
_MOST_NAMED = 20
"""Numbers of an error, and ways out of a sandbox, that are taken over."""
_CRASHES = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)
"""Signals of a crash in native code: the program's own doing, and the same again at the next attempt."""


class Status(StrEnum):
    """All the ways a run can end."""

    OK = "OK"
    """Ended well and has a score."""
    FAILED = "FAILED"
    """Ended with an error of its own: a bad configuration, one that failed its pre-flight, or a bug."""
    DIVERGED = "DIVERGED"
    """The loss became NaN or infinite."""
    TIMEOUT = "TIMEOUT"
    """Ended by the hard time limit, by the clock."""
    HUNG = "HUNG"
    """Ended because it showed no sign of life for too long."""
    OOM_HOST = "OOM_HOST"
    """The machine's memory, or the limit on it, was not enough."""
    OOM_GPU = "OOM_GPU"
    """The accelerator's memory was not enough."""
    DISK_FULL = "DISK_FULL"
    """Could not write its files."""
    KILLED = "KILLED"
    """Ended by a signal that was not ours: a crash in native code, or somebody else."""
    BAD_RESULT = "BAD_RESULT"
    """Ended well but left no usable score."""
    LOST = "LOST"
    """Ended with its supervisor (reboot, power cut, kill -9), or refused by its machine: no file descriptor,
    process or file size was left to it."""
    STOPPED = "STOPPED"
    """Ended on request; it can go on."""
    PRUNED = "PRUNED"
    """Ended on request of the search's rule of early stopping: a result; no other attempt is due."""
    MISSING = "MISSING"
    """Never started, or its files are gone."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run's latest attempt."""

    status: Status
    cause: str | None = None
    """One sentence, at most 200 characters; None for OK."""
    val_score: float | None = None
    """The task's metric on the validation part (`val_mse`, `val_mae`); only for OK."""
    test_score: float | None = None
    """The same on the test part, for people only: no proposer, prompt or acceptance rule may read it."""
    attempt: int = 0
    returncode: int | None = None
    signal: int | None = None
    wall_s: float | None = None
    peak_memory_mb: float | None = None
    """MiB of resident memory of all its processes together."""
    epoch: int | None = None
    """The last epoch on record."""
    step: int | None = None
    refused: bool = False
    """Whether the machine, by the word of the supervisor, did not let it start."""
    requested: bool = False
    """Whether its supervisor was asked to end it."""
    sandbox: str | None = None
    """What kept the training from the rest of the machine, as the supervisor calls it."""
    not_held: dict[str, str] = field(default_factory=dict)
    """What the sandbox could not keep closed, and why."""
    pruned: Pruned | None = None
    """Why the search stopped it early, with the best score so far; only for PRUNED."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Every finite number in error.json, under its own name."""

    @property
    def came_from_outside(self) -> bool:
        """Return whether neither the training nor a limit ended it, so that it is worth another attempt."""
        if self.status is Status.KILLED:
            return self.signal not in _CRASHES
        # Somebody else's SIGTERM, which a training obeys; if it was no signal, one more attempt shows that.
        return self.status is Status.LOST or (self.status is Status.STOPPED and not self.requested)

    @property
    def cause_and_numbers(self) -> str | None:
        """Return the cause with epoch, step and peak memory as far as known, at most 200 characters."""
        if self.cause is None or self.status is Status.PRUNED:  # that one says at which epoch
            return self.cause
        peak = None if self.peak_memory_mb is None else f"{self.peak_memory_mb:,.0f} MiB"
        facts = [
            *(f"{name} {value}" for name, value in (("epoch", self.epoch), ("step", self.step))),
            *([] if peak is None or peak in self.cause else [f"peak {peak}"]),
        ]
        known = one_line(", ".join(fact for fact in facts if not fact.endswith(" None")), _FACTS_CHARACTERS)
        if not known:
            return self.cause
        return f"{one_line(self.cause, CAUSE_CHARACTERS - len(known) - 3)} ({known})"


PREFLIGHT = "preflight:"
"""How the kind of a training begins that was refused at its first batch: `preflight:memory`, ..."""
STATUS_OF_EXIT_CODE = {
    2: Status.FAILED,
    3: Status.DIVERGED,
    5: Status.STOPPED,
}
STATUS_OF_KIND = {
    "config": Status.FAILED,
    "diverged": Status.DIVERGED,
    "oom_gpu": Status.OOM_GPU,
    "oom_host": Status.OOM_HOST,
    "disk_full": Status.DISK_FULL,
    "stopped": Status.STOPPED,
}
STATUS_OF_LIMIT = {
    "time_limit": Status.TIMEOUT,
    "silence_limit": Status.HUNG,
    "memory_limit": Status.OOM_HOST,
    "disk_limit": Status.FAILED,
    "process_limit": Status.FAILED,
    "unmeasurable": Status.FAILED,
}
CAUSE_OF_LIMIT = {
    "time_limit": "ended by the hard time limit after {wall_s:.0f} s: it hung, the machine was overloaded, "
    "or it needs less width, depth or, for a series, seq_len",
    "silence_limit": "no output and no new epoch for too long; ended after {wall_s:.0f} s",
    "memory_limit": "its processes held {peak_memory_mb:,.0f} MiB, more than the limit; "
    "reduce batch_size, the model's width or, for a series, seq_len",
    "disk_limit": "its files took {written} the limit; "
    "lower the model's width or depth, or raise --disk-per-run",
    "process_limit": "it started more processes than a run may have",
    "unmeasurable": "it used memory or files in a way that nobody can measure, so no limit would hold",
}


def read_outcome(
    run_dir: Path, metric: str = "val_mse", *, is_running: Callable[[Path], bool] = is_supervised
) -> Outcome:
    """Read how the run in `run_dir` ended; `metric` is the task's.

    `is_running` says whether the training is still alive; by default it is looked for on this machine.
    Raises StateError if it has not ended, or for files of a newer version, OSError if no file can be opened.
    """
    # Asked first: once the training is gone, or exit.json is there, nothing changes any more.
    alive = is_running(run_dir)
    process, ended = read_record(RunPaths(run_dir).process), read_record(RunPaths(run_dir).exit)
    if attempt_in(ended) == 0 or attempt_in(ended) < attempt_in(process):
        if alive:
            raise StateError(f"{run_dir} is still training: wait for its end, or stop it first")
        return _without_exit_record(run_dir, process)
    assert ended is not None
    schema = ended.get("schema")
    if type(schema) is int and schema > SCHEMA_VERSION:
        raise StateError(
            f"{RunPaths(run_dir).exit} has schema {schema}, this program knows {SCHEMA_VERSION}: update it"
        )
    return _classify(run_dir, ended, metric)


# -- classification --------------------------------------------------------------------------------


def _without_exit_record(run_dir: Path, process: Mapping[str, object] | None) -> Outcome:
    attempt, epoch = attempt_in(process), _last_epoch(run_dir)
    if (RunPaths(run_dir).exit).exists() and attempt_in(read_record(RunPaths(run_dir).exit)) == 0:
        return Outcome(Status.LOST, "exit.json is damaged or not ours", attempt=attempt, epoch=epoch)
    if process is None:
        why = "never started, or its files are gone" if run_dir.is_dir() else "its folder is gone"
        return Outcome(Status.MISSING, why, epoch=epoch)
    why, place = "kill -9, reboot or power cut", read_record(RunPaths(run_dir).place)
    word = _text(place.get("ended_as")) if place is not None and attempt_in(place) == attempt else None
    if word is not None and word.startswith(_JOB_OUT_OF_MEMORY):
        cause = f"its job was killed for memory ({word}); give jobs more, or reduce batch_size or the width"
        return Outcome(Status.OOM_HOST, _sentence(cause), attempt=attempt, epoch=epoch)
    why = f"the supervisor ended before it could record how ({word or why})"
    return Outcome(Status.LOST, _sentence(why), attempt=attempt, epoch=epoch)


def _classify(run_dir: Path, ended: Mapping[str, object], metric: str) -> Outcome:
    """Return the outcome of an attempt whose end is on record."""
    error = read_record(RunPaths(run_dir).error) or {}
    known = Outcome(
        Status.FAILED,
        attempt=attempt_in(ended),
        returncode=_integer(ended.get("returncode")),
        signal=_integer(ended.get("signal")),
        wall_s=_number(ended.get("wall_s")),
        peak_memory_mb=_number(ended.get("peak_memory_mb")),
        epoch=_first(_integer(error.get("epoch")), _last_epoch(run_dir)),
        step=_integer(error.get("step")),
        sandbox=_text(ended.get("confinement")),
        not_held=_not_held(ended.get("sandbox")),
        numbers=_numbers(error),
    )
    reason = ended.get("ended")
    if isinstance(reason, str) and reason in STATUS_OF_LIMIT:
        written_mb = _number(ended.get("peak_disk_mb"))
        cause = CAUSE_OF_LIMIT[reason].format(
            wall_s=known.wall_s or 0.0,
            peak_memory_mb=known.peak_memory_mb or 0.0,
            written="more MiB than" if written_mb is None else f"{written_mb:,.0f} MiB, more than",
        )
        return replace(known, status=STATUS_OF_LIMIT[reason], cause=_sentence(cause))
    if known.returncode == 0 and reason in ("exited", "stop_request"):
        result = _with_score(run_dir, known, ended, metric)
        if result.status is Status.OK or reason != "stop_request":
            return result
    if reason == "stop_request":
        pruned = read_pruned(run_dir, known.attempt)
        if pruned is not None:
            cause = _sentence(pruned.cause(metric))
            return replace(known, status=Status.PRUNED, cause=cause, requested=True, pruned=pruned)
        return replace(known, status=Status.STOPPED, cause="stopped on request", requested=True)
    return _failure(run_dir, known, ended, error)


def _with_score(run_dir: Path, known: Outcome, ended: Mapping[str, object], metric: str) -> Outcome:
    """Return the outcome of a training that reports success."""
    lacking = _uncopied(ended.get("uncopied"))
    if lacking is not None:
        status = Status.DISK_FULL if "No space left" in lacking else Status.BAD_RESULT
        return replace(known, status=status, cause=_sentence(lacking))
    try:
        metrics = read_object(RunPaths(run_dir).metrics)
    except FileNotFoundError:
        return replace(known, status=Status.BAD_RESULT, cause="it ended well but wrote no metrics.json")
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        problem = f"cannot be read ({error.strerror})"
    except ValueError as error:
        problem = str(error)
    else:
        score, problem = _number(metrics.get(metric)), _fault_of_score(metrics, metric)
        if problem is None:
            test_score = _number(metrics.get(metric_on("test", metric)))
            return replace(known, status=Status.OK, val_score=score, test_score=test_score)
    return replace(known, status=Status.BAD_RESULT, cause=_sentence(f"metrics.json {problem}"))


def _fault_of_score(metrics: Mapping[str, object], metric: str) -> str | None:
    if metric not in metrics:
        return f"has no {metric}"
    value = metrics[metric]
    if type(value) not in (int, float):
        return f"has a {metric} that is not a number: {value!r:.40}"
    number = _number(value)
    if number is None:
        return f"has a {metric} that is not finite: {value!r:.40}"
    # An error is never negative; of what is maximized, R2 can be.
    minimized = metrics.get("direction") != "maximize"
    return f"has a negative {metric}: {value!r:.40}" if number < 0 and minimized else None


def _failure(
    run_dir: Path, known: Outcome, ended: Mapping[str, object], error: Mapping[str, object]
) -> Outcome:
    """Return the outcome of an attempt that ended badly and had not been asked to end."""
    if ended.get("ended") == "cannot_start":
        advice = advice_on_limit(ended.get("errno"))
        cause = f"cannot start the training: {advice or _text(ended.get('message'))}"
        status = Status.LOST if advice else Status.FAILED
        return replace(known, status=status, cause=_sentence(cause), refused=advice is not None)
    kind, text = error.get("kind"), error.get("message")
    message = text if isinstance(text, str) and text.strip() else None
    status = _status_of_failure(known.returncode, kind)
    if status is None and _disk_is_full(ended):
        return replace(known, status=Status.DISK_FULL, cause=_sentence(message or "the disk is full"))
    if status is None and (advice := advice_on_limit(error.get("errno"))):
        return replace(known, status=Status.LOST, cause=_sentence(f"{message or 'an error'}: {advice}"))
    if status is None and known.signal is not None:
        return _killed(known, ended, message)
    if message is None:
        message = f"exit code {known.returncode}: {log_tail(run_dir, lines=1) or 'it printed nothing'}"
    if isinstance(kind, str) and kind.startswith(PREFLIGHT):
        message = f"{kind}: {message}"
    elif kind == "config" or known.returncode == 2:
        message = f"config: {message}"
    return replace(known, status=status or Status.FAILED, cause=_sentence(message))


def _status_of_failure(returncode: int | None, kind: object) -> Status | None:
    """Return what the training reports about its end; None if it crashed or reports nothing."""
    by_kind = STATUS_OF_KIND.get(kind) if isinstance(kind, str) else None
    if returncode == 4:  # does not say whose memory it was
        return by_kind if by_kind is Status.OOM_GPU else Status.OOM_HOST
    return STATUS_OF_EXIT_CODE.get(returncode or 0, by_kind)


def _killed(known: Outcome, ended: Mapping[str, object], message: str | None) -> Outcome:
    number = known.signal or 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    if number == signal.SIGKILL and (_integer(ended.get("kernel_oom_kills")) or 0) > 0:
        cause = "the kernel ended it because the machine ran out of memory; reduce batch_size or the width"
        return replace(known, status=Status.OOM_HOST, cause=cause)
    cause = f"ended by signal {number} ({name})" + (f": {message}" if message else "")
    return replace(known, status=Status.KILLED, cause=_sentence(cause))


def _disk_is_full(ended: Mapping[str, object]) -> bool:
    """Return whether there was no space left: a training cannot even write its error.json then."""
    free_mb = _number(ended.get("disk_free_mb"))
    return free_mb is not None and free_mb < _FULL_DISK_MB


# -- values from files that anybody may have written -------------------------------------------------


def _uncopied(reasons: object) -> str | None:
    """Return why the score or the weights did not get into the run's folder; None if they did."""
    known = reasons if isinstance(reasons, dict) else {}
    lacking = [name for name in _RESULTS if name in known]
    return "; ".join(f"{name} was not kept: {_text(known[name]) or UNKNOWN}" for name in lacking) or None


def _not_held(sandbox: object) -> dict[str, str]:
    open_ways = sandbox.get("open") if isinstance(sandbox, dict) else None
    if not isinstance(open_ways, dict):
        return {}
    named = list(open_ways.items())[:_MOST_NAMED]
    return {one_line(name, _FACTS_CHARACTERS): _text(why) or UNKNOWN for name, why in named}


def _sentence(text: str) -> str:
    return one_line(text, CAUSE_CHARACTERS)


def _number(value: object) -> float | None:
    """Return a finite real number, or None; True and "1" are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return one_line(value, CAUSE_CHARACTERS) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 10**12 else None


def _numbers(error: Mapping[str, object]) -> dict[str, float]:
    known = [(name, number) for name, value in error.items() if (number := _number(value)) is not None]
    return dict(known[:_MOST_NAMED])


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _last_epoch(run_dir: Path) -> int | None:
    epochs = (read_record(RunPaths(run_dir).history) or {}).get("epochs")
    last = epochs[-1] if isinstance(epochs, list) and epochs else None
    return _integer(last.get("epoch")) if isinstance(last, dict) else None
