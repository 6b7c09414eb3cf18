"""Say what a training finds on a node of a cluster: `python -m nas_system.processes.cluster_probe`.

Runs in the place of a training, in its sandbox and with its environment, and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys

from nas_system.processes.cluster_job import allocated_memory_mb
from nas_system.processes.machine_cores import usable_cores
from nas_system.processes.machine_memory import total_memory_mb

DEVICES_TIMEOUT_S = 120.0


def main() -> int:
    """Print the findings; return 0."""
    print(
        json.dumps(
            {
                "host": socket.gethostname(),
                "python": platform.python_version(),
                "executable": sys.executable,
                "variables": sorted(os.environ),
                "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "cores": usable_cores(),
                "memory_mb": allocated_memory_mb(os.environ) or total_memory_mb(),
                **_devices(),
            }
        )
    )
    return 0


def _devices() -> dict[str, object]:
    """Return the CUDA devices that torch finds, or why it finds none."""
    command = [sys.executable, "-m", "nas_system.describe", "--list-devices", "auto"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEVICES_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            return {"devices": json.loads(done.stdout)}
        problem = done.stderr.strip()[-300:] or f"exit code {done.returncode}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    return {"devices": [], "problem": problem}


if __name__ == "__main__":
    sys.exit(main())
