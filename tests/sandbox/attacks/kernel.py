"""Ways to reach parts of the kernel that a training does not need."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from attacks.toolbox import (
    CAPABILITIES,
    CLAIM,
    LANDLOCK,
    NAMESPACE,
    ROOT,
    SECCOMP,
    SECRET,
    Target,
    call,
    reaches,
    syscall,
    way,
)

NEW_USER, NEW_MOUNTS, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000, 0x20000000, 0x40000000
AT_FDCWD = -100


# -- namespaces and mounts -------------------------------------------------------------------------------


def _map_to_root() -> None:
    user, group = os.getuid(), os.getgid()
    call("unshare", NEW_USER | NEW_MOUNTS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


@way(SECCOMP, seen=CLAIM)
def new_user_namespace(it: Target) -> str:
    """Become root in a user namespace of its own (unshare)."""
    call("unshare", NEW_USER)
    return "root of nobody"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def new_mount_namespace(it: Target) -> str:
    """Make a mount namespace."""
    call("unshare", NEW_MOUNTS)
    return "mounts of its own"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def new_network_namespace(it: Target) -> str:
    """Make a network namespace."""
    call("unshare", NEW_NETWORK)
    return "a network of its own"


def _ended(child: int) -> str:
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "a child in it"


@way(SECCOMP, seen=CLAIM)
def clone_into_namespace(it: Target) -> str:
    """Start a child in a user namespace of its own (clone)."""
    return _ended(syscall("clone", NEW_USER | 17, 0, 0, 0, 0))


@way(SECCOMP, seen=CLAIM)
def clone3_into_namespace(it: Target) -> str:
    """Start a child in a user namespace of its own (clone3, whose flags no filter can read)."""
    words = struct.pack("QQQQQQQQ", NEW_USER, 0, 0, 0, 17, 0, 0, 0)
    return _ended(syscall("clone3", words, len(words)))


@way(SECCOMP, seen=SECRET)
def mount_over_in_user_namespace(it: Target) -> str:
    """Bind a folder of the victim into the own one, as root of a user namespace."""
    _map_to_root()
    (it.here / "bound").mkdir(exist_ok=True)
    call("mount", bytes(it.folder), bytes(it.here / "bound"), 0, 0x1000, 0)
    return (it.here / "bound/secret").read_text()


@way(SECCOMP, CAPABILITIES, seen=SECRET, who=(ROOT,))
def bind_mount(it: Target) -> str:
    """Bind a folder of the victim into the own one (mount)."""
    call("unshare", NEW_MOUNTS)
    call("mount", 0, b"/", 0, 1 << 18 | 0x4000, 0)
    (it.here / "bound").mkdir(exist_ok=True)
    call("mount", bytes(it.folder), bytes(it.here / "bound"), 0, 0x1000, 0)
    return (it.here / "bound/secret").read_text()


@way(SECCOMP, CAPABILITIES, seen=CLAIM, off=(ROOT,))
def mount(it: Target) -> str:
    """Mount anything; of a kind that no kernel knows."""
    try:
        call("mount", b"none", bytes(it.here), b"no-such-kind", 0, 0)
    except OSError as error:
        # As a user one is refused first, in any namespace that is not one's own.
        if error.errno != errno.ENODEV:
            raise
    return "reached"


@way(SECCOMP, CAPABILITIES, seen=CLAIM)
def unmount(it: Target) -> str:
    """Unmount /proc; with flags that do not exist."""
    try:
        call("umount2", b"/proc", 1 << 20)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return "reached"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def open_file_system(it: Target) -> str:
    """Mount by the new calls (fsopen)."""
    syscall("fsopen", b"tmpfs", 0)
    return "opened"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def clone_mounts(it: Target) -> str:
    """Copy the tree of mounts (open_tree)."""
    syscall("open_tree", AT_FDCWD, b"/", 1)
    return "copied"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def change_mounts(it: Target) -> str:
    """Change a mount's attributes (mount_setattr)."""
    return reaches("mount_setattr", AT_FDCWD, b"/", 0, bytes(32), 32)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def change_root(it: Target) -> str:
    """Change the root folder (chroot)."""
    os.chroot(it.here)
    return "elsewhere"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def pivot_root(it: Target) -> str:
    """Change the root mount (pivot_root)."""
    return reaches("pivot_root", b"/no/such/place", b"/no/such/place")


# -- parts of the kernel ---------------------------------------------------------------------------------


@way(SECCOMP, seen=CLAIM)
def io_uring(it: Target) -> str:
    """Set up io_uring, whose operations no filter sees."""
    syscall("io_uring_setup", 4, ctypes.create_string_buffer(120))
    return "a ring"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, off=(ROOT,))
def load_bpf(it: Target) -> str:
    """Load a program into the kernel (bpf)."""
    return reaches("bpf", 5, bytes(144), 144)


@way(SECCOMP, seen=CLAIM)
def handle_page_faults(it: Target) -> str:
    """Handle page faults (userfaultfd), which makes races winnable."""
    syscall("userfaultfd", 1)
    return "handling"


@way(SECCOMP, seen=CLAIM)
def add_key(it: Target) -> str:
    """Leave a key in the user's keyring."""
    syscall("add_key", b"user", b"nas-test", b"x", 1, -1)
    return "added"


@way(SECCOMP, seen=CLAIM)
def read_keys(it: Target) -> str:
    """Search the keyrings of the session (keyctl)."""
    return reaches("keyctl", 0, -3, 0)


@way(SECCOMP, seen=CLAIM)
def request_key(it: Target) -> str:
    """Ask the kernel for a key, for which it starts a program."""
    return reaches("request_key", b"user", b"nas-test-none", 0, 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def load_kernel(it: Target) -> str:
    """Load another kernel (kexec_load). Kernels may lack the call."""
    return reaches("kexec_load", 0, 99, 0, 1 << 20)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def load_module(it: Target) -> str:
    """Load a kernel module (init_module). Kernels without modules lack the call."""
    return reaches("init_module", 0, 0, 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def load_module_from_file(it: Target) -> str:
    """Load a kernel module (finit_module). Kernels without modules lack the call."""
    return reaches("finit_module", -1, 0, 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def unload_module(it: Target) -> str:
    """Unload a kernel module. Kernels without modules lack the call."""
    return reaches("delete_module", b"no-such-module", 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def swap(it: Target) -> str:
    """Swap to a file (swapon)."""
    return _complained("swapon", b"/no/such/file", 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def account(it: Target) -> str:
    """Write down who runs what (acct)."""
    return _complained("acct", b"/no/such/file")


def _complained(name: str, *arguments: object) -> str:
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
    return "reached"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,), off=())
def quota(it: Target) -> str:
    """Change disk quotas. Kernels may lack them."""
    return reaches("quotactl", 0x800007 << 8, b"/no/such/device", 0, 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def set_clock(it: Target) -> str:
    """Change the clock (adjtimex), to the speed that it has."""
    words = ctypes.create_string_buffer(208)
    call("adjtimex", words)
    ctypes.c_uint.from_buffer(words).value = 0x4000  # ADJ_TICK
    call("adjtimex", words)
    return "changed"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def set_host_name(it: Target) -> str:
    """Change the machine's name, to the one that it has."""
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))
    return "changed"


@way(SECCOMP, seen=CLAIM)
def change_personality(it: Target) -> str:
    """Switch off the randomisation of addresses (personality)."""
    call("personality", 0x0040000)
    return "switched off"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, off=(ROOT,))
def read_kernel_messages(it: Target) -> str:
    """Read the kernel's messages (syslog)."""
    call("klogctl", 3, ctypes.create_string_buffer(64), 64)
    return "read"


@way(LANDLOCK, CAPABILITIES, NAMESPACE, seen=CLAIM, who=(ROOT,))
def set_core_pattern(it: Target) -> str:
    """Choose the program that the kernel starts for a crash (core_pattern); it is only opened."""
    os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)
    return "could"


@way(LANDLOCK, CAPABILITIES, NAMESPACE, seen=CLAIM, who=(ROOT,), off=())
def press_system_key(it: Target) -> str:
    """Restart the machine (/proc/sysrq-trigger); it is only opened. Kernels may lack it."""
    os.open("/proc/sysrq-trigger", os.O_WRONLY)
    return "could"


@way(LANDLOCK, CAPABILITIES, NAMESPACE, seen=CLAIM, who=(ROOT,))
def write_to_sys(it: Target) -> str:
    """Change the kernel's settings in /sys; a file is only opened."""
    os.open("/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY)
    return "could"


# -- memory and messages that outlive a process ----------------------------------------------------------

# With an IPC namespace of its own they would be the training's; the filter forbids them altogether.


@way(SECCOMP, seen=CLAIM)
def shared_memory_segment(it: Target) -> str:
    """Make shared memory of System V, which stays."""
    call("shmctl", call("shmget", 0, 4096, 0o1600), 0, 0)
    return "made"


@way(SECCOMP, seen=CLAIM)
def semaphores(it: Target) -> str:
    """Make semaphores of System V, which stay."""
    call("semctl", call("semget", 0, 1, 0o1600), 0, 0, 0)
    return "made"


@way(SECCOMP, seen=CLAIM)
def message_queue(it: Target) -> str:
    """Make a message queue of System V, which stays."""
    call("msgctl", call("msgget", 0, 0o1600), 0, 0)
    return "made"


@way(SECCOMP, seen=CLAIM, off=())
def posix_message_queue(it: Target) -> str:
    """Make a POSIX message queue, which stays. Kernels may lack them."""
    name = b"/" + it.outside.name.encode()
    call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, 0)
    call("mq_unlink", name)
    return "made"


@way(LANDLOCK, CAPABILITIES, seen=CLAIM, off=())
def make_a_control_group(it: Target) -> str:
    """Make a control group. The machine may keep them read-only."""
    for place in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.isdir(place):
            folder = os.path.join(place, it.outside.name)
            os.mkdir(folder)
            os.rmdir(folder)
            return "made"
    raise FileNotFoundError(errno.ENOENT, "no control groups")
