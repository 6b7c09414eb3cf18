"""Ray, by its job server: submitted jobs, not tasks or actors, for they outlive the agent and have our names.

A training is a job with our supervisor in it. Ray's own client has no time limits, so each question runs on a
thread that is left behind if it hangs. What the calls mean: Ray's Python SDK for jobs.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import threading
from collections.abc import Callable, Mapping
from typing import Any

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

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_STATES: dict[str, JobState] = {"PENDING": "queued", "RUNNING": "running"}
_FINAL = re.compile(r"status code 4(00|01|03|22)")
"""Of an answer that stays one; a head that has just started has no page for jobs yet (404)."""
_REASON_CHARACTERS = 300


class RayJobs:
    """The cluster whose dashboard answers at one address."""

    name = "ray"

    def __init__(self, address: str | None = None, *, cpus: int = 1, gpus: float = 0.0) -> None:
        """`cpus` and `gpus` are reserved for each training; a GPU may be shared (0.5).

        Raises ConfigError for an address that cannot be one, and where Ray is not installed.
        """
        self._address = (address or DEFAULT_ADDRESS).rstrip("/")
        if not self._address.startswith(("http://", "https://")):
            raise ConfigError(
                f"--ray-address {address}: give the address of the dashboard, such as {DEFAULT_ADDRESS}"
            )
        self._cpus, self._gpus = cpus, gpus
        self._client: Any = None

    def check(self) -> None:
        self._bounded(lambda client: client.get_version())

    def submit(self, request: JobRequest) -> None:
        memory = None if request.memory_mb is None else request.memory_mb * 2**20

        def work(client: Any) -> None:
            try:
                client.submit_job(
                    entrypoint=f"exec /bin/sh -c {shlex.quote(request.script)}",
                    submission_id=request.name,
                    entrypoint_num_cpus=self._cpus,
                    entrypoint_num_gpus=self._gpus or None,
                    entrypoint_memory=memory,
                )
            except RuntimeError as error:
                if "already exists" not in str(error):  # else an answer was lost: it has been submitted
                    raise

        self._bounded(work)

    def jobs(self, prefix: str) -> Mapping[str, ListedJob]:
        found = {}
        for job in self._bounded(lambda client: client.list_jobs()):
            if job.submission_id is not None and job.submission_id.startswith(prefix):
                status = str(getattr(job.status, "value", job.status))
                detail = one_line(f"{status} {job.message or ''}", _REASON_CHARACTERS)
                state = _STATES.get(status, "ended")
                found[job.submission_id] = ListedJob(state, detail if state == "ended" else "")
        return found

    def kill(self, name: str) -> None:
        def work(client: Any) -> None:
            try:
                client.stop_job(name)
            except RuntimeError as error:
                if "does not exist" not in str(error):
                    raise

        self._bounded(work)

    def _bounded(self, question: Callable[[Any], Any]) -> Any:
        """Ask, and return the answer. Raises EngineSilent, NotNow, or ConfigError for what will stay so."""
        build, ray_error = _sdk()
        outcome: list[Any] = []

        def work() -> None:
            try:
                if self._client is None:
                    self._client = build(self._address)
                outcome.append(question(self._client))
            except (ray_error, RuntimeError, OSError, ValueError) as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name="ask ray", daemon=True)
        thread.start()
        thread.join(QUESTION_TIMEOUT_S)
        if not outcome:
            self._client = None
            raise EngineSilent(f"{self._address} does not answer within {QUESTION_TIMEOUT_S:g} s")
        if not isinstance(outcome[0], Exception):
            return outcome[0]
        self._client = None
        raise self._classified(outcome[0])

    def _classified(self, error: Exception) -> Exception:
        said = one_line(str(error), _REASON_CHARACTERS) or type(error).__name__
        if type(error).__name__ == "AuthenticationError":
            return ConfigError(
                f"--ray-address {self._address}: Ray refuses us ({said}); where its tokens are on, set "
                "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            )
        if _FINAL.search(said):
            return ConfigError(f"Ray at {self._address} refuses such jobs: {said}")
        if isinstance(error, ConnectionError | OSError) or "status code 5" in said:
            return EngineSilent(f"{self._address}: {said}")
        return NotNow(f"{self._address}: {said}")


def _sdk() -> tuple[Callable[[str], Any], type[Exception]]:
    """Import Ray and return its client of the job server, and its errors. Raises ConfigError without Ray."""
    # Its own reports of usage to its makers are not ours to send.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ConfigError(
            f"--launcher ray needs Ray ({error}); install it with: pip install 'nas-agent[ray]'"
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    return JobSubmissionClient, RayError
