"""Where trainings run. One file each; `LAUNCHERS` is the registry. Every launcher runs the same supervisor.

No other part of the agent starts processes. Importing this module imports no launcher.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.errors import ConfigError

if TYPE_CHECKING:
    from nas_agent_graph.context import SearchLauncher
    from nas_agent_graph.launchers.engine import Engine


def _print(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class LauncherOptions:
    """What a person says about where trainings run."""

    sandbox: str | None = None
    """A mode, by default what the environment says."""
    workspace: Path = Path()
    """Folder of the search, which all nodes of a cluster see."""
    threads: int = 1
    """CPU threads of a training, and CPUs of its job."""
    estimates_memory: bool = False
    """Whether a cluster's job asks for the memory that its training is estimated to hold."""
    gpus: float = 0.0
    """Of a job on Ray; on Slurm a person's own flags say it."""
    slurm: str = ""
    """Flags for sbatch."""
    ray_address: str | None = None
    say: Callable[[str], None] = _print
    """Called with notes for people."""


def launcher_options(arguments: argparse.Namespace, say: Callable[[str], None] = _print) -> LauncherOptions:
    """Return what the command line says. Raises ConfigError for a flag of a launcher that was not chosen."""
    for flag, name in (("slurm", "slurm"), ("ray_address", "ray")):
        if getattr(arguments, flag) and arguments.launcher != name:
            given = flag.replace("_", "-")
            raise ConfigError(f"--{given} is for --launcher {name}; leave it out, or add that")
    if arguments.launcher == "slurm" and arguments.gpus_per_run != 1.0:
        raise ConfigError(
            "--gpus-per-run: what a job gets on Slurm is said with --slurm, such as --gres=shard:1"
        )
    threads = arguments.threads
    return LauncherOptions(
        sandbox=arguments.sandbox,
        workspace=arguments.workspace.expanduser().absolute(),
        threads=int(threads) if threads is not None and threads.isdecimal() else 1,
        gpus=arguments.gpus_per_run if arguments.device.startswith("cuda") else 0.0,
        slurm=arguments.slurm,
        ray_address=arguments.ray_address,
        say=say,
    )


def _local(options: LauncherOptions) -> SearchLauncher:
    from nas_agent_graph.launchers.local import LocalLauncher

    return LocalLauncher(sandbox=options.sandbox)


def _slurm(options: LauncherOptions) -> SearchLauncher:
    from nas_agent_graph.launchers.slurm import Slurm

    return _cluster(Slurm(options.slurm, cpus=options.threads), options)


def _ray(options: LauncherOptions) -> SearchLauncher:
    from nas_agent_graph.launchers.ray_jobs import RayJobs

    return _cluster(RayJobs(options.ray_address, cpus=options.threads, gpus=options.gpus), options)


def _cluster(engine: Engine, options: LauncherOptions) -> SearchLauncher:
    from nas_agent_graph.launchers.cluster import ClusterLauncher

    return ClusterLauncher(
        engine,
        _local(options),
        workspace=options.workspace,
        say=options.say,
        sandbox=options.sandbox,
        estimates_memory=options.estimates_memory,
    )


LAUNCHERS: dict[str, Callable[[LauncherOptions], SearchLauncher]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
}
"""Launchers by the name that `--launcher` takes."""
DEFAULT = "local"


def build_launcher(name: str, options: LauncherOptions | None = None) -> SearchLauncher:
    """Build the launcher called `name`.

    Raises ConfigError, naming the choices, if there is no such launcher, and for options that it cannot mean.
    """
    if name not in LAUNCHERS:
        raise ConfigError(f"--launcher {name!r} is not known; choose from: {', '.join(LAUNCHERS)}")
    return LAUNCHERS[name](options or LauncherOptions())
