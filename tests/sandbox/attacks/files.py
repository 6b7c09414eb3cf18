"""Ways to write, change and read files that are not the training's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from pathlib import Path

from attacks.toolbox import (
    CAPABILITIES,
    CLAIM,
    LANDLOCK,
    NAMESPACE,
    NO_NEW_PRIVILEGES,
    ON_X86,
    ROOT,
    SECCOMP,
    SECRET,
    USER,
    Target,
    call,
    call_as_32_bit,
    python,
    syscall,
    way,
)

AT_FDCWD = -100
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_NODUMP = 0x40


# -- writing ---------------------------------------------------------------------------------------------


@way(LANDLOCK)
def overwrite(it: Target) -> None:
    """Overwrite a file."""
    it.file.write_text("overwritten")


@way(LANDLOCK)
def append(it: Target) -> None:
    """Append to a file."""
    with open(it.file, "a") as file:
        file.write("more")


@way(LANDLOCK)
def make_file(it: Target) -> None:
    """Make a file."""
    (it.folder / "new").write_text("new")


@way(LANDLOCK)
def make_folder(it: Target) -> None:
    """Make a folder."""
    (it.folder / "new").mkdir()


@way(LANDLOCK)
def make_fifo(it: Target) -> None:
    """Make a FIFO."""
    os.mkfifo(it.folder / "new")


@way(LANDLOCK, CAPABILITIES, who=(ROOT,))
def make_device(it: Target) -> None:
    """Make a device node."""
    os.mknod(it.folder / "new", stat.S_IFCHR | 0o666, os.makedev(1, 3))


# Containers and virtual machines may forbid root as well what has `off=()` below.


@way(CAPABILITIES, LANDLOCK, SECCOMP, who=(ROOT,), seen=CLAIM, off=())
def read_by_own_device(it: Target) -> str:
    """Make a node of the machine's disk in the own folder and read it."""
    device = it.here / "disk"
    os.mknod(device, stat.S_IFBLK | 0o600, os.stat("/").st_dev)
    with open(device, "rb") as disk:
        return f"{len(disk.read(512))} bytes"


@way(LANDLOCK)
def make_link(it: Target) -> None:
    """Make a symbolic link."""
    (it.folder / "new").symlink_to("/etc/passwd")


@way(LANDLOCK)
def truncate(it: Target) -> None:
    """Truncate a file."""
    os.truncate(it.file, 0)


@way(LANDLOCK)
def truncate_on_opening(it: Target) -> None:
    """Truncate a file by opening it for reading with O_TRUNC."""
    os.open(it.file, os.O_RDONLY | os.O_TRUNC)


@way(LANDLOCK)
def delete(it: Target) -> None:
    """Delete a file."""
    (it.folder / "doomed").unlink()


@way(LANDLOCK)
def delete_folder(it: Target) -> None:
    """Delete a folder."""
    (it.folder / "empty").rmdir()


@way(LANDLOCK)
def rename(it: Target) -> None:
    """Rename a file over another one."""
    os.rename(it.folder / "doomed", it.file)


@way(LANDLOCK)
def exchange(it: Target) -> None:
    """Exchange a file and one of the training's."""
    own = it.here / "exchanged"
    own.write_text("planted")
    syscall("renameat2", AT_FDCWD, bytes(it.file), AT_FDCWD, bytes(own), 2)


@way(LANDLOCK)
def move_in(it: Target) -> None:
    """Move a file into the own folder."""
    os.rename(it.file, it.here / "moved_in")


@way(LANDLOCK)
def move_out(it: Target) -> None:
    """Move a file out of the own folder."""
    (it.here / "going").write_text("planted")
    os.rename(it.here / "going", it.folder / "new")


@way(LANDLOCK)
def hard_link_in(it: Target) -> None:
    """Link a file into the own folder and write to it there."""
    os.link(it.file, it.here / "linked_in")
    (it.here / "linked_in").write_text("overwritten")


@way(LANDLOCK)
def hard_link_out(it: Target) -> None:
    """Link a file of the own folder to the outside."""
    (it.here / "going_by_link").write_text("planted")
    os.link(it.here / "going_by_link", it.folder / "new")


@way(LANDLOCK)
def nameless_file(it: Target) -> None:
    """Make a file without a name (O_TMPFILE) and give it one."""
    descriptor = os.open(it.folder, os.O_TMPFILE | os.O_WRONLY, 0o644)
    name = f"/proc/self/fd/{descriptor}".encode()
    call("linkat", AT_FDCWD, name, AT_FDCWD, bytes(it.folder / "new"), 0x400)  # AT_SYMLINK_FOLLOW


@way(LANDLOCK)
def through_a_link(it: Target) -> None:
    """Write through a symbolic link in the own folder."""
    (it.here / "way_out").symlink_to(it.folder)
    (it.here / "way_out/file").write_text("overwritten")


@way(LANDLOCK, NAMESPACE)
def through_dots(it: Target) -> None:
    """Write through `..`."""
    relative = os.path.relpath(it.file, it.here)
    os.chdir(it.here)
    Path(relative).write_text("overwritten")


@way(LANDLOCK, NAMESPACE)
def through_own_root(it: Target) -> None:
    """Write through /proc/self/root."""
    Path(f"/proc/self/root{it.file}").write_text("overwritten")


@way(LANDLOCK, NAMESPACE)
def through_the_supervisors_root(it: Target) -> None:
    """Write through the root folder of the parent in /proc."""
    Path(f"/proc/{os.getppid()}/root{it.file}").write_text("overwritten")


@way(LANDLOCK)
def by_a_program(it: Target) -> None:
    """Write from a program that the training starts."""
    python(
        "import sys\n"
        "try: open(sys.argv[1], 'w').write('overwritten')\n"
        "except OSError as error: sys.exit(f'errno:{error.errno}')",
        str(it.file),
    )


@way(SECCOMP, LANDLOCK)
def by_a_program_in_memory(it: Target) -> None:
    """Write from a program that was copied into memory (memfd) and has no file."""
    source = next(path for path in ("/usr/bin/truncate", "/bin/truncate") if os.path.exists(path))
    descriptor = os.memfd_create("program", 0)
    with open(source, "rb") as file:
        os.write(descriptor, file.read())
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.execv(f"/proc/self/fd/{descriptor}", ["truncate", "-s", "0", str(it.file)])
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise PermissionError(errno.EACCES, "truncate failed")


@way(LANDLOCK, NAMESPACE)
def by_a_daemon(it: Target) -> None:
    """Write from a daemon (two forks, a session of its own) that outlives its parent."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.05)
            try:
                it.file.write_text("overwritten")
                os.write(writing, b"0")
            except OSError as error:
                os.write(writing, str(error.errno).encode())
        os._exit(0)
    os.wait()
    if code := int(os.read(reading, 9)):
        raise OSError(code, os.strerror(code))


@way(LANDLOCK, NAMESPACE)
def write_to_shared_temporary_folder(it: Target) -> None:
    """Write into /tmp."""
    it.outside.write_text("litter")


@way(NAMESPACE, LANDLOCK)
def write_to_shared_memory(it: Target) -> None:
    """Leave a file in the /dev/shm of all."""
    Path("/dev/shm", it.outside.name).write_text("litter")


@way(LANDLOCK, SECCOMP)
def bind_a_socket(it: Target) -> None:
    """Make a socket file."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(it.folder / "new"))


@way(LANDLOCK)
def write_in_home(it: Target) -> None:
    """Make a file in the home folder."""
    (it.folder / "new").write_text("new")


@way(LANDLOCK)
def poison_the_cache(it: Target) -> None:
    """Plant a module in the cache that the next training reads (PyTorch's hub)."""
    (it.folder / "planted.py").write_text("import os")


# -- modes, owners, times, attributes --------------------------------------------------------------------


@way(SECCOMP)
def change_mode(it: Target) -> None:
    """Change a file's mode."""
    os.chmod(it.file, 0o777)


@way(SECCOMP, LANDLOCK)
def change_mode_by_descriptor(it: Target) -> None:
    """Change the mode of a readable file by a descriptor."""
    os.fchmod(os.open(it.readable, os.O_RDONLY), 0o777)


@way(SECCOMP)
def change_mode_by_path_descriptor(it: Target) -> None:
    """Change a mode through /proc/self/fd of an O_PATH descriptor."""
    os.chmod(f"/proc/self/fd/{os.open(it.file, os.O_PATH)}", 0o777)


@way(SECCOMP)
def change_mode_by_new_call(it: Target) -> None:
    """Change a file's mode by fchmodat2."""
    syscall("fchmodat2", AT_FDCWD, bytes(it.file), 0o777, 0)


@way(SECCOMP, off=(), who=(ROOT, USER) if ON_X86 else ())
def change_mode_by_32_bit_call(it: Target) -> None:
    """Change a file's mode by the system call of a 32-bit program. Kernels may lack those."""
    call_as_32_bit(15, bytes(it.file), 0o777)


@way(SECCOMP, CAPABILITIES, who=(ROOT,))
def change_owner(it: Target) -> None:
    """Give a file to somebody else."""
    os.chown(it.file, 1, 1)


@way(SECCOMP, CAPABILITIES, who=(ROOT,))
def change_owner_of_a_link(it: Target) -> None:
    """Give a link to somebody else."""
    os.lchown(it.folder / "link", 1, 1)


@way(SECCOMP)
def change_times(it: Target) -> None:
    """Change a file's times."""
    os.utime(it.file, (1, 1))


@way(SECCOMP, LANDLOCK)
def change_times_by_descriptor(it: Target) -> None:
    """Change the times of a readable file by a descriptor."""
    os.utime(os.open(it.readable, os.O_RDONLY), (1, 1))


@way(SECCOMP)
def set_attribute(it: Target) -> None:
    """Set an extended attribute."""
    os.setxattr(it.file, "user.mark", b"x")


@way(SECCOMP)
def set_attribute_by_new_call(it: Target) -> None:
    """Set an extended attribute by setxattrat."""
    value = ctypes.create_string_buffer(b"x")
    words = struct.pack("QII", ctypes.addressof(value), 1, 0)
    syscall("setxattrat", AT_FDCWD, bytes(it.file), 0, b"user.mark", words, len(words))


@way(SECCOMP)
def remove_attribute(it: Target) -> None:
    """Remove an extended attribute."""
    os.removexattr(it.file, "user.there")


@way(SECCOMP)
def set_access_list(it: Target) -> None:
    """Open a file to all by an access control list."""
    entries = [(0x01, 7, 0xFFFFFFFF), (0x04, 7, 0xFFFFFFFF), (0x20, 7, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(it.file, "system.posix_acl_access", value)


def _mark(descriptor: int) -> None:
    flags = bytearray(8)
    fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, flags)
    fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("q", struct.unpack("q", flags)[0] | FS_NODUMP))


@way(LANDLOCK, SECCOMP)
def set_flags(it: Target) -> None:
    """Set a file's flags (chattr)."""
    _mark(os.open(it.file, os.O_RDONLY))


@way(SECCOMP)
def set_flags_of_a_readable_file(it: Target) -> None:
    """Set the flags of a file that may be read (chattr)."""
    _mark(os.open(it.readable, os.O_RDONLY))


@way(SECCOMP)
def set_flags_by_xfs_call(it: Target) -> None:
    """Set the flags of a readable file by FS_IOC_FSSETXATTR."""
    descriptor = os.open(it.readable, os.O_RDONLY)
    words = bytearray(28)
    fcntl.ioctl(descriptor, 0x801C581F, words)
    words[0] |= 0x80  # FS_XFLAG_NODUMP
    fcntl.ioctl(descriptor, 0x401C5820, bytes(words))


@way(SECCOMP, LANDLOCK)
def set_flags_by_new_call(it: Target) -> None:
    """Set a file's flags by file_setattr."""
    words = struct.pack("QIIII", 0x80, 0, 0, 0, 0)
    syscall("file_setattr", AT_FDCWD, bytes(it.file), words, len(words), 0)


# -- reading ---------------------------------------------------------------------------------------------


def _read(path: Path | str, most: int = 4096) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_a_secret(it: Target) -> bytes:
    """Read a file of the victim."""
    return _read(it.secret)


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_private_key(it: Target) -> bytes:
    """Read ~/.ssh/id."""
    return _read(it.world / "home/.ssh/id")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_cloud_keys(it: Target) -> bytes:
    """Read ~/.aws/credentials."""
    return _read(it.world / "home/.aws/credentials")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_notes(it: Target) -> bytes:
    """Read a file of the home folder that is not hidden."""
    return _read(it.world / "home/notes")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_key_of_the_agent(it: Target) -> bytes:
    """Read the workspace's .env."""
    return _read(it.world / "workspace/.env")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_key_of_another_project(it: Target) -> bytes:
    """Read another project's .env."""
    return _read(it.world / "other_project/.env")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_state_of_the_agent(it: Target) -> bytes:
    """Read agent_state.json."""
    return _read(it.world / "workspace/runs/agent_state.json")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_weights_of_another_run(it: Target) -> bytes:
    """Read another run's weights."""
    return _read(it.world / "workspace/runs/run_0000/best_model.pth")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_through_a_link(it: Target) -> bytes:
    """Read a secret through a symbolic link in the own folder."""
    (it.here / "to_secret").symlink_to(it.secret)
    return _read(it.here / "to_secret")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_through_a_hard_link(it: Target) -> bytes:
    """Read a secret by a hard link in the own folder."""
    os.link(it.secret, it.here / "secret_by_link")
    return _read(it.here / "secret_by_link")


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_through_own_root(it: Target) -> bytes:
    """Read a secret through /proc/self/root."""
    return _read(f"/proc/self/root{it.secret}")


@way(LANDLOCK, NAMESPACE, seen=CLAIM, who=(ROOT,))
def read_shadow(it: Target) -> str:
    """Read /etc/shadow."""
    return f"{len(_read('/etc/shadow'))} bytes"


@way(LANDLOCK, NAMESPACE, seen=CLAIM, who=(ROOT,), off=())
def read_environment_of_init(it: Target) -> str:
    """Read the environment of the machine's first process."""
    first = _read("/proc/1/environ")
    if b"NAS_RUN_COOKIE=" in first or not first:
        raise ProcessLookupError(errno.ESRCH, "process 1 is one of this run")
    return f"{len(first)} bytes"


@way(LANDLOCK, seen=CLAIM)
def read_system_log(it: Target) -> str:
    """Read /var/log."""
    for folder, _, names in os.walk("/var/log", onerror=_raise):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size:
                return f"{len(_read(path))} bytes"
    raise FileNotFoundError(errno.ENOENT, "no log")


def _raise(error: OSError) -> None:
    raise error


@way(SECCOMP, LANDLOCK, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def read_the_disk(it: Target) -> str:
    """Read the device that holds the file system."""
    device = os.stat("/").st_dev
    for name in os.listdir("/dev"):
        status = os.lstat(f"/dev/{name}")
        if stat.S_ISBLK(status.st_mode) and status.st_rdev == device:
            return f"{len(_read(f'/dev/{name}', 512))} bytes"
    raise FileNotFoundError(errno.ENOENT, "no such device here")


@way(LANDLOCK, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def read_kernel_log(it: Target) -> str:
    """Read /dev/kmsg."""
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    return f"{len(os.read(descriptor, 8192))} bytes"


@way(LANDLOCK, CAPABILITIES, NAMESPACE, seen=CLAIM, who=(ROOT,), off=())
def read_kernel_memory(it: Target) -> str:
    """Open /proc/kcore."""
    os.open("/proc/kcore", os.O_RDONLY)
    return "opened"


@way(SECCOMP, CAPABILITIES, seen=SECRET, who=(ROOT,))
def read_by_handle(it: Target) -> bytes:
    """Open a secret by its handle (open_by_handle_at), past every folder."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128), 136)
    mount = ctypes.c_int()
    call("name_to_handle_at", AT_FDCWD, bytes(it.secret), handle, ctypes.byref(mount), 0)
    there = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    return os.read(call("open_by_handle_at", there, handle, os.O_RDONLY), 4096)


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def list_a_folder(it: Target) -> str:
    """List a folder of the victim."""
    return str(os.listdir(it.folder / "names"))


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def list_home(it: Target) -> str:
    """List the home folder."""
    return str(os.listdir(it.world / "home"))


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def list_runs(it: Target) -> str:
    """List the folder of all runs."""
    return str(os.listdir(it.world / "workspace/runs"))


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def list_temporary_folder(it: Target) -> str:
    """List /tmp."""
    return str(os.listdir("/tmp"))


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def list_shared_memory(it: Target) -> str:
    """List the /dev/shm of all."""
    return str(os.listdir("/dev/shm"))


@way(LANDLOCK, NAMESPACE, seen=SECRET)
def read_shared_memory(it: Target) -> bytes:
    """Read what another program keeps in /dev/shm."""
    return _read(it.extra["shared"])


@way(LANDLOCK, SECCOMP, NAMESPACE, seen=CLAIM)
def watch_a_folder(it: Target) -> str:
    """Watch what the victim does in a folder (inotify)."""
    call("inotify_add_watch", call("inotify_init1", 0), bytes(it.folder), 0xFFF)
    return "watching"


@way(SECCOMP, CAPABILITIES, seen=CLAIM)
def watch_by_fanotify(it: Target) -> str:
    """Watch what the victim does in a folder (fanotify)."""
    # FAN_REPORT_FID: what users without privileges are allowed.
    group = call("fanotify_init", 0x200, os.O_RDONLY)
    call("fanotify_mark", group, 0x1, 0x2 | 0x08000000, AT_FDCWD, bytes(it.folder))
    return "watching"


@way(LANDLOCK, NAMESPACE, seen=CLAIM)
def lock_a_file(it: Target) -> str:
    """Lock a file of the victim, so that the victim waits."""
    fcntl.flock(os.open(it.file, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "locked"


@way(SECCOMP, LANDLOCK, NAMESPACE, seen=CLAIM)
def take_a_lease(it: Target) -> str:
    """Take a lease on a file of the victim, so that its next opening waits."""
    fcntl.fcntl(os.open(it.file, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
    return "leased"


@way(NO_NEW_PRIVILEGES, LANDLOCK, NAMESPACE, seen=CLAIM, who=(USER,))
def run_a_setuid_program(it: Target) -> str:
    """Become root by a setuid program."""
    program = it.extra["setuid"]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.execv(program, ["id", "-u"])
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise PermissionError(errno.EACCES, "cannot be run")
    if os.read(reading, 9).strip() != b"0":
        raise PermissionError(0, "ran without its privileges")
    return "root"


@way(NO_NEW_PRIVILEGES, CAPABILITIES, SECCOMP, LANDLOCK, off=(), seen=CLAIM, who=(USER,))
def become_root_by_su(it: Target) -> str:
    """Call su and sudo. They ask for a password, so nobody gets through with the sandbox off either."""
    for program in ("/usr/bin/su", "/usr/bin/sudo"):
        if os.path.exists(program):
            child = os.fork()
            if child == 0:
                null = os.open("/dev/null", os.O_RDWR)
                for number in range(3):
                    os.dup2(null, number)
                os.execv(program, [program, "root", "-c", "true"])
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
                return program
    raise PermissionError(0, "refused")


@way(SECCOMP, seen=CLAIM)
def type_into_a_terminal(it: Target) -> str:
    """Type into a terminal (TIOCSTI); on a device that is none, which the kernel says if it comes to that."""
    try:
        fcntl.ioctl(os.open("/dev/null", os.O_RDWR), 0x5412, b"x")
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return "reached"
        raise
    return "typed"
