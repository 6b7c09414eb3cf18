"""Which system calls are refused: a seccomp filter, Linux 3.17 and later, on x86-64 and arm64.

Landlock decides about files by their place. It says nothing about networks other than TCP, about other
processes' limits and priorities, or about a file's mode, owner and times. A filter sees numbers, not
paths, so these calls are refused wherever they point. A training needs none of them. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Mapping, Sequence

from nas_system.processes.sandbox.system_calls import last_error, libc

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
# struct seccomp_data: the number, the architecture, the instruction pointer, six arguments of 8 bytes.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
"""The second set of numbers of an x86-64 kernel begins here."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* by `platform.machine()`."""

_NAMESPACES = 0x7E020080
"""CLONE_NEW*: time, mounts, control groups, host name, IPC, users, pids, network."""
_REFUSED_CONTROLS = (0x5412, 0x541C)
"""Of terminals: TIOCSTI types into one, TIOCLINUX pastes."""
_REFUSED_CONTROL_KINDS = (0x5800, 0x6600, 0x7600, 0x9400)
"""Of files: flags, attributes, versions, verity, clones, subvolumes (X, f, v and btrfs)."""
_REFUSED_FILE_COMMANDS = (1024, 1026)
"""F_SETLEASE keeps everybody else waiting for a file, F_NOTIFY watches a folder."""
_PR_SET_DUMPABLE = 4
"""A process that sets it to 0 cannot be measured by others of its user."""
_SHARED_NAMELESS = 0x21
"""MAP_SHARED | MAP_ANONYMOUS: what is written and then given up still takes memory, which nobody shows."""

NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    # Networks, and all else that is reached through a socket: the name service, audit, Bluetooth, crypto.
    "socket": (41, 198),
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "setsockopt": (54, 208),
    # Of a descriptor on its way from socket to socket nobody can tell how much memory or disk it holds.
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # Other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "perf_event_open": (298, 241),
    # Asynchronous input and output does what the calls do that are refused here.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Mounts and namespaces.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Keys, programs in the kernel, faults served by a program, events of other people's files.
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "open_by_handle_at": (304, 265),
    # Modes, owners, attributes and times: the owner of a file may change them without opening it.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    # Memory and messages that outlive a process, also those of others, whose numbers can be guessed.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Requests of which the machine allows only so many.
    "io_setup": (206, 0),
    "memfd_secret": (447, 447),
    # The machine.
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "vhangup": (153, 58),
    "personality": (135, 92),
}
"""Calls that are refused with any arguments, by their numbers on x86-64 and arm64."""

_SOCKETPAIR = (53, 199)
_CLONE, _CLONE3, _IOCTL, _FCNTL, _PRCTL = (56, 220), (435, 435), (16, 29), (72, 25), (157, 167)
_MMAP, _MEMFD_CREATE = (9, 222), (319, 279)
_OF_OWN_PROCESS_ONLY = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
"""Calls whose first argument is a process, 0 for the calling one."""
_SETPRIORITY, _IOPRIO_SET = (141, 140), (251, 30)

_SOCKET_KIND = 0xF
"""The kind among the flags of a socket: 1 a stream, 5 packets in sequence, each with its one other end."""

_Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


_CONNECTED: tuple[_Instruction, ...] = (
    (_AND, 0, 0, _SOCKET_KIND),
    (_EQUAL, 2, 0, 1),
    (_EQUAL, 1, 0, 5),
    (_RETURN, 0, 0, _REFUSE | errno.EPERM),
)
"""Refuse unless the loaded kind of socket is one of the two."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def is_supported() -> bool:
    """Return whether the numbers of this machine's system calls are known."""
    return platform.machine() in ARCHITECTURES


def refuse_calls(*, with_accelerators: bool) -> None:
    """Refuse the calls above to the calling process and all it starts, for good. Needs no_new_privs.

    Only to drivers of accelerators (`with_accelerators`) is memory without a name open. Raises OSError if
    the kernel cannot filter.
    """
    program_lines = _filter(platform.machine(), with_accelerators)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program_lines)
    program = _Program(len(code) // 8, code)
    if libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise last_error()


def _filter(machine: str, with_accelerators: bool) -> list[_Instruction]:
    """Return the filter's instructions; numbers that are not named go through."""
    column = list(ARCHITECTURES).index(machine)
    blocks: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _refused(errno.EPERM),  # a program of 32 bits, whose numbers mean other calls
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        blocks += [(_AT_LEAST, 0, 1, _X32), _refused(errno.EPERM)]
    for numbers in NUMBERS.values():
        blocks += _on(numbers[column], [_refused(errno.EPERM)])
    for numbers in _OF_OWN_PROCESS_ONLY.values():
        blocks += _on(numbers[column], _unless_equal((0, 0)))
    # The kind of target: 0 or 1 for a process, then which, 0 for the calling one.
    blocks += _on(_SETPRIORITY[column], _unless_equal((0, 0), (1, 0)))
    blocks += _on(_IOPRIO_SET[column], _unless_equal((0, 1), (1, 0)))
    # Of Unix sockets only those of a connection: with a datagram socket one can write to any other.
    blocks += _on(_SOCKETPAIR[column], [*_unless_equal((0, 1)), _argument(1), *_CONNECTED])
    blocks += _on(_CLONE[column], [_argument(0), (_ANY_BIT, 0, 1, _NAMESPACES), _refused(errno.EPERM)])
    # Its flags lie in memory, where a filter cannot look. The C library falls back on clone.
    blocks += _on(_CLONE3[column], [_refused(errno.ENOSYS)])
    kinds = [(_AND, 0, 0, 0xFF00), *_if_any_of(_REFUSED_CONTROL_KINDS)]
    blocks += _on(_IOCTL[column], [_argument(1), *_if_any_of(_REFUSED_CONTROLS), *kinds])
    blocks += _on(_FCNTL[column], [_argument(1), *_if_any_of(_REFUSED_FILE_COMMANDS)])
    blocks += _on(_PRCTL[column], [_argument(0), *_if_any_of([_PR_SET_DUMPABLE])])
    if not with_accelerators:
        nameless = [_argument(3), (_AND, 0, 0, _SHARED_NAMELESS), *_if_any_of([_SHARED_NAMELESS])]
        blocks += _on(_MMAP[column], nameless)
        blocks += _on(_MEMFD_CREATE[column], [_refused(errno.ENOSYS)])
    return [*blocks, (_RETURN, 0, 0, _ALLOW)]


def _on(number: int | None, block: Sequence[_Instruction]) -> list[_Instruction]:
    """Run `block` for this call only; a call that passes it is allowed."""
    if number is None:
        return []
    body = [*block, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


def _unless_equal(*wanted: tuple[int, int]) -> list[_Instruction]:
    """Refuse unless every argument (its index, its value) is as given."""
    block: list[_Instruction] = []
    for index, value in wanted:
        block += [_argument(index), (_EQUAL, 1, 0, value), _refused(errno.EPERM)]
    return block


def _if_any_of(values: Iterable[int]) -> list[_Instruction]:
    """Refuse if the loaded argument is one of these."""
    return [line for value in values for line in ((_EQUAL, 0, 1, value), _refused(errno.EPERM))]


def _argument(index: int) -> _Instruction:
    """Load the lower half of an argument: the kernel, too, takes 32 bits of processes and flags."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _refused(error: int) -> _Instruction:
    return (_RETURN, 0, 0, _REFUSE | error)
