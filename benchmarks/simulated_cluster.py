"""A cluster that trains nothing: its time, its engine, and what trainings leave in their folders.

The agent is real, and so is the time that it takes: simulated time goes on by the seconds that its thread
computes, writes and waits for its disk, and by those that it would have slept, which are skipped to the first
of its looks after something has happened. What it waits for a core that other programs have is left out,
where the kernel tells it (`/proc/thread-self/schedstat`).

The conversation with the engine is real, too, and has a thread of its own as in a search. Exactly one of the
two threads runs at any moment: an answer of the engine takes simulated time of the conversation, in which the
agent goes on. What happens elsewhere while the agent computes is made good at its next look, before it sees
anything, in the order in which it has happened. So an agent that is slow finds trainings that ended long ago,
and their slots have been idle meanwhile. That two threads of one interpreter also hinder each other is not
simulated; the conversation computes less than a millisecond a job.

How long the engine takes was measured with Slurm 22.05: 60 ms for sbatch, 20 ms and a little for each job for
squeue, and .6 to 1 s from the submission of a job to its beginning.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_agent_graph.host.clock import SystemClock
from nas_agent_graph.launchers.engine import Conversation, JobRequest, ListedJob
from nas_agent_graph.launchers.place import read_place
from nas_system.config_io.config_file import read_config
from nas_system.processes.cluster_job import claim_attempt
from nas_system.processes.run_files import SCHEMA_VERSION, RunPaths
from nas_system.space import RunConfig

SUBMIT_S = 0.06
LIST_S, LIST_JOB_S = 0.02, 0.0001
"""An answer of squeue, and what each job in it adds."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.6, 1.0
EPOCHS = 8
KEPT_S = 300.0
"""How long an engine lists a job that has ended (MinJobAge of slurm.conf)."""


class Stopwatch:
    """Seconds of the calling thread, without those that it waited for a core."""

    def __init__(self) -> None:
        try:
            self._waits = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._waits = None
        self._thread = threading.get_ident()

    def seconds(self) -> float:
        assert threading.get_ident() == self._thread, "it is one thread's"
        waited_ns = 0 if self._waits is None else int(os.pread(self._waits, 64, 0).split()[1])
        return time.perf_counter() - 1e-9 * waited_ns

    def close(self) -> None:
        if self._waits is not None:
            os.close(self._waits)


class SimulatedTime(SystemClock):
    """The clock of an agent and of its conversation; `now` is what has been made good so far."""

    def __init__(self) -> None:
        self.now = 0.0
        self.own_s = 0.0
        """The agent's own seconds until `now`."""
        self._watch = Stopwatch()
        self._since = self._watch.seconds()
        self._agent = threading.get_ident()
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._seen: list[float] = []
        """When something happens that ends a sleep of the agent."""

    def monotonic(self) -> float:
        # The other thread runs at the moment of an event, while the agent's stands still.
        return self.now + self._lap() if threading.get_ident() == self._agent else self.now

    def own(self) -> float:
        """Return the agent's own seconds until this moment."""
        return self.own_s + self._lap()

    def sleep(self, seconds: float) -> None:
        """Sleep, as often as the agent would have without having seen anything."""
        self.catch_up()
        while self._seen and self._seen[0] <= self.now:
            heapq.heappop(self._seen)
        assert self._seen, "the agent waits, and nothing will happen any more"
        times = max(math.ceil((self._seen[0] - self.now) / seconds), 1)
        self._run_until(self.now + times * seconds)

    def at(self, when: float, happens: Callable[[], None], *, is_seen: bool = True) -> None:
        """Let something happen; the agent need not see all of it at once."""
        heapq.heappush(self._events, (when, next(self._order), happens))
        if is_seen:
            heapq.heappush(self._seen, when)

    def catch_up(self) -> None:
        """Make good what has happened while the agent computed."""
        passed = self._lap()
        self.own_s += passed
        self._run_until(self.now + passed)

    def _run_until(self, then: float) -> None:
        while self._events and self._events[0][0] <= then:
            when, _, happens = heapq.heappop(self._events)
            self.now = max(self.now, when)
            happens()
        self.now = then
        self._since = self._watch.seconds()

    def _lap(self) -> float:
        return max(self._watch.seconds() - self._since, 0.0)

    def close(self) -> None:
        self._watch.close()


class Talker:
    """The thread of a conversation: it runs only while the agent's stands still, and waits in its time."""

    def __init__(self, clock: SimulatedTime) -> None:
        self._clock = clock
        self._turns, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._closed = False
        self._pause: object | None = None
        """Of the pause that it makes until there is something to say, if it makes one."""
        self._thread: threading.Thread | None = None
        self.busy_s = 0.0
        """How long the engine has answered."""

    def begin(self, conversation: Conversation) -> None:
        self._thread = threading.Thread(target=self._talk, args=(conversation,), daemon=True)
        self._thread.start()
        self._clock.at(self._clock.now, self._resume)

    def wake(self) -> None:
        """End a pause: there is something to say."""
        if self._pause is not None:
            self._pause = None
            self._clock.at(self._clock.now, self._resume)

    def spend(self, seconds: float) -> None:
        """Wait for an answer of the engine."""
        self.busy_s += seconds
        self._clock.at(self._clock.now + seconds, self._resume)
        self._wait()

    def close(self) -> None:
        self._closed = True
        while self._thread is not None and self._thread.is_alive():
            self._turns.release()
            self._thread.join(0.01)

    def _talk(self, conversation: Conversation) -> None:
        self._turns.acquire()
        while not self._closed:
            conversation.turn()
            pause = self._pause = object()
            self._clock.at(
                self._clock.now + conversation.pause_s(), lambda pause=pause: self._end_pause(pause)
            )
            self._wait()

    def _end_pause(self, pause: object) -> None:
        if self._pause is pause:
            self._pause = None
            self._resume()

    def _wait(self) -> None:
        if not self._closed:
            self._back.release()
            self._turns.acquire()

    def _resume(self) -> None:
        self._turns.release()
        self._back.acquire()


@dataclass
class SimulatedJob:
    """A job of the cluster, and the training in it."""

    folder: Path
    attempt: int
    submitted: float
    begins: float
    seconds: float
    ends: float = math.inf
    """Known once it has begun."""
    config: RunConfig = field(default_factory=RunConfig)


@dataclass
class ScriptedEngine:
    """Answers as the measured engines do, and does what its jobs would: it writes the files of a supervisor.

    `length(config)` is how long a training takes, `score(config)` its validation score.
    """

    clock: SimulatedTime
    talker: Talker
    length: Callable[[RunConfig], float]
    score: Callable[[RunConfig], float]
    name: str = "scripted"
    finished: list[SimulatedJob] = field(default_factory=list)
    most_at_once: int = 0
    _training: int = 0
    _jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    _waits: random.Random = field(default_factory=lambda: random.Random(0))

    def check(self) -> None:
        """Accept everything."""

    def submit(self, request: JobRequest) -> None:
        """Take the job; it begins a moment later."""
        self.talker.spend(SUBMIT_S)
        folder, now = Path(request.log).parent, self.clock.now
        place = read_place(folder)
        assert place is not None and place.name == request.name, "a job is written down first"
        assert request.name not in self._jobs, f"{request.name} was submitted twice"
        begins = now + self._waits.uniform(SHORTEST_WAIT_S, LONGEST_WAIT_S)
        job = SimulatedJob(folder, place.attempt, now, begins, seconds=0.0)
        self._jobs[request.name] = job
        self.clock.at(begins, lambda: self._begin(job))

    def jobs(self, prefix: str) -> Mapping[str, ListedJob]:
        """List what waits, trains, and has ended lately."""
        now = self.clock.now
        listed = {
            name: ListedJob(_state_at(job, now))
            for name, job in self._jobs.items()
            if name.startswith(prefix) and now < job.ends + KEPT_S
        }
        self.talker.spend(LIST_S + LIST_JOB_S * len(listed))
        return listed

    def kill(self, name: str) -> None:
        """Refuse: no search of this benchmark ends a job."""
        raise AssertionError(f"nobody should end {name}")

    def _begin(self, job: SimulatedJob) -> None:
        paths, now = RunPaths(job.folder), self.clock.now
        assert claim_attempt(job.folder, job.attempt, self.name), f"{job.folder} trains twice"
        job.config = read_config(paths.config)
        job.seconds = self.length(job.config)
        job.ends = now + job.seconds
        self._training += 1
        self.most_at_once = max(self.most_at_once, self._training)
        record = {"attempt": job.attempt, "started_at": _time_of_day(now)}
        _write(paths.process, {"schema": SCHEMA_VERSION, **record})
        for epoch in range(1, EPOCHS + 1):
            when = now + job.seconds * epoch / (EPOCHS + 1)
            # Nobody waits for an epoch: the agent reads of it when it looks.
            self.clock.at(when, lambda epoch=epoch: self._write_history(job, epoch), is_seen=False)
        self.clock.at(job.ends, lambda: self._end(job))

    def _write_history(self, job: SimulatedJob, epochs: int) -> None:
        value = self.score(job.config)
        metric = job.config.task.metric_name
        entries = [
            {"epoch": epoch, **_scores(metric, value * (1 + 1 / (1 + epoch))), "seconds": 1.0, "lr": 0.001}
            for epoch in range(epochs)
        ]
        history = {"best_epoch": epochs - 1, "planned_epochs": EPOCHS, "epochs": entries}
        _write(RunPaths(job.folder).history, history)

    def _end(self, job: SimulatedJob) -> None:
        self._training -= 1
        self.finished.append(job)
        paths, config = RunPaths(job.folder), job.config
        metric, value = config.task.metric_name, self.score(config)
        result = {f"val_{metric}": value, f"test_{metric}": value, "reason": "completed", "epochs": EPOCHS}
        _write(paths.metrics, result | {"best_epoch": EPOCHS - 1, "train_time_sec": job.seconds})
        end = {"schema": SCHEMA_VERSION, "attempt": job.attempt, "ended": "exited", "returncode": 0}
        times = {"wall_s": round(job.seconds, 3), "ended_at": _time_of_day(self.clock.now)}
        _write(paths.exit, end | times)


def log_normal(mean_s: float, sigma: float = 0.5) -> Callable[[RunConfig], float]:
    """Return a log-normal length of this mean, by configuration and seed."""
    median_s = mean_s * math.exp(-(sigma**2) / 2)

    def length(config: RunConfig) -> float:
        return median_s * _generator_of(config).lognormvariate(0.0, sigma)

    return length


def smooth_score(config: RunConfig) -> float:
    """Return a score with its optimum at a learning rate of 0.01, with the noise of a seed."""
    smooth = 0.05 + 0.01 * abs(math.log10(config.training.lr) + 2)
    return smooth + 0.001 * (config.model.family != "linear") + _generator_of(config).gauss(0.0, 0.0003)


def _generator_of(config: RunConfig) -> random.Random:
    return random.Random(config.model_dump_json())


def _state_at(job: SimulatedJob, now: float) -> Any:
    if now < job.begins:
        return "queued"
    return "running" if now < job.ends else "ended"


def _scores(metric: str, value: float) -> dict[str, float]:
    return {f"train_{metric}": value, f"val_{metric}": value}


def _time_of_day(seconds: float) -> str:
    """Return a moment as supervisors write it, in an order that text has, too."""
    fraction = f"{1000 * (seconds % 1):03.0f}"[:3]
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{fraction}Z", time.gmtime(seconds))


def _write(path: Path, value: object) -> None:
    # Not durable: it stands for a training elsewhere, and no agent waits for that one's disk.
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)
