"""Ways that hit every process of the user at once. Not for root, whose processes are the machine's."""

from __future__ import annotations

import os

from attacks.toolbox import NAMESPACE, SECCOMP, STRANGER, USER, Target, syscall, way


@way(SECCOMP, NAMESPACE, seen=STRANGER, who=(USER,))
def lower_priority_of_a_user(it: Target) -> None:
    """Lower the priority of all processes of the user (setpriority)."""
    os.setpriority(os.PRIO_USER, os.getuid(), 1)


@way(SECCOMP, NAMESPACE, seen=STRANGER, who=(USER,))
def lower_disk_priority_of_a_user(it: Target) -> None:
    """Lower the priority of all processes of the user at the disk (ioprio_set)."""
    syscall("ioprio_set", 3, os.getuid(), 3 << 13)
