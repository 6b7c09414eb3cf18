"""A real Ray cluster: a head with its job server and further nodes, in a network of their own.

Ray's daemons listen on all interfaces. In a network namespace there is only its own loopback, so whoever is
to see them is started there (`inside`). Needs root, and Ray installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PORT, DASHBOARD = 6379, 8265
ADDRESS = f"http://127.0.0.1:{DASHBOARD}"
START_S = 120.0

_NAMESPACE = """
import fcntl, signal, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
print("up", flush=True)
signal.pause()
"""


def missing() -> str | None:
    """Return why no cluster can run here; None if one can."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed (pip install 'nas-agent[ray]')"
    absent = [name for name in ("unshare", "nsenter") if shutil.which(name) is None]
    if absent:
        return f"util-linux's programs are missing: {', '.join(absent)}"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no network can be made for it here: {done.stderr.strip()}" if done.returncode else None


class RayCluster:
    """A head without slots, and nodes with two each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # As long as the daemons wait for a head that is gone: 60 s by default.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
        }
        self.inside: tuple[str, ...] = ()
        """In front of a command that is to see the cluster."""
        self._namespace: subprocess.Popen[str] | None = None
        self._heads = 0
        self._cookie = f"nas-ray-{os.getpid()}-{folder.name}"

    def start(self) -> None:
        """Make the network, start the head and one node."""
        self._namespace = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _NAMESPACE], stdout=subprocess.PIPE, text=True
        )
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == "up\n"
        self.inside = ("nsenter", f"--net=/proc/{self._namespace.pid}/ns/net")
        self.start_head()
        self.start_node()

    def start_head(self) -> None:
        """Start a head, which knows of no job of an earlier one."""
        self._heads += 1
        # Unix sockets below it must have short names.
        folder = f"/tmp/{self._cookie[-20:]}{self._heads}"
        self._ray(
            *("start", "--head", "--num-cpus=0", f"--port={PORT}", "--include-dashboard=true"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}", f"--temp-dir={folder}"),
            *("--object-store-memory=100000000", "--disable-usage-stats"),
        )

    def start_node(self) -> None:
        """Join a node to the head."""
        self._ray(
            *("start", f"--address=127.0.0.1:{PORT}", "--num-cpus=2", "--num-gpus=1"),
            "--object-store-memory=100000000",
        )

    def kill_node(self) -> None:
        """Kill every node but the head's at once, with what trains there."""
        self._kill(self._of_nodes())

    def kill_head(self) -> None:
        """Kill all that runs on the head's machine at once; what the nodes run goes on for some seconds."""
        of_nodes = self._of_nodes()
        self._kill({pid for pid, _ in self._processes()} - of_nodes)

    def _of_nodes(self) -> set[int]:
        """Return the daemons of the nodes that are not the head, and all that they have started."""
        found = {
            pid for pid, words in self._processes() if words[0].endswith("/raylet") and "--head" not in words
        }
        # What a job runs has an environment of its own.
        everything = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        while more := {pid for pid in everything if pid not in found and _parent(pid) in found}:
            found |= more
        return found

    @staticmethod
    def _kill(pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End everything."""
        for _ in range(20):
            pids = [pid for pid, _ in self._processes()]
            self._kill(pids)
            if not pids:
                break
            time.sleep(0.1)
        if self._namespace is not None:
            self._namespace.kill()
            self._namespace.wait()
        for number in range(1, self._heads + 1):
            shutil.rmtree(f"/tmp/{self._cookie[-20:]}{number}", ignore_errors=True)

    def _ray(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self.inside, sys.executable, "-m", "ray.scripts.scripts", *arguments],
            env={**os.environ, **self.environment, "NAS_TEST_CLUSTER": self._cookie},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _processes(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the cluster's processes: their environment holds what they were started with."""
        mark = f"NAS_TEST_CLUSTER={self._cookie}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    yield int(entry.name), words


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None
