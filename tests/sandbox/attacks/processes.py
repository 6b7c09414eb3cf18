"""Ways to look into, change, signal and slow down processes that are not the training's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import time
from pathlib import Path

from attacks.toolbox import (
    CAPABILITIES,
    CLAIM,
    LANDLOCK,
    LANDLOCK_SCOPE,
    NAMESPACE,
    ROOT,
    SECCOMP,
    SECRET,
    STRANGER,
    Target,
    call,
    reaches,
    syscall,
    way,
)

PTRACE_KILL, PTRACE_ATTACH, PTRACE_SEIZE, PTRACE_O_EXITKILL = 8, 16, 0x4206, 1 << 20
_PROCESS_MEMORY = (SECCOMP, NAMESPACE, LANDLOCK_SCOPE)
_IN_PROC = (NAMESPACE, LANDLOCK)
_SECRET_BYTES = len("KEY=canary-0123456789abcdef")
"""Of a stranger's environment. More could reach beyond the end of its memory."""


# -- signals ---------------------------------------------------------------------------------------------


@way(NAMESPACE, LANDLOCK_SCOPE, seen=STRANGER)
def kill(it: Target) -> None:
    """Kill a stranger's process."""
    os.kill(it.pid, signal.SIGKILL)


@way(NAMESPACE, LANDLOCK_SCOPE, seen=STRANGER)
def stop(it: Target) -> None:
    """Stop a stranger's process (SIGSTOP)."""
    os.kill(it.pid, signal.SIGSTOP)


@way(NAMESPACE, LANDLOCK_SCOPE, seen=STRANGER)
def kill_a_group(it: Target) -> None:
    """Kill a stranger's process group."""
    os.killpg(it.pid, signal.SIGKILL)


@way(NAMESPACE, LANDLOCK_SCOPE, seen=STRANGER)
def kill_a_thread(it: Target) -> None:
    """Kill a stranger by tgkill."""
    syscall("tgkill", it.pid, it.pid, signal.SIGKILL)


@way(NAMESPACE, LANDLOCK_SCOPE, SECCOMP, seen=STRANGER)
def queue_a_signal(it: Target) -> None:
    """Kill a stranger by rt_sigqueueinfo."""
    words = struct.pack("iii", signal.SIGKILL, 0, -1).ljust(128, b"\0")
    syscall("rt_sigqueueinfo", it.pid, signal.SIGKILL, words)


@way(NAMESPACE, LANDLOCK_SCOPE, SECCOMP, seen=STRANGER)
def kill_by_pidfd(it: Target) -> None:
    """Kill a stranger by pidfd_send_signal."""
    syscall("pidfd_send_signal", syscall("pidfd_open", it.pid, 0), signal.SIGKILL, 0, 0)


@way(NAMESPACE, LANDLOCK_SCOPE, SECCOMP, seen=STRANGER)
def kill_by_pidfd_of_proc(it: Target) -> None:
    """Kill a stranger by the descriptor of its folder in /proc."""
    folder = os.open(f"/proc/{it.pid}", os.O_RDONLY | os.O_DIRECTORY)
    syscall("pidfd_send_signal", folder, signal.SIGKILL, 0, 0)


@way(NAMESPACE, LANDLOCK_SCOPE, seen=STRANGER)
def kill_by_ownership_of_a_pipe(it: Target) -> None:
    """Let the kernel kill a stranger, as the owner of a pipe with data (F_SETOWN, F_SETSIG)."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(reading, fcntl.F_SETOWN, it.pid)
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writing, b"x")
    time.sleep(0.05)
    raise PermissionError(errno.EPERM, "if the stranger lives; fcntl does not say")


# -- priorities and limits -------------------------------------------------------------------------------


def _set_limit(pid: int, which: int, value: int) -> None:
    resource.prlimit(pid, which, (value, resource.prlimit(pid, which)[1]))


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def limit_processor_time(it: Target) -> None:
    """Set a stranger's limit on processor time to nothing (prlimit)."""
    _set_limit(it.pid, resource.RLIMIT_CPU, 0)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def limit_file_size(it: Target) -> None:
    """Set a stranger's limit on the size of files to nothing (prlimit)."""
    _set_limit(it.pid, resource.RLIMIT_FSIZE, 0)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def limit_descriptors(it: Target) -> None:
    """Set a stranger's limit on open files to nothing (prlimit)."""
    _set_limit(it.pid, resource.RLIMIT_NOFILE, 0)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def lower_priority(it: Target) -> None:
    """Lower a stranger's priority (setpriority)."""
    os.setpriority(os.PRIO_PROCESS, it.pid, 19)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def lower_priority_of_a_group(it: Target) -> None:
    """Lower the priority of a stranger's process group (setpriority)."""
    os.setpriority(os.PRIO_PGRP, it.pid, 19)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def change_scheduler(it: Target) -> None:
    """Let a stranger run only when nobody else does (sched_setscheduler)."""
    os.sched_setscheduler(it.pid, os.SCHED_IDLE, os.sched_param(0))


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def change_scheduler_by_new_call(it: Target) -> None:
    """Make a stranger a batch job of low priority (sched_setattr)."""
    words = struct.pack("IIQiIQQQ", 48, os.SCHED_BATCH, 0, 10, 0, 0, 0, 0)
    syscall("sched_setattr", it.pid, words, 0)


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def bind_to_a_processor(it: Target) -> None:
    """Bind a stranger to one processor (sched_setaffinity)."""
    os.sched_setaffinity(it.pid, {min(os.sched_getaffinity(0))})


@way(SECCOMP, NAMESPACE, seen=STRANGER)
def lower_disk_priority(it: Target) -> None:
    """Lower a stranger's priority at the disk (ioprio_set)."""
    syscall("ioprio_set", 1, it.pid, 3 << 13)


@way(*_IN_PROC, seen=STRANGER)
def mark_for_out_of_memory(it: Target) -> None:
    """Let the kernel kill a stranger first when memory runs out (oom_score_adj)."""
    Path(f"/proc/{it.pid}/oom_score_adj").write_text("1000")


@way(*_IN_PROC, seen=STRANGER)
def rename_a_thread(it: Target) -> None:
    """Write to a file of a stranger in /proc (its core dump filter)."""
    Path(f"/proc/{it.pid}/coredump_filter").write_text("0")


# -- memory and descriptors ------------------------------------------------------------------------------


@way(*_PROCESS_MEMORY, seen=STRANGER)
def trace(it: Target) -> None:
    """Take a stranger as traced child and let it die with the tracer (PTRACE_SEIZE)."""
    call("ptrace", PTRACE_SEIZE, it.pid, 0, PTRACE_O_EXITKILL)


@way(*_PROCESS_MEMORY, seen=STRANGER)
def trace_and_kill(it: Target) -> None:
    """Attach to a stranger and kill it (PTRACE_ATTACH, PTRACE_KILL)."""
    call("ptrace", PTRACE_ATTACH, it.pid, 0, 0)
    os.waitpid(it.pid, 0)
    call("ptrace", PTRACE_KILL, it.pid, 0, 0)


@way(SECCOMP, seen=CLAIM)
def trace_own_child(it: Target) -> str:
    """Trace at all, be it a child of the own."""
    child = os.fork()
    if child == 0:
        time.sleep(2)
        os._exit(0)
    try:
        call("ptrace", PTRACE_SEIZE, child, 0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return "traced"


def _buffer(content: bytes, at: int) -> tuple[ctypes.Array[ctypes.c_char], bytes, bytes]:
    own = ctypes.create_string_buffer(content, len(content))
    here = struct.pack("QQ", ctypes.addressof(own), len(content))
    return own, here, struct.pack("QQ", at, len(content))


@way(*_PROCESS_MEMORY, seen=SECRET)
def read_memory(it: Target) -> bytes:
    """Read a stranger's memory (process_vm_readv)."""
    own, here, there = _buffer(bytes(_SECRET_BYTES), it.environment_at)
    call("process_vm_readv", it.pid, here, 1, there, 1, 0)
    return own.raw


@way(*_PROCESS_MEMORY, seen=STRANGER)
def write_memory(it: Target) -> None:
    """Write into a stranger's memory (process_vm_writev)."""
    _, here, there = _buffer(b"PLANTED", it.environment_at)
    call("process_vm_writev", it.pid, here, 1, there, 1, 0)


@way(*_IN_PROC, seen=SECRET)
def read_memory_in_proc(it: Target) -> bytes:
    """Read a stranger's memory in /proc."""
    return os.pread(os.open(f"/proc/{it.pid}/mem", os.O_RDONLY), _SECRET_BYTES, it.environment_at)


@way(*_IN_PROC, seen=STRANGER)
def write_memory_in_proc(it: Target) -> None:
    """Write into a stranger's memory in /proc."""
    os.pwrite(os.open(f"/proc/{it.pid}/mem", os.O_WRONLY), b"PLANTED", it.environment_at)


@way(*_IN_PROC, seen=SECRET)
def read_environment(it: Target) -> bytes:
    """Read a stranger's environment."""
    return Path(f"/proc/{it.pid}/environ").read_bytes()


@way(*_IN_PROC, seen=SECRET)
def read_command_line(it: Target) -> bytes:
    """Read a stranger's command line."""
    return Path(f"/proc/{it.pid}/cmdline").read_bytes()


@way(*_IN_PROC, seen=SECRET)
def read_open_file(it: Target) -> bytes:
    """Open the file that a stranger has open."""
    return Path(f"/proc/{it.pid}/fd/0").read_bytes()


@way(*_IN_PROC, seen=SECRET)
def read_through_working_folder(it: Target) -> bytes:
    """Read through the working folder of a stranger."""
    return Path(f"/proc/{it.pid}/cwd/secret").read_bytes()


@way(*_IN_PROC, seen=SECRET)
def read_through_root(it: Target) -> bytes:
    """Read through the root folder of a stranger."""
    return Path(f"/proc/{it.pid}/root{it.secret}").read_bytes()


@way(*_IN_PROC, seen=CLAIM)
def read_memory_map(it: Target) -> str:
    """Read where a stranger's memory lies."""
    return f"{len(Path(f'/proc/{it.pid}/maps').read_bytes())} bytes"


@way(*_IN_PROC, seen=CLAIM)
def read_status(it: Target) -> str:
    """Read the status of a stranger."""
    return f"{len(Path(f'/proc/{it.pid}/status').read_bytes())} bytes"


@way(*_IN_PROC, seen=CLAIM)
def list_processes(it: Target) -> str:
    """See that there is a stranger's process."""
    if str(it.pid) not in os.listdir("/proc"):
        raise FileNotFoundError(errno.ENOENT, "not there")
    return "seen"


@way(SECCOMP, NAMESPACE, seen=SECRET)
def take_a_descriptor(it: Target) -> bytes:
    """Take an open file out of a stranger (pidfd_getfd)."""
    taken = syscall("pidfd_getfd", syscall("pidfd_open", it.pid, 0), 0, 0)
    return os.pread(taken, 4096, 0)


@way(SECCOMP, NAMESPACE, LANDLOCK, seen=CLAIM, off=(ROOT,))
def advise_memory(it: Target) -> str:
    """Drop a stranger's memory to the swap (process_madvise)."""
    pidfd = syscall("pidfd_open", it.pid, 0)
    words = struct.pack("QQ", it.environment_at & ~4095, 4096)
    syscall("process_madvise", pidfd, words, 1, 20, 0)  # MADV_COLD
    return "advised"


@way(SECCOMP, NAMESPACE, LANDLOCK_SCOPE, seen=CLAIM)
def move_memory(it: Target) -> str:
    """Ask where a stranger's pages are, to move them (move_pages)."""
    page = struct.pack("Q", it.environment_at & ~4095)
    syscall("move_pages", it.pid, 1, page, 0, ctypes.create_string_buffer(8), 0)
    return "asked"


@way(SECCOMP, NAMESPACE, LANDLOCK_SCOPE, CAPABILITIES, seen=CLAIM)
def compare_descriptors(it: Target) -> str:
    """Compare kernel objects with a stranger's (kcmp)."""
    syscall("kcmp", os.getpid(), it.pid, 1, 0, 0)
    return "compared"


@way(SECCOMP, NAMESPACE, LANDLOCK_SCOPE, seen=CLAIM)
def read_robust_list(it: Target) -> str:
    """Read an address in a stranger (get_robust_list)."""
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    syscall("get_robust_list", it.pid, ctypes.byref(head), ctypes.byref(size))
    return "read"


@way(SECCOMP, NAMESPACE, LANDLOCK, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def enter_namespaces(it: Target) -> str:
    """Enter a stranger's namespaces (setns)."""
    call("setns", os.open(f"/proc/{it.pid}/ns/uts", os.O_RDONLY), 0)
    return "entered"


@way(SECCOMP, NAMESPACE, LANDLOCK, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def enter_namespaces_by_pidfd(it: Target) -> str:
    """Enter a stranger's namespaces by a pidfd (setns)."""
    call("setns", syscall("pidfd_open", it.pid, 0), 0x04000000)
    return "entered"


@way(SECCOMP, CAPABILITIES, NAMESPACE, seen=CLAIM, who=(ROOT,))
def measure(it: Target) -> str:
    """Count what a stranger does (perf_event_open)."""
    attributes = struct.pack("IIQ", 1, 128, 0).ljust(128, b"\0")
    syscall("perf_event_open", attributes, it.pid, -1, -1, 0)
    return "counting"


@way(SECCOMP, CAPABILITIES, seen=CLAIM, off=(ROOT,))
def measure_itself(it: Target) -> str:
    """Count at all (perf_event_open)."""
    attributes = struct.pack("IIQ", 1, 128, 0).ljust(128, b"\0")
    return reaches("perf_event_open", attributes, 0, -1, -1, 0)
