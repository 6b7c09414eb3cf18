"""An engine that a test plays: it holds jobs, and answers or does not as it is asked to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nas_agent_graph.launchers.engine import EngineSilent, JobRequest, ListedJob, NotNow
from nas_system.errors import ConfigError


@dataclass
class ScriptedEngine:
    """Does at once what it is asked for."""

    name: str = "slurm"
    listed: dict[str, ListedJob] = field(default_factory=dict)
    submitted: list[JobRequest] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    refusal: Exception | None = None
    """What `submit` raises."""
    largest_mb: float = math.inf
    """Memory of its nodes: a job that asks for more is never taken."""
    forgets_answer: bool = False
    """Whether `submit` takes the job and says that it has timed out."""
    is_away: bool = False
    problem: Exception | None = None
    """What every question raises."""
    meanwhile: Callable[[], None] = lambda: None
    """Called while a job is submitted."""

    def check(self) -> None:
        self._answer()

    def submit(self, request: JobRequest) -> None:
        self._answer()
        if self.refusal is not None:
            raise self.refusal
        if (request.memory_mb or 0) > self.largest_mb:
            raise ConfigError("Slurm refuses such jobs: Memory specification can not be satisfied")
        self.meanwhile()
        self.submitted.append(request)
        self.listed[request.name] = ListedJob("queued", "Resources")
        if self.forgets_answer:
            raise EngineSilent("Socket timed out on send/recv operation")

    def jobs(self, prefix: str) -> Mapping[str, ListedJob]:
        self._answer()
        return {name: job for name, job in self.listed.items() if name.startswith(prefix)}

    def kill(self, name: str) -> None:
        self._answer()
        self.killed.append(name)
        self.listed.pop(name, None)

    def _answer(self) -> None:
        if self.problem is not None:
            raise self.problem
        if self.is_away:
            raise NotNow("Unable to contact slurm controller")
