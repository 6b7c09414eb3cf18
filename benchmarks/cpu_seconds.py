"""Where the CPU-seconds of a search go: the agent, its fork server, its pictures, the modules it calls.

A process that has ended is known to its parent only, and only once that has waited for it. So what is sampled
(ten times a second) are the agent and its own children; each holds what its children used. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.1


class Used(NamedTuple):
    """CPU-seconds of one process, user and system together."""

    own: float
    children: float
    """Of those that it has waited for, and that they have."""


def used_by(pid: int) -> Used:
    """Read what a process has used. Raises OSError once it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) * _TICK_S for field in fields[11:15])
    return Used(user + system, children_user + children_system)


class ProcessWatch:
    """Samples an agent and its children until it is closed."""

    def __init__(self, agent: int) -> None:
        self._agent = agent
        self._used: dict[tuple[str, int], Used] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> dict[str, Used]:
        """Stop and return what the agent (`agent`) and each kind of its children have used, by module."""
        self._closing.set()
        self._thread.join()
        total: dict[str, Used] = defaultdict(lambda: Used(0.0, 0.0))
        for (kind, _), used in self._used.items():
            total[kind] = Used(total[kind].own + used.own, total[kind].children + used.children)
        return dict(total)

    def _watch(self) -> None:
        while not self._closing.wait(_SAMPLE_S):
            with contextlib.suppress(OSError):
                self._used["agent", self._agent] = used_by(self._agent)
                for task in Path(f"/proc/{self._agent}/task").iterdir():
                    for child in (task / "children").read_text().split():
                        self._sample(int(child))

    def _sample(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if "-m" in arguments:  # else it has not started its program yet
                self._used[arguments[arguments.index("-m") + 1].rpartition(".")[2], pid] = used_by(pid)
