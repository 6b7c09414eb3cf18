"""Drives a recorded search again, with no model and no training, and compares where it ends: `nas replay`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from nas_agent_graph.replay.drift import Drift
from nas_system.command_line import harmless
from nas_system.errors import ConfigError

_SHOWN = 20
"""Differences between two states that are printed; the first is what matters."""


def compare(arguments: argparse.Namespace) -> int:
    """Print whether the replayed search is the recorded one.

    Returns 0 for the same state, 1 for drift. Raises ConfigError, or AnswerMissing for an answer that was
    not recorded.
    """
    # Tracing would upload what the nodes are given.
    os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
    from nas_agent_graph.llm.recording import read_transcript
    from nas_agent_graph.replay.search import RecordedSearch, differences, replay
    from nas_system.processes.run_files import RunPaths

    prompts = arguments.prompts
    if prompts is not None and not prompts.is_dir():
        raise ConfigError(f"--prompts {prompts}: there is no such folder")
    recorded = RecordedSearch.open(arguments.recording.expanduser().absolute())
    for run_id in recorded.run_ids:
        path = RunPaths(recorded.runs_dir / run_id).transcript
        if damage := read_transcript(path).damage:
            print(f"note: {path}: {damage}", file=sys.stderr)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="nas-replay-", dir=_scratch(recorded.workspace)) as folder:
            replayed = replay(recorded, Path(folder), lenient=arguments.lenient, prompts=prompts)
    except Drift as drift:
        print(harmless("\n".join(drift.diff)))
        raise
    seconds = time.monotonic() - started
    found = differences(recorded.state, replayed)
    if found:
        print(f"error: drift at {found[0]}", file=sys.stderr)
        for line in found[1:_SHOWN]:
            print(f"also {line}")
        return 1
    runs = len(recorded.state.runs)
    left = ", ".join(run.run_id for run in replayed.in_progress)
    unfinished = f" and {left} unfinished" if left else ""
    how = "by key alone" if arguments.lenient else "every message as recorded"
    print(f"equal: {runs} runs{unfinished}, {how}, in {seconds:.1f} s")
    return 0


def _scratch(recording: Path) -> Path | None:
    """Return the folder for the replayed search: in memory if it fits, None for the usual place.

    Durable writes to a disk, seven a run, cost more than all the rest, and what is thrown away need not
    be durable.
    """
    size = sum(path.stat().st_size for path in recording.glob("runs/*/*.json*") if path.is_file())
    memory = Path("/dev/shm")
    try:
        free = shutil.disk_usage(memory).free
    except OSError:
        return None
    return memory if os.access(memory, os.W_OK) and free > 4 * size + 16_000_000 else None
