"""The victims: a home folder, a workspace, processes and servers, and how they look from outside."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from attacks.toolbox import (
    ABSTRACT,
    DATAGRAM,
    ON_X86,
    SEQPACKET,
    SERVERS,
    STRANGER,
    STREAM,
    TCP,
    TCP6,
    UDP,
    Way,
)

PRECIOUS = "precious"
FOLDERS = (
    "home/.ssh",
    "home/.aws",
    "home/.cache/torch/hub",
    "home/.cache/matplotlib",
    "home/projects",
    "workspace/runs/run_0000",
    "workspace/runs/run_0001",
    "other_project",
    "victims",
    "sockets",
)
FILES_WITH_A_SECRET = (
    "home/.ssh/id",
    "home/.aws/credentials",
    "home/notes",
    "home/.bashrc",
    "workspace/.env",
    "workspace/runs/agent_state.json",
    "workspace/runs/run_0000/best_model.pth",
    "other_project/.env",
)
PLACES = {"poison_the_cache": "home/.cache/torch/hub", "write_in_home": "home/projects"}
"""Where the victim of an attack lies, if not in a folder of its own."""
NAMES_WITH_A_SECRET = ("home", "workspace/runs")
_FS_IOC_GETFLAGS = 0x80086601
_IOPRIO_GET = 252 if ON_X86 else 31


class World:
    """Somebody's things on a machine, all of which belong to `uid`."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.canary = f"canary-{secrets.token_hex(8)}"
        """In every secret, and nowhere that the training is allowed to look."""
        self.base = Path(tempfile.mkdtemp(prefix="nas-"))
        self.base.chmod(0o755)
        self.outside = Path("/tmp", f"nas-out-{secrets.token_hex(4)}")
        self._victims: dict[str, _Victim] = {}
        self._clean_up = contextlib.ExitStack()
        self._clean_up.callback(shutil.rmtree, self.base, ignore_errors=True)
        for folder in FOLDERS:
            self.make_folder(self.base / folder)
        for name in FILES_WITH_A_SECRET:
            self.make_file(self.base / name, self.canary)
        for folder in NAMES_WITH_A_SECRET:
            self.make_file(self.base / folder / self.canary, "")
        for place in (Path("/tmp"), Path("/dev/shm")):
            path = place / f"nas-{self.canary}"
            self.make_file(path, self.canary)
            self._clean_up.callback(path.unlink, missing_ok=True)
        self.setuid = self._setuid_program()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up.close()

    @property
    def home(self) -> Path:
        """The victim's home folder."""
        return self.base / "home"

    @property
    def run_dir(self) -> Path:
        """The folder of the run in which the attacks are tried."""
        return self.base / "workspace/runs/run_0001"

    def make_folder(self, path: Path) -> Path:
        """Make a folder and those above it, all of them the victim's."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self.give(folder)
        self.give(self.base)
        return path

    def make_file(self, path: Path, text: str) -> Path:
        """Make a file of the victim."""
        path.write_text(text)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Make a file the victim's."""
        if os.getuid() == 0:
            os.lchown(path, self.uid, self.uid)

    def remove_later(self, folder: Path) -> None:
        """Remove a folder that lies elsewhere when this world ends."""
        self._clean_up.callback(shutil.rmtree, folder, ignore_errors=True)

    def _setuid_program(self) -> Path | None:
        """Make a program that makes everybody root; only root can."""
        program = shutil.which("id")
        if os.getuid() != 0 or program is None:
            return None
        place = self.base / "setuid-id"
        shutil.copy(program, place)
        place.chmod(0o4755)
        return place

    # -- victims ---------------------------------------------------------------------------------------

    def victims(self, ways: Iterable[Way]) -> None:
        """Make what the ways may hit, each a victim of its own, and note how it looks."""
        for way in ways:
            victim = _Victim(self, way)
            self._clean_up.enter_context(victim)
            self._victims[way.name] = victim
        for victim in self._victims.values():
            victim.before = victim.look()

    def target(self, name: str, here: Path) -> dict[str, Any]:
        """Return what the training is passed for one way, as JSON: nothing in it is secret."""
        victim = self._victims[name]
        paths = {"here": here, "run": self.run_dir, "world": self.base, "folder": victim.folder}
        return {
            **{key: str(path) for key, path in paths.items()},
            "outside": str(victim.outside),
            "pid": victim.pid,
            "environment_at": victim.environment_at,
            "port": victim.port,
            "socket": victim.socket_path,
            "extra": {
                "setuid": str(self.setuid),
                # By its number among the files there: the name is a secret.
                "shared": str(victim.shared),
                "giver": victim.giver,
            },
        }

    def readable_files(self) -> list[Path]:
        """Return the files that the supervisor is asked to let the training read."""
        files = [victim.folder / "readable" for victim in self._victims.values()]
        return [file for file in files if file.exists()]

    def was_hit(self, name: str) -> str | None:
        """Return what has changed on a way's victim since `victims`; None if nothing has."""
        victim = self._victims[name]
        now = victim.look()
        changed = [key for key in {*victim.before, *now} if victim.before.get(key) != now.get(key)]
        return ", ".join(sorted(changed)) or None

    def was_reached(self, name: str) -> bool:
        """Return whether anything arrived at a way's server."""
        return self._victims[name].was_reached()

    def is_alive(self) -> bool:
        """Return whether a process runs that was started with a path of this world."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found.append(path.read_bytes())
        return any(bytes(self.base) in line for line in found)

    def leaked(self) -> list[str]:
        """Return the files of the run that hold a secret, not following the links left by the training."""
        files = [path for path in self.run_dir.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
        return [path.name for path in files if self.canary.encode() in path.read_bytes()]

    def everything(self) -> dict[str, object]:
        """Return the state of all files but the run's own."""
        return look_at_files(self.base, but=self.run_dir)


class _Victim(contextlib.ExitStack):
    def __init__(self, world: World, way: Way) -> None:
        super().__init__()
        self.before: dict[str, object] = {}
        self.pid = self.environment_at = self.port = 0
        self.socket_path = self.giver = ""
        self.folder = world.base / PLACES.get(way.name, f"victims/{way.name}")
        self.outside = world.outside.with_name(f"{world.outside.name}-{way.name}")
        self.shared = Path("/dev/shm", f"{self.outside.name}-shared")
        for folder in ("empty", "names"):
            world.make_folder(self.folder / folder)
        for name in ("file", "doomed", "readable"):
            world.make_file(self.folder / name, PRECIOUS)
        for path in (self.folder / "secret", self.shared):
            world.make_file(path, world.canary)
        (self.folder / "link").symlink_to("file")
        world.make_file(self.folder / "names" / world.canary, "")
        with contextlib.suppress(OSError):  # not every file system has them
            os.setxattr(self.folder / "file", "user.there", b"x")
        self.callback(self.outside.unlink, missing_ok=True)
        self.callback(Path("/dev/shm", self.outside.name).unlink, missing_ok=True)
        self.callback(self.shared.unlink, missing_ok=True)
        if way.seen == STRANGER or "stranger" in way.title:
            self._start_stranger(world)
        if way.seen in SERVERS or "socket pair" in way.title:
            self._serve(way.seen, world)
        if way.name == "receive_a_descriptor":
            self._give_descriptors(world)

    def _start_stranger(self, world: World) -> None:
        with open(self.folder / "secret") as secret:
            stranger = subprocess.Popen(
                [f"sleep-{world.canary}", "600"],
                executable=shutil.which("sleep"),
                stdin=secret,
                cwd=self.folder,
                env={"KEY": world.canary},
                start_new_session=True,
                **as_user(world.uid),
            )
        self.callback(stranger.wait)
        self.callback(stranger.kill)
        self.pid = stranger.pid
        # The process is started before it has its memory.
        while world.canary not in Path(f"/proc/{self.pid}/environ").read_text():
            time.sleep(0.001)
        self.environment_at = int(_stat_fields(self.pid)[47])

    def _serve(self, kind: str, world: World) -> None:
        folder = world.base / "sockets"
        self.server = self.enter_context(_server(kind, folder / str(len(os.listdir(folder)))))
        self.server.setblocking(False)
        name = self.server.getsockname()
        if kind in (TCP, TCP6, UDP):
            self.port = name[1]
        elif kind == ABSTRACT:
            self.socket_path = name[1:].decode()
        else:
            os.chmod(name, 0o777)
            self.socket_path = name

    def _give_descriptors(self, world: World) -> None:
        server = self.enter_context(_server(STREAM, world.base / "sockets/giver"))
        self.giver = server.getsockname()
        os.chmod(self.giver, 0o777)

        def give() -> None:
            with contextlib.suppress(OSError):
                other, _ = server.accept()
                with other, open(self.folder / "secret") as secret:
                    socket.send_fds(other, [b"x"], [secret.fileno()])

        threading.Thread(target=give, daemon=True).start()
        # Without this the thread would stay in accept for good.
        self.callback(server.shutdown, socket.SHUT_RDWR)

    def was_reached(self) -> bool:
        try:
            self.server.recv(99) if self.server.type == socket.SOCK_DGRAM else self.server.accept()
        except BlockingIOError:
            return False
        return True

    def look(self) -> dict[str, object]:
        """Return all that is to be seen on this victim from outside."""
        there = {
            f"{path} there": path.exists() for path in (self.outside, Path("/dev/shm", self.outside.name))
        }
        return {**look_at_files(self.folder), **there, **(look_at_process(self.pid) if self.pid else {})}


def as_user(uid: int) -> dict[str, Any]:
    """Return the arguments with which `Popen` starts a process of that user."""
    return {} if uid == os.getuid() else {"user": uid, "group": uid, "extra_groups": []}


@contextlib.contextmanager
def _server(kind: str, path: Path) -> Iterator[socket.socket]:
    families = {TCP: socket.AF_INET, TCP6: socket.AF_INET6, UDP: socket.AF_INET}
    kinds = {UDP: socket.SOCK_DGRAM, DATAGRAM: socket.SOCK_DGRAM, SEQPACKET: socket.SOCK_SEQPACKET}
    with socket.socket(families.get(kind, socket.AF_UNIX), kinds.get(kind, socket.SOCK_STREAM)) as server:
        addresses = {TCP: ("127.0.0.1", 0), TCP6: ("::1", 0), UDP: ("127.0.0.1", 0)}
        name = f"\0{path}" if kind == ABSTRACT else str(path)
        server.bind(addresses.get(kind, name))
        if server.type != socket.SOCK_DGRAM:
            server.listen()
        yield server


# -- looking ---------------------------------------------------------------------------------------------


def look_at_files(folder: Path, but: Path | None = None) -> dict[str, object]:
    """Return everything about every file below `folder`, except when it was read, not following links."""
    found: dict[str, object] = {}
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        status = path.lstat()
        found[str(path)] = (
            stat.filemode(status.st_mode),
            (status.st_uid, status.st_gid),
            # Its own time changes when an entry is added; the entry itself says more.
            None if path == folder or but is not None else status.st_mtime_ns,
            status.st_nlink if stat.S_ISREG(status.st_mode) else None,
            {name: os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False)}
            if not path.is_symlink()
            else None,
            _flags(path) if stat.S_ISREG(status.st_mode) else None,
            path.read_bytes() if stat.S_ISREG(status.st_mode) else None,
        )
        if stat.S_ISDIR(status.st_mode):
            waiting += [entry for entry in path.iterdir() if entry != but]
    return found


def _flags(path: Path) -> bytes | None:
    words = bytearray(8)
    with contextlib.suppress(OSError), open(path, "rb") as file:
        fcntl.ioctl(file, _FS_IOC_GETFLAGS, words)
        return bytes(words)
    return None


def look_at_process(pid: int) -> dict[str, object]:
    """Return what one process can change about another one."""
    proc = Path(f"/proc/{pid}")
    fields = _stat_fields(pid)
    state = fields[0]
    looks: dict[str, Callable[[], object]] = {
        "priority": lambda: os.getpriority(os.PRIO_PROCESS, pid),
        "scheduler": lambda: os.sched_getscheduler(pid),
        "processors": lambda: os.sched_getaffinity(pid),
        "disk priority": lambda: ctypes.CDLL(None).syscall(_IOPRIO_GET, 1, pid),
        "limits": lambda: (proc / "limits").read_text(),
        "out of memory": lambda: (proc / "oom_score_adj").read_text(),
        "core dump": lambda: (proc / "coredump_filter").read_text(),
        "environment": lambda: (proc / "environ").read_bytes(),
    }
    return {"alive": state in "SRD"} | (
        {} if state == "Z" else {name: look() for name, look in looks.items()}
    )


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
