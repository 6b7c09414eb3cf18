"""What a cluster's engine is asked, and one conversation with it that never stops the search.

An engine may be slow, away, or wrong about a job. So it is asked on a thread of its own, each question is
bounded, and what is known of a job is what the last answer said: nothing at all once that is too old. Who
submits does not wait either: a job that the engine does not take now is submitted again later.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from nas_agent_graph.host.clock import Clock, SystemClock
from nas_system.errors import ConfigError, NasError

QUESTION_TIMEOUT_S = 10.0
"""Bound on each question. A dead controller keeps Slurm's programs for 9 to 18 s, a dead head 61."""
ASKED_EVERY_S = 10.0
"""How often an engine is asked for all jobs: the runs' own files show what begins and ends."""
STALE_AFTER_S = 45.0
"""What an engine said so long ago is not known any more."""
SAID_AFTER_S = 600.0
"""A person hears of an engine that has been silent for so long."""
_LOOK_S = 0.2

JobState = Literal["queued", "running", "ended"]
Word = Literal["queued", "running", "ended", "unheard of", "unknown"]
"""What is known of a job. `unheard of`: the engine answers, and does not know it."""


class NotNow(Exception):
    """The engine cannot be asked, or takes no job, for the moment; it holds a reason for people."""


class EngineSilent(NotNow):
    """The engine does not answer: whether it has done what it was asked for is not known."""


@dataclass(frozen=True)
class JobRequest:
    """A job to submit."""

    name: str
    script: str
    """For `/bin/sh`."""
    log: str
    """File for what the script prints before it has begun."""
    time_limit_s: float
    memory_mb: int | None = None
    memory_is_estimated: bool = False
    """Whether it may do without, if the engine takes no job of so much."""


@dataclass(frozen=True)
class ListedJob:
    """A job as its engine lists it."""

    state: JobState
    detail: str = ""
    """The engine's own word for an end, or the reason for which the job waits."""


class Engine(Protocol):
    """A cluster's own programs, as far as a search needs them. Each call ends within `QUESTION_TIMEOUT_S`."""

    name: str

    def check(self) -> None:
        """Raise ConfigError for flags or programs that cannot be meant, NotNow for an engine that is away."""
        ...

    def submit(self, request: JobRequest) -> None:
        """Submit a job. Raises NotNow, or ConfigError if the engine will never take it."""
        ...

    def jobs(self, prefix: str) -> Mapping[str, ListedJob]:
        """Return the jobs whose names begin with `prefix`, also those that ended lately. Raises NotNow."""
        ...

    def kill(self, name: str) -> None:
        """End every job of this name, also one that waits. Raises NotNow."""
        ...


@dataclass
class Conversation:
    """Asks one engine about the jobs of one search, one question at a time."""

    engine: Engine
    prefix: str
    say: Callable[[str], None]
    clock: Clock = field(default_factory=SystemClock)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _closed: bool = False
    _to_submit: dict[str, JobRequest] = field(default_factory=dict)
    _to_kill: dict[str, None] = field(default_factory=dict)
    _submitted_at: dict[str, float] = field(default_factory=dict)
    _killed_at: dict[str, float] = field(default_factory=dict)
    _tried_at: dict[str, float] = field(default_factory=dict)
    """When a job was submitted without an answer: it may be there."""
    _submit_at: float = 0.0
    """When a job that was not taken is submitted again."""
    _refused: dict[str, NasError] = field(default_factory=dict)
    _jobs: Mapping[str, ListedJob] = field(default_factory=dict)
    _asked_at: float | None = None
    """When the question was asked that `_jobs` answers."""
    _ask_at: float = 0.0
    """When it is asked again."""
    _silent_since: float | None = None
    _is_said: bool = False
    _not_now: str | None = None
    """Why the engine takes no job for the moment, as a person was told."""

    def start(self) -> None:
        """Begin to talk on a thread. Without it, whoever calls `turn` does."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._talk, name="talk to the cluster", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the conversation, with what was to be ended; what was not submitted is the next agent's."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(QUESTION_TIMEOUT_S)

    # -- what the launcher says ------------------------------------------------------------------

    def submit(self, request: JobRequest) -> None:
        """Submit a job as soon as the engine takes it."""
        with self._lock:
            self._refused.pop(request.name, None)
            self._killed_at.pop(request.name, None)
            self._to_submit[request.name] = request
        self._wake.set()

    def kill(self, name: str) -> None:
        """End a job, or forget that it was to be submitted. To repeat it does no harm."""
        with self._lock:
            now = self.clock.monotonic()
            if self._to_submit.pop(name, None) is not None or name in self._to_kill:
                return
            if now - self._killed_at.get(name, -ASKED_EVERY_S) >= ASKED_EVERY_S:
                self._killed_at[name] = now
                self._to_kill[name] = None
        self._wake.set()

    def words_on(self, names: Sequence[str]) -> dict[str, tuple[Word, float, str]]:
        """Return what is known of jobs, when the engine was asked for each, and the engine's own word.

        Raises ConfigError if the engine will never take one of them.
        """
        with self._lock:
            now = self.clock.monotonic()
            return {name: self._word_on(name, now) for name in names}

    def _word_on(self, name: str, now: float) -> tuple[Word, float, str]:
        if (refusal := self._refused.pop(name, None)) is not None:
            raise refusal  # once: who ends the search then asks again
        asked_at = self._asked_at
        if name in self._to_submit:
            return "queued", -math.inf, ""
        submitted_at = self._submitted_at.get(name)
        if submitted_at is not None and (asked_at is None or submitted_at >= asked_at):
            return "queued", -math.inf, ""
        if asked_at is None or now - asked_at > STALE_AFTER_S:
            return "unknown", -math.inf, ""
        job = self._jobs.get(name)
        return ("unheard of", asked_at, "") if job is None else (job.state, asked_at, job.detail)

    def ask_at(self, when: float) -> None:
        """Ask for all jobs at this moment of the clock, or before."""
        with self._lock:
            self._ask_at = min(self._ask_at, when)
        self._wake.set()

    # -- the conversation ------------------------------------------------------------------------

    def turn(self) -> None:
        """Submit and end what is waiting for it, and ask for all jobs if it is time to."""
        while not self._closed and (request := self._next_request()) is not None:
            if not self._submit(request):
                break
        for name in list(self._to_kill):
            try:
                self.engine.kill(name)
            except (NotNow, ConfigError) as reason:
                self._note_silence(str(reason))
            with self._lock:
                self._to_kill.pop(name, None)
                self._ask_at = min(self._ask_at, self.clock.monotonic() + _LOOK_S)
        if not self._closed and self.clock.monotonic() >= self._ask_at:
            self._list()

    def pause_s(self) -> float:
        """Return how long there is nothing to ask, unless something is to be submitted or ended before."""
        return max(_LOOK_S, min(self._ask_at - self.clock.monotonic(), ASKED_EVERY_S))

    def _talk(self) -> None:
        while not self._closed or self._to_kill:
            self._wake.clear()
            self.turn()
            self._wake.wait(self.pause_s())

    def _next_request(self) -> JobRequest | None:
        """Return a job to submit now; one that may be there only once the engine has been asked for it."""
        with self._lock:
            for name in [name for name in self._to_submit if self._is_there(name)]:
                del self._to_submit[name]
                self._submitted_at[name] = self._tried_at.pop(name)
            if self.clock.monotonic() < self._submit_at:
                return None
            waiting = (name for name in self._to_submit if self._is_answered(name))
            return self._to_submit.get(next(waiting, ""))

    def _is_answered(self, name: str) -> bool:
        tried_at = self._tried_at.get(name)
        return tried_at is None or (self._asked_at is not None and self._asked_at > tried_at)

    def _is_there(self, name: str) -> bool:
        return name in self._tried_at and self._is_answered(name) and name in self._jobs

    def _submit(self, request: JobRequest) -> bool:
        """Submit the job; return whether another may be tried at once."""
        try:
            self.engine.submit(request)
        except EngineSilent as reason:
            if request.name in self._tried_at and self._silent_since is None:
                self._say_not_now(str(reason))  # it answers, and takes no job all the same
            with self._lock:
                self._tried_at[request.name] = self.clock.monotonic()
            self._put_off(str(reason))
            return False
        except NotNow as reason:
            self._say_not_now(str(reason))
            self._submit_at = self.clock.monotonic() + ASKED_EVERY_S
            return False
        except ConfigError as error:
            if request.memory_is_estimated:
                self._submit_without_estimate(request)
                return True
            with self._lock:
                self._refused[request.name] = error
                self._to_submit.pop(request.name, None)
            return True
        self._not_now = None
        with self._lock:
            if self._to_submit.pop(request.name, None) is None:  # taken back while it was submitted
                self._to_kill[request.name] = None
            self._tried_at.pop(request.name, None)
            self._submitted_at[request.name] = self.clock.monotonic()
        return True

    def _submit_without_estimate(self, request: JobRequest) -> None:
        """Leave its memory to the engine: no node may have so much, and that must not end the search."""
        self.say(
            f"{request.name}: {self.engine.name} refuses a job of {request.memory_mb:,} MiB, the estimate "
            "for its training; it is submitted with what is given by default"
        )
        with self._lock:
            if request.name in self._to_submit:
                self._to_submit[request.name] = replace(request, memory_mb=None, memory_is_estimated=False)

    def _say_not_now(self, reason: str) -> None:
        if self._not_now != reason:
            self.say(f"{self.engine.name} takes no further job now ({reason}); it is tried again")
        self._not_now = reason

    def _put_off(self, reason: str) -> None:
        now = self.clock.monotonic()
        self._submit_at = now + ASKED_EVERY_S
        self._ask_at = min(self._ask_at, now + _LOOK_S)
        self._note_silence(reason)

    def _list(self) -> None:
        asked_at = self.clock.monotonic()
        try:
            jobs = self.engine.jobs(self.prefix)
        except (NotNow, ConfigError) as reason:  # its programs may be gone, too
            self._ask_at = self.clock.monotonic() + ASKED_EVERY_S
            self._note_silence(str(reason))
            return
        if self._is_said:
            self.say(f"{self.engine.name} answers again")
        self._silent_since, self._is_said = None, False
        with self._lock:
            self._jobs, self._asked_at = jobs, asked_at
            self._ask_at = self.clock.monotonic() + ASKED_EVERY_S

    def _note_silence(self, reason: str) -> None:
        now = self.clock.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if now - self._silent_since >= SAID_AFTER_S and not self._is_said:
            self._is_said = True
            self.say(
                f"{self.engine.name} has not answered for ten minutes ({reason}): how its jobs stand is not "
                "known. What trains there goes on; nothing is given up until it answers"
            )
