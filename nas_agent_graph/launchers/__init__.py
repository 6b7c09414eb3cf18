"""Where trainings run. One file each; `LAUNCHERS` is the registry. Every launcher runs the same supervisor.

No other part of the agent starts processes. Importing this module imports no launcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nas_system.errors import ConfigError

if TYPE_CHECKING:
    from nas_agent_graph.context import SearchLauncher


def _local(sandbox: str | None) -> SearchLauncher:
    from nas_agent_graph.launchers.local import LocalLauncher

    return LocalLauncher(sandbox=sandbox)


LAUNCHERS: dict[str, Callable[[str | None], SearchLauncher]] = {"local": _local}
"""Launchers by the name that `--launcher` takes."""
DEFAULT = "local"


def build_launcher(name: str, sandbox: str | None = None) -> SearchLauncher:
    """Build the launcher called `name`; `sandbox` is a mode, by default what the environment says.

    Raises ConfigError, naming the choices, if there is no such launcher.
    """
    if name not in LAUNCHERS:
        raise ConfigError(f"--launcher {name!r} is not known; choose from: {', '.join(LAUNCHERS)}")
    return LAUNCHERS[name](sandbox)
