"""What the sandbox adds to the start of a training, which here does nothing.

The two are measured in turn, as whole processes. Printed are the medians, and the median of the differences
of neighbours with a 95 % interval (bootstrap over the pairs).

    python benchmarks/sandbox_start.py [--pairs 60]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESAMPLES = 2000


def main() -> None:
    """Measure and print, as JSON in the last line."""
    parser = argparse.ArgumentParser(description="Time a start with and without the sandbox.")
    parser.add_argument("--pairs", type=int, default=60)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run_0000")
        for mode in ("off", "required"):  # compiles and fills the kernel's cache
            start(run_dir, mode)
        both = [(start(run_dir, "off"), start(run_dir, "required")) for _ in range(pairs)]
    added = [(inside - outside) * 1000 for outside, inside in both]
    medians = sorted(statistics.median(random.choices(added, k=pairs)) for _ in range(RESAMPLES))
    result = {
        "without_ms": round(statistics.median(outside for outside, _ in both) * 1000, 1),
        "with_ms": round(statistics.median(inside for _, inside in both) * 1000, 1),
        "added_ms": round(statistics.median(added), 1),
        "added_ms_95": [round(medians[int(RESAMPLES * part)], 1) for part in (0.025, 0.975)],
        "pairs": pairs,
    }
    print(json.dumps(result))


def start(run_dir: Path, mode: str) -> float:
    """Return the seconds from the start of a supervisor to its end."""
    run_dir.mkdir()
    command = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir), "--attempt", "1"]
    command += ["--time-limit", "60", "--sandbox", mode, "--disk-limit-mb", "1000", "--", "true"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    ended = json.loads((run_dir / "exit.json").read_bytes())
    assert (ended["ended"], ended["returncode"]) == ("exited", 0), ended
    shutil.rmtree(run_dir)
    return seconds


if __name__ == "__main__":
    main()
