"""Ways to send something to anybody, or to be reached."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from attacks.toolbox import (
    ABSTRACT,
    CAPABILITIES,
    CARE,
    CLAIM,
    DATAGRAM,
    LANDLOCK,
    LANDLOCK_SCOPE,
    LIBC,
    NAMESPACE,
    ON_X86,
    ROOT,
    SECCOMP,
    SECRET,
    SEQPACKET,
    STREAM,
    TCP,
    TCP6,
    UDP,
    USER,
    Layer,
    Target,
    call_as_32_bit,
    checked,
    way,
)

MESSAGE = b"out"
CONNECTED = Layer("the kernel", errno.EISCONN, errno.EINVAL)
MPTCP, SCTP, UDPLITE = 262, 132, 136


def _connect(family: int, kind: int, address: object, protocol: int = 0) -> None:
    with socket.socket(family, kind, protocol) as one:
        one.settimeout(5)
        one.connect(address)  # type: ignore[arg-type]
        one.send(MESSAGE)


@way(SECCOMP, LANDLOCK, seen=TCP)
def connect_by_tcp(it: Target) -> None:
    """Connect by TCP."""
    _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", it.port))


@way(SECCOMP, LANDLOCK, seen=TCP6)
def connect_by_ipv6(it: Target) -> None:
    """Connect by TCP over IPv6."""
    _connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", it.port))


@way(SECCOMP, LANDLOCK, seen=TCP)
def connect_by_fast_open(it: Target) -> None:
    """Connect by sending (TCP Fast Open)."""
    with socket.socket() as one:
        one.sendto(MESSAGE, socket.MSG_FASTOPEN, ("127.0.0.1", it.port))


@way(SECCOMP, LANDLOCK, seen=TCP)
def connect_without_waiting(it: Target) -> None:
    """Connect by TCP without waiting for it."""
    with socket.socket() as one:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", it.port))


@way(SECCOMP, LANDLOCK, seen=TCP)
def connect_by_mptcp(it: Target) -> None:
    """Connect by Multipath TCP."""
    _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", it.port), MPTCP)


@way(SECCOMP, seen=UDP)
def send_by_udp(it: Target) -> None:
    """Send by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(MESSAGE, ("127.0.0.1", it.port))


@way(SECCOMP, seen=UDP)
def send_by_udp_ipv6(it: Target) -> None:
    """Send by UDP to an IPv4 address in an IPv6 socket."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.sendto(MESSAGE, ("::ffff:127.0.0.1", it.port))


@way(SECCOMP, LANDLOCK, NAMESPACE, seen=STREAM)
def connect_to_a_socket_file(it: Target) -> None:
    """Connect to the socket of another program, as that of Docker."""
    _connect(socket.AF_UNIX, socket.SOCK_STREAM, it.socket)


@way(SECCOMP, LANDLOCK, NAMESPACE, seen=DATAGRAM)
def send_to_a_socket_file(it: Target) -> None:
    """Send to the socket of another program, as that of the system's log."""
    _connect(socket.AF_UNIX, socket.SOCK_DGRAM, it.socket)


@way(SECCOMP, LANDLOCK, NAMESPACE, seen=SEQPACKET)
def connect_by_seqpacket(it: Target) -> None:
    """Connect to a socket of sequenced packets."""
    _connect(socket.AF_UNIX, socket.SOCK_SEQPACKET, it.socket)


@way(SECCOMP, LANDLOCK_SCOPE, seen=ABSTRACT)
def connect_to_an_abstract_socket(it: Target) -> None:
    """Connect to a socket without a file, as that of D-Bus."""
    _connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + it.socket)


@way(SECCOMP, seen=DATAGRAM)
def send_through_a_socket_pair(it: Target) -> None:
    """Send to another program's socket through a socket pair, which is allowed."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(MESSAGE, it.socket)


@way(SECCOMP, LANDLOCK, seen=DATAGRAM)
def send_message_through_a_socket_pair(it: Target) -> None:
    """Send to another program's socket through a socket pair by sendmsg, whose address no filter can read."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendmsg([MESSAGE], [], 0, it.socket)


@way(SECCOMP, LANDLOCK, seen=DATAGRAM)
def connect_a_socket_pair(it: Target) -> None:
    """Connect one end of a socket pair to another program's socket."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.connect(it.socket)
    one.send(MESSAGE)


@way(SECCOMP, CONNECTED, seen=STREAM, off=())
def connect_a_pair_of_streams(it: Target) -> None:
    """Connect one end of a pair of streams, which no kernel allows, to another program's socket."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.connect(it.socket)
    one.send(MESSAGE)


@way(SECCOMP, LANDLOCK, NAMESPACE, seen=SECRET)
def receive_a_descriptor(it: Target) -> bytes:
    """Receive an open file from another program (SCM_RIGHTS)."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(it.extra["giver"])
        _, descriptors, _, _ = socket.recv_fds(one, 1, 1)
        return os.pread(descriptors[0], 4096, 0)


@way(SECCOMP, LANDLOCK, seen=CLAIM)
def listen(it: Target) -> str:
    """Listen on a TCP port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
    return "listening"


@way(SECCOMP, LANDLOCK, seen=CLAIM)
def listen_without_bind(it: Target) -> str:
    """Listen without binding: the kernel chooses a port."""
    with socket.socket() as one:
        one.listen()
    return "listening"


@way(SECCOMP, LANDLOCK, seen=CLAIM)
def listen_by_mptcp(it: Target) -> str:
    """Listen by Multipath TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP) as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
    return "listening"


@way(SECCOMP, seen=CLAIM)
def bind_by_udp(it: Target) -> str:
    """Receive by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
    return "bound"


def _open(family: int, kind: int, protocol: int = 0) -> str:
    socket.socket(family, kind, protocol).close()
    return "a socket"


# Nobody has to get through with the sandbox off where the kernel may lack the family.


@way(SECCOMP, seen=CLAIM, off=())
def open_sctp(it: Target) -> str:
    """Open an SCTP socket."""
    return _open(socket.AF_INET, socket.SOCK_STREAM, SCTP)


@way(SECCOMP, seen=CLAIM, off=())
def open_udplite(it: Target) -> str:
    """Open a UDP-Lite socket."""
    return _open(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def open_raw(it: Target) -> str:
    """Open a raw socket."""
    return _open(socket.AF_INET, socket.SOCK_RAW, 1)


@way(SECCOMP, seen=CLAIM, off=())
def open_ping(it: Target) -> str:
    """Open a socket for echo requests."""
    return _open(socket.AF_INET, socket.SOCK_DGRAM, 1)


@way(SECCOMP, seen=CLAIM)
def open_netlink(it: Target) -> str:
    """Open a socket to the kernel's network configuration (netlink)."""
    return _open(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@way(SECCOMP, CAPABILITIES, seen=CLAIM, who=(ROOT,))
def open_packet(it: Target) -> str:
    """Open a socket that sees all packets."""
    return _open(17, socket.SOCK_RAW, 0x0300)


@way(SECCOMP, seen=CLAIM)
def open_vsock(it: Target) -> str:
    """Open a socket to the host of a virtual machine."""
    return _open(40, socket.SOCK_STREAM)


@way(SECCOMP, seen=CLAIM, off=())
def open_kernel_crypto(it: Target) -> str:
    """Open a socket to the kernel's cryptography (AF_ALG)."""
    return _open(38, socket.SOCK_SEQPACKET)


@way(SECCOMP, seen=CLAIM)
def open_unix(it: Target) -> str:
    """Open a Unix socket."""
    return _open(socket.AF_UNIX, socket.SOCK_STREAM)


@way(SECCOMP, seen=CLAIM, off=(), who=(ROOT, USER) if ON_X86 else ())
def open_by_32_bit_call(it: Target) -> str:
    """Open a socket by the system call of a 32-bit program."""
    call_as_32_bit(359, b"", socket.AF_INET, socket.SOCK_DGRAM, 0)
    return "a socket"


@way(SECCOMP, seen=CLAIM, off=(), who=(ROOT, USER) if ON_X86 else ())
def open_by_x32_call(it: Target) -> str:
    """Open a socket by the system call of an x32 program."""
    checked(LIBC.syscall(0x40000000 + 41, socket.AF_INET, socket.SOCK_DGRAM, 0))
    return "a socket"


@way(CARE, seen=CLAIM, off=())
def inherited_descriptors(it: Target) -> str:
    """Use a descriptor that was left open: the lock of the run, or any other."""
    found = []
    for number in range(3, 1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    if not found:
        raise OSError(errno.EBADF, "none is open")
    return str(found)
