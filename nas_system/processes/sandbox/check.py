"""Find out what the sandbox holds on this machine: `python -m nas_system.processes.sandbox.check`.

Starts a supervisor with a training that does nothing, and prints what it has found as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nas_system.files import read_object
from nas_system.processes.run_files import RunPaths
from nas_system.processes.sandbox.modes import MODES, mode_in
from nas_system.processes.sandbox.sandbox import Report

TIME_LIMIT_S = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report and a warning for people; return 0, or 2 where a required sandbox does not hold."""
    parser = argparse.ArgumentParser(prog="check", description="Find out what the sandbox holds here.")
    parser.add_argument("--sandbox", choices=MODES, default=mode_in(os.environ))
    mode = parser.parse_args(arguments).sandbox
    with tempfile.TemporaryDirectory(prefix="nas-check-") as folder:
        run_dir = Path(os.path.realpath(folder), "run_0000")
        run_dir.mkdir()
        command = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir), "--attempt", "1"]
        command += ["--time-limit", str(TIME_LIMIT_S), "--sandbox", mode, "--", "true"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        try:
            record = read_object(RunPaths(run_dir).exit)
        except (OSError, ValueError):
            print(done.stderr.strip() or "the supervisor left no record", file=sys.stderr)
            return 1
    if record["ended"] == "cannot_start":
        print(f"error: {record['message']}", file=sys.stderr)
        return 2
    report = Report.from_json(record["sandbox"])
    print(json.dumps({**report.to_json(), "level": report.level, "warning": warning(report)}))
    return 0


def warning(report: Report) -> str | None:
    """Return what a training could do although it should not, in one sentence; None for nothing."""
    if report.layers == ("off",):
        return "the sandbox is off: a training can do what you can"
    if not report.open:
        return None
    why = next(iter(report.open.values()))
    return f"the sandbox does not hold everything here ({why}); open to trainings: {', '.join(report.open)}"


if __name__ == "__main__":
    sys.exit(main())
