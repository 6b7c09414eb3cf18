"""A real Slurm cluster of two nodes with fake GPUs, below one folder: controller, nodes, and their authority.

Needs Debian's packages slurmctld, slurmd, slurm-client and munge, and root; nothing of the system's own
configuration is used, and no systemd, control groups or accounting.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "unshare")
DAEMONS = ("slurmctld", "slurmd.n0", "slurmd.n1")
START_S = 60.0

_CONFIGURATION = """\
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=sched_interval=1,bf_interval=1,defer_batch
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=10
KillWait=3
MinJobAge=60
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[0-1] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] \\
  CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=5 State=UP
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why no cluster can run here; None if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"Slurm's programs are missing: {', '.join(absent)}"
    if os.geteuid() != 0:
        return "Slurm's daemons need root here"
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(Path(folder) / "null", 0o20666, os.makedev(1, 3))
        except OSError as error:
            return f"no device can be made for a fake GPU here: {error.strerror}"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no folder can be made a node's own here: {done.stderr.strip()}" if done.returncode else None


class SlurmCluster:
    """The daemons, and what a test does to them. `environment` is what leads a client here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def private(self) -> Path:
        """A folder that each node has for itself, and so has the host of the agent."""
        return self.folder / "private"

    def start(self) -> None:
        """Write the configuration, start everything and wait until both nodes take jobs."""
        for name in ("run", "state", "log", "spool.n0", "spool.n1", "dev", self.private.name):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for number, minor in enumerate((3, 5)):  # null and zero: a plain file is no GPU to Slurm
            os.mknod(self.folder / "dev" / f"nvidia{number}", 0o20666, os.makedev(1, minor))
        host = socket.gethostname().partition(".")[0]
        content = _CONFIGURATION.format(host=host, folder=self.folder, ports=_free_ports())
        (self.folder / "slurm.conf").write_text(content)
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[0-1] Name=gpu File={self.folder}/dev/nvidia[0-1] Flags=nvidia_gpu_env\n"
        )
        run = self.folder / "run"
        self._spawn(
            "munged",
            *("munged", "--foreground", f"--socket={run}/munge.socket", f"--key-file={key}"),
            *(f"--log-file={self.folder}/log/munged.log", f"--pid-file={run}/munged.pid"),
            f"--seed-file={run}/munged.seed",
            # It refuses to trust a folder that others may write to, and tests lie below /tmp.
            "--force",
        )
        _wait_for(lambda: (run / "munge.socket").exists(), "munged")
        for name in DAEMONS:
            self.restart(name)
        _wait_for(self._is_ready, "two idle nodes")

    def restart(self, name: str) -> None:
        """Start one of `DAEMONS`, which has been killed or never started."""
        if name == "slurmctld":
            self._spawn(name, "slurmctld", "-D")
        else:
            own = f"mount -t tmpfs none '{self.private}' && exec slurmd -D -N {name[-2:]}"
            self._spawn(name, "unshare", "--mount", "sh", "-c", own)

    def kill(self, name: str) -> None:
        """Kill one of `DAEMONS` at once; the jobs of a node run on."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def lose_node(self, name: str) -> None:
        """Let a node die: its daemon, the steps of its jobs, and the jobs themselves."""
        self.kill(f"slurmd.{name}")
        for pid, command in _processes():
            if "slurmstepd" in command and self._belongs(pid):
                self._kill_tree(pid)

    def keep_up(self) -> list[str]:
        """Start the daemons that have died by themselves, as on a crowded machine; return their names."""
        dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
        for name in dead:
            self.restart(name)
        return dead

    def resume_nodes(self) -> None:
        """Do what an administrator does with nodes that a new controller has drained, because it found jobs
        there that it did not know ("Duplicate jobid")."""
        with contextlib.suppress(subprocess.SubprocessError):
            states = self.ask("sinfo", "--noheader", "--Node", "--format=%T", timeout_s=5)
            if "drain" in states:
                self.ask("scontrol", "update", "nodename=n[0-1]", "state=resume", timeout_s=5)

    def ask(self, *command: str, timeout_s: float = 30.0) -> str:
        """Run one of Slurm's programs and return what it printed. Raises CalledProcessError."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the states of all jobs that the controller knows, by their names."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%j %T").splitlines()
        return dict(line.split() for line in lines)

    def job_id(self, name: str) -> str:
        """Return the number of the job of this name that has not ended."""
        return self.ask("squeue", "--noheader", f"--name={name}", "--format=%i").split()[0]

    def stop(self) -> None:
        """End everything, jobs included."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.ask("scancel", "--user=root", timeout_s=10)
            time.sleep(0.5)
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self._daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(5)
            daemon.kill()
            daemon.wait()
        for pid, _ in _processes():
            if self._belongs(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _spawn(self, name: str, *command: str) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _is_ready(self) -> bool:
        with contextlib.suppress(subprocess.SubprocessError):
            states = self.ask("sinfo", "--noheader", "--Node", "--format=%T", timeout_s=10).split()
            return bool(states) and set(states) <= {"idle", "mixed", "allocated"}
        return False

    def _belongs(self, pid: int) -> bool:
        """Return whether a process came from this cluster: its environment names the configuration."""
        with contextlib.suppress(OSError):
            content = Path(f"/proc/{pid}/environ").read_bytes()
            return f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in content
        return False

    def _kill_tree(self, root: int) -> None:
        children = [pid for pid, _ in _processes() if _parent(pid) == root]
        with contextlib.suppress(ProcessLookupError):
            os.kill(root, signal.SIGKILL)
        for child in children:
            self._kill_tree(child)


def _path() -> str:
    """Return where programs are: those of administrators, which some users' PATH lacks, included."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _free_ports() -> list[int]:
    """Return a free port, and two after each other."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            second = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            start = second.getsockname()[1]
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", start + 1)))
                return [first.getsockname()[1], start, start + 1]


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _wait_for(is_there: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + START_S
    while not is_there():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"Slurm did not start: no {what} after {START_S:g} s")
        time.sleep(0.1)
