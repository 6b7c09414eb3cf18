"""The processes of a run: which they are, whether they live, how much memory they hold.

Everything here is read from Linux's /proc; where there is none (macOS) trees look empty, memory
is unknown, and a pid is trusted. Standard library only: the supervisor starts with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat as stat_module
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
LONGEST_LOOK_S = 1.0
_FEW_MAPPED = 8
_CHUNK_BYTES = 2**16
COOKIE_NAME = "NAS_RUN_COOKIE"
"""Environment variable that marks every process of a run, also those that left its process tree."""


class ProcessId(NamedTuple):
    """The identity of a process, which a reused pid does not share, nor a process after a reboot."""

    pid: int
    start_ticks: int | None
    """Clock ticks from boot to the start of the process; None where /proc is missing."""
    boot_id: str | None
    pid_namespace: str | None
    """A pid means nothing in another container, even under the same kernel."""

    @property
    def cookie(self) -> str:
        """Return what the processes started by this one carry in their environment."""
        return f"{self.boot_id}/{self.pid_namespace}/{self.pid}/{self.start_ticks}"

    def is_comparable(self) -> bool:
        """Return whether the process can be seen from this machine and this pid namespace."""
        return (self.boot_id, self.pid_namespace) == (_boot_id(), _pid_namespace())

    def is_alive(self) -> bool:
        """Return whether this very process is running here; a zombie is dead."""
        if not self.is_comparable():
            return False
        if not PROC.is_dir():
            return _accepts_signals(self.pid)
        stat = _stat(self.pid)
        return stat is not None and not stat.is_dead and stat.start_ticks == self.start_ticks

    def is_certainly_dead(self) -> bool:
        """Return whether the process could be seen from here and is not there."""
        return self.is_comparable() and not self.is_alive()

    def send(self, number: signal.Signals) -> bool:
        """Signal the process if it is alive; never another one that has its pid now."""
        try:
            if not hasattr(os, "pidfd_open"):
                return self.is_alive() and _kill(self.pid, number)
            descriptor = os.pidfd_open(self.pid)
        except (OSError, OverflowError):
            return False
        try:
            # The descriptor names one process for ever, so what is checked is what is signalled.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def identify(pid: int) -> ProcessId:
    """Return the identity of a running process."""
    stat = _stat(pid)
    return ProcessId(pid, stat.start_ticks if stat else None, _boot_id(), _pid_namespace())


def process_id_from_json(value: object) -> ProcessId | None:
    """Return the identity in a record from disk; None for anything that is not one."""
    if not isinstance(value, dict):
        return None
    pid, ticks = value.get("pid"), value.get("start_ticks")
    # A pid of 0 or below would mean a process group to kill(2).
    if type(pid) is not int or pid < 1 or not (ticks is None or type(ticks) is int):
        return None
    return ProcessId(pid, ticks, value.get("boot_id"), value.get("pid_namespace"))


def descendants_of(ancestor: int) -> dict[int, Stat]:
    """Return every process below `ancestor` by its pid, zombies too, itself excluded."""
    stats = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found: dict[int, Stat] = {}
    waiting = list(children.get(ancestor, ()))
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = stats[pid]
            waiting += children.get(pid, ())
    return found


def children_of(pid: int) -> list[int]:
    """Return the pids of the living children of a process of one thread."""
    try:
        return [
            int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
        ]
    except OSError:  # a kernel without that file
        return [child for child in _pids() if (stat := _stat(child)) is not None and stat.parent == pid]


class Nameless(NamedTuple):
    """Bytes of files that are open or mapped and have no name (any more), so that no folder shows them."""

    memory: int
    """Of files in memory (memfd_create)."""
    disk: int
    complete: bool
    """Whether all of them could be measured, in time."""


def nameless_bytes(pids: Iterable[int], work: Path, shared_memory: int | None) -> Nameless:
    """Measure the nameless files of these processes, whose own folder is `work`.

    Those on the device `shared_memory` are left out: that is measured as a whole.
    """
    give_up_at = time.monotonic() + LONGEST_LOOK_S
    memory: dict[tuple[int, int], int] = {}
    disk: dict[tuple[int, int], int] = {}
    mapped: set[bytes] = set()
    complete = True
    for pid in pids:
        if time.monotonic() > give_up_at:
            complete = False
            break
        folder = PROC / str(pid) / "fd"
        try:
            names = os.listdir(folder)
            mapped |= _mapped_nameless(pid, os.fsencode(work))
        except PermissionError:
            complete = False
            continue
        except OSError:  # ended meanwhile
            continue
        for name in names:
            if time.monotonic() > give_up_at:
                complete = False
                break
            with contextlib.suppress(OSError):
                status = os.stat(folder / name)
                if status.st_nlink or not stat_module.S_ISREG(status.st_mode):
                    continue
                if status.st_dev != shared_memory:
                    in_memory = os.readlink(folder / name).startswith("/memfd:")
                    (memory if in_memory else disk)[status.st_dev, status.st_ino] = status.st_blocks * 512
    # How large they are is not known of files that are only mapped.
    complete &= len(mapped) <= _FEW_MAPPED
    return Nameless(sum(memory.values()), sum(disk.values()), complete)


def _mapped_nameless(pid: int, work: bytes) -> set[bytes]:
    """Return device and inode of the removed files below `work` that the process maps. Raises OSError."""
    found = set()
    content = _content(f"/proc/{pid}/maps")
    if b"(deleted)" not in content:  # thousands of lines, and seldom one of them
        return found
    for line in content.splitlines():
        if line.endswith(b"(deleted)"):
            fields = line.split(maxsplit=5)
            if fields[5].startswith(work + b"/"):
                found.add(b" ".join(fields[3:5]))
    return found


class Hidden(NamedTuple):
    """Bytes of memory that resident sizes show twice or not at all."""

    shared: int
    """Of shared memory, a page counted in each process that maps it."""
    page_tables: int


def hidden_bytes(pids: Iterable[int]) -> Hidden:
    """Measure shared memory and page tables of these processes."""
    shared = tables = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "status").read_bytes().splitlines():
                if line.startswith(b"RssShmem:"):
                    shared += int(line.split()[1]) * 1024
                elif line.startswith(b"VmPTE:"):
                    tables += int(line.split()[1]) * 1024
    return Hidden(shared, tables)


def proportional_bytes(pid: int) -> int | None:
    """Return resident bytes with shared pages divided by their number of users; None if unknown."""
    try:
        content = (PROC / str(pid) / "smaps_rollup").read_bytes()
    except OSError:
        return None
    for line in content.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None


def carriers_of(cookie: str) -> list[ProcessId]:
    """Return the living processes started with this cookie, wherever they are in the process tree."""
    needle = f"{COOKIE_NAME}={cookie}".encode()
    candidates = [identify(pid) for pid in _pids() if pid != os.getpid() and needle in _environment(pid)]
    # Read again: the identity may be that of another process that got the pid after the first look.
    return [process for process in candidates if needle in _environment(process.pid)]


def kill_carriers(cookie: str) -> int:
    """Kill every process with this cookie and return how many there were."""
    return sum(process.send(signal.SIGKILL) for process in carriers_of(cookie))


def kernel_oom_kills() -> int:
    """Return how many processes the kernel's out-of-memory killer ended since boot; 0 if unknown."""
    try:
        text = (PROC / "vmstat").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


class Stat(NamedTuple):
    """What the kernel says about a process."""

    state: str
    """One letter; Z for a zombie."""
    parent: int
    threads: int
    start_ticks: int
    resident_bytes: int

    @property
    def is_dead(self) -> bool:
        """Return whether only an entry in the table is left of it."""
        return self.state == "Z" and not self.has_lost_its_first_thread

    @property
    def has_lost_its_first_thread(self) -> bool:
        """Return whether it looks dead and is not: other threads of it still run, and cannot be measured."""
        return self.state == "Z" and self.threads > 1


def _stat(pid: int) -> Stat | None:
    try:
        content = _content(f"/proc/{pid}/stat")
    except OSError:
        return None
    # Field 2 is the command in parentheses and may itself hold blanks and parentheses, so count
    # from the last one (man 5 proc): state is field 3, parent 4, threads 20, start 22, resident pages 24.
    fields = content[content.rfind(b")") + 2 :].split()
    if len(fields) < 22:
        return None
    resident_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Stat(fields[0].decode(), int(fields[1]), int(fields[17]), int(fields[19]), resident_bytes)


def _content(path: str) -> bytes:
    """Read a file of /proc, in half the time that a file object takes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # ended meanwhile, or somebody else's
        return []


def _boot_id() -> str | None:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return None


def _accepts_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _kill(pid: int, number: signal.Signals) -> bool:
    os.kill(pid, number)
    return True
