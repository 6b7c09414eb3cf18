"""Fork servers for models that are built on an optional package, which takes seconds to import.

Every training and every score of such a model would import it again. The server of all trainings does not
have it: it would grow them all, and few may need it. So a package has a server of its own once a second
training needs it, which is sooner than its imports pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nas_agent_graph.launchers.fork_server import ForkServer


class PackageServers:
    """The servers by package. Each is as dispensable as the one of all trainings."""

    def __init__(self, build: Callable[[Sequence[str]], ForkServer], preloaded: Sequence[str]) -> None:
        """`build` returns a server that imports these modules, too; that of all trainings has `preloaded`."""
        self._build, self._preloaded = build, tuple(preloaded)
        self._servers: dict[str, ForkServer | None] = {}
        """None for a package that one training has needed."""

    def for_training(self, command: Sequence[str], package: str | None) -> ForkServer | None:
        """Return a server with the package that can fork this training now; None if there is none."""
        if package is None or package in self._preloaded:
            return None
        if package not in self._servers:
            self._servers[package] = None
            return None
        server = self._servers[package]
        if server is None:
            server = self._servers[package] = self._build((*self._preloaded, package))
        return server if server.can_fork(command) else None

    def __iter__(self) -> Iterator[ForkServer]:
        """Yield the servers, the latest first."""
        return (server for server in reversed(self._servers.values()) if server is not None)

    def close(self) -> None:
        """End them. What they have forked for a training goes on."""
        for server in self:
            server.close()
