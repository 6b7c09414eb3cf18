"""Baselines that take a while or may fail in native code: in a process of their own, with bounded compute.

Compute is processor time of that process, so a busy machine changes nothing. A model that takes longer
than its share, or fails, costs its own row only.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nas_system.data.baselines.method import Array
from nas_system.errors import ConfigError

LIBRARY = {
    "ets": "statsforecast",
    "theta": "statsforecast",
    "lightgbm": "lightgbm",
    "arima": "statsforecast",
}
"""The rows of the extra `stats` and what each imports; the fastest first: others get what it leaves."""
EXTRA = 'pip install -e ".[stats]"'

LIMIT_VARIABLE = "NAS_STATS_SECONDS"
LIMIT_S = 60.0
"""Processor time of all fits of a search together."""
BEFORE_THE_SEARCH, AFTER_IT = 0.6, 0.4
"""Shares of it: for validation and test part, and for the hold-out part at the end."""
LEAST_S = 1.0
PATIENCE = 30.0
"""How many times longer by the clock, on a crowded machine, before a process counts as hung."""
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Request:
    """What the process is to do with the values it is sent."""

    rows: tuple[str, ...]
    pred_len: int
    seasons: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """The scaling of every target."""
    train_end: int
    scales: tuple[float, ...] = ()
    """By which MASE divides the error of every target."""
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """First and one past the last origin of every part to score; without any the future is forecast."""


@dataclass(frozen=True)
class Answers:
    """What the process printed for every row that it could do, and why it could not do others."""

    rows: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, str]


def installed_rows() -> tuple[str, ...]:
    """Return the rows of the extra `stats` whose libraries are here."""
    return tuple(name for name, library in LIBRARY.items() if find_spec(library) is not None)


def compute_limit() -> float:
    """Return the seconds of a search from the environment. Raises ConfigError for what is no such number."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        seconds = float(text or LIMIT_S)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < 1e6:
        raise ConfigError(
            f"{LIMIT_VARIABLE}={text!r:.40} is no number of seconds; 0 leaves these baselines out"
        )
    return seconds


def run_bounded(request: Request, values: Array, limit_s: float) -> Answers:
    """Fit every row of `request` to `values`, (rows, targets), unscaled, in `limit_s` of processor time."""
    rows: dict[str, Mapping[str, Any]] = {}
    problems: dict[str, str] = {}
    pending, left = list(request.rows), limit_s
    while pending and left >= LEAST_S:
        before = _children_s()
        answers, problem = _run(request, pending, values, left)
        left -= _children_s() - before
        rows |= answers
        pending = [name for name in pending if name not in answers]
        if pending:
            problems[pending.pop(0)] = problem
    return Answers(rows, problems | dict.fromkeys(pending, f"no compute was left of {limit_s:g} s"))


def _run(
    request: Request, names: Sequence[str], values: Array, limit_s: float
) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Start the process for some rows; return its answers, and what kept it from giving the next."""
    head = json.dumps({**asdict(request), "rows": names, "limit_s": limit_s})
    body = io.BytesIO()
    np.save(body, values, allow_pickle=False)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": _search_path(), "PYTHONWARNINGS": "ignore"}
    # -P: a file in the current folder is no library.
    command = [sys.executable, "-P", "-m", "nas_system.data.baselines.bounded_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            out, err = process.communicate(f"{head}\n".encode() + body.getvalue(), limit_s * PATIENCE)
            hung = False
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            hung = True
    # A line without its end was cut off by the end of the process.
    lines = [json.loads(line) for line in out.decode().splitlines(keepends=True) if line.endswith("\n")]
    answers = {line.pop("name"): line for line in lines}
    return answers, "it hung" if hung else _why(process.returncode, err.decode(errors="replace"))


def _why(code: int, complaint: str) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "not fitted within its share of the compute"
    last = next((line for line in reversed(complaint.splitlines()) if line.strip()), "")
    text = " ".join("".join(c if c.isprintable() else " " for c in last).split())
    return f"it cannot be fitted here ({text[:160] or f'exit code {code}'})"


def _search_path() -> str:
    """Return PYTHONPATH with this checkout in front: the process may start in any folder."""
    return os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
