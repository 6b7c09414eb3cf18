"""`nas run` with trainings in one warm process: the same flags, the same search, torch imported once.

    python benchmarks/warm_search.py WORKSPACE --dataset FILE.csv --target y [flags of `nas run`]

Graph, proposer, verdicts, recomputed scores and files are the program's own, and trainings are those of
`nas_system.train`, done by `nas_system.train_many`. There is no supervisor and no sandbox, only the time
limit holds, and no pictures are drawn: for measurements with configurations of our own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_agent_graph.context import RunState
from nas_agent_graph.launchers import LAUNCHERS
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.run import main as run_main
from nas_system.errors import RunError
from nas_system.files import read_record, write_json
from nas_system.processes.job import Job
from nas_system.processes.run_files import SCHEMA_VERSION, RunPaths
from nas_system.processes.run_lock import attempt_in
from nas_system.processes.work_folder import WorkFolder

NAME = "warm"
_TRAIN = ("-m", "nas_system.train")


class WarmLauncher(LocalLauncher):
    """Trains in `submit`, in a process that stays for the next training."""

    def __init__(self) -> None:
        super().__init__(sandbox="off")
        self._trainer: subprocess.Popen[str] | None = None

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """Train to the end. Raises RunError if the trainer does not start."""
        paths = RunPaths(run_dir)
        if attempt_in(read_record(paths.exit)) >= attempt:
            return
        assert job.command[1:3] == _TRAIN
        work = WorkFolder(run_dir, math.inf)
        work.begin()
        training = {"arguments": [*job.command[3:], "--no-pictures"], "limit_s": job.time_limit_s}
        began = time.monotonic()
        end = self._train(training)
        end |= {"schema": SCHEMA_VERSION, "attempt": attempt, "wall_s": round(time.monotonic() - began, 3)}
        work.publish()
        write_json(paths.exit, end)
        work.close(keep=False)

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        return {path: "finished" if RunPaths(path).exit.exists() else "absent" for path in run_dirs}

    def is_running(self, run_dir: Path) -> bool:
        """Return False: every training has ended when `submit` returns."""
        return False

    def check_sandbox(self) -> None:
        """Return None: whoever chooses this launcher has been told."""

    def close(self) -> None:
        """End the process that trains."""
        if self._trainer is not None:
            self._trainer.communicate()
            self._trainer = None

    def _train(self, training: Mapping[str, object]) -> dict[str, object]:
        """Return how the training ended, as a supervisor would record it."""
        process = self._trainer = self._trainer or subprocess.Popen(
            [sys.executable, "-m", "nas_system.train_many"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(training) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            code, self._trainer = process.wait(), None
            if code >= 0:
                raise RunError(f"nas_system.train_many ended with exit code {code}; its message is above")
            return {"ended": "exited", "returncode": None, "signal": -code}
        answer = json.loads(line)
        return {
            "ended": "time_limit" if answer["timed_out"] else "exited",
            "returncode": answer["exit_code"],
            "signal": None,
        }


def main() -> int:
    """Run a search as `nas run` does and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("workspace", help="folder of the search; all other flags are those of `nas run`")
    known, flags = parser.parse_known_args()
    launcher = WarmLauncher()
    LAUNCHERS[NAME] = lambda sandbox: launcher
    flags += ["--workspace", known.workspace, "--launcher", NAME]
    try:
        return run_main(flags, prog="python benchmarks/warm_search.py")
    finally:
        launcher.close()


if __name__ == "__main__":
    sys.exit(main())
