"""An environment in which the sandbox could fail: it holds there too, or the training is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack_runs import PROJECT, Identity, Outcome, outcomes_of, run_ways, supervise
from attack_world import World
from attacks.toolbox import CARE, WAYS

TRIED = (
    "overwrite",
    "write_in_home",
    "write_to_shared_temporary_folder",
    "read_private_key",
    "read_notes",
    "read_key_of_the_agent",
    "list_home",
    "connect_by_tcp",
)
"""One attack of every kind."""
SOMEBODY_ELSE = 65532
Changes = dict[str, Any]
FAULTS: dict[str, Callable[[World, Identity], Changes]] = {}


def fault(make: Callable[[World, Identity], Changes]) -> Callable[[World, Identity], Changes]:
    """Make a function a fault; it returns what is changed: `environment` (added to it), `without`, `cwd`."""
    FAULTS[make.__name__] = make
    return make


def title_of(name: str) -> str:
    """Return the first line of a fault's description."""
    return (FAULTS[name].__doc__ or "").strip().splitlines()[0].rstrip(".")


@fault
def temporary_folder_missing(world: World, identity: Identity) -> Changes:
    """Name a temporary folder that does not exist."""
    return {"environment": {"TMPDIR": str(world.base / "nowhere")}}


@fault
def temporary_folder_read_only(world: World, identity: Identity) -> Changes:
    """Name a temporary folder in which nobody can write."""
    return {"environment": {"TMPDIR": "/proc"}}


@fault
def temporary_folder_relative(world: World, identity: Identity) -> Changes:
    """Name a temporary folder by a relative path."""
    return {"environment": {"TMPDIR": "."}, "cwd": world.home}


@fault
def temporary_folder_is_home(world: World, identity: Identity) -> Changes:
    """Name the home folder as temporary folder."""
    return {"environment": {"TMPDIR": str(world.home)}}


@fault
def temporary_folder_taken(world: World, identity: Identity) -> Changes:
    """Let somebody else have the run's temporary folder first."""
    code = "import tempfile; print(tempfile.gettempdir())"
    environment = {"HOME": str(world.home)}
    command = [identity.python, "-I", "-S", "-c", code]
    ended = supervise(world.run_dir, command, identity, environment=environment)
    folder = Path(ended.log.strip())
    if world.run_dir in folder.parents:  # where nobody else can make anything
        return {}
    folder.mkdir()
    world.remove_later(folder)
    if os.getuid() == 0:
        os.chown(folder, SOMEBODY_ELSE, SOMEBODY_ELSE)
    (folder / "planted").write_text("planted")
    return {}


@fault
def home_unset(world: World, identity: Identity) -> Changes:
    """Name no home folder."""
    return {"without": ("HOME",)}


@fault
def home_relative(world: World, identity: Identity) -> Changes:
    """Name the home folder by a relative path."""
    return {"environment": {"HOME": "."}, "cwd": world.home}


@fault
def home_missing(world: World, identity: Identity) -> Changes:
    """Name a home folder that does not exist."""
    return {"environment": {"HOME": str(world.base / "nowhere")}}


@fault
def home_is_root(world: World, identity: Identity) -> Changes:
    """Name the root folder as home folder."""
    return {"environment": {"HOME": "/"}}


@fault
def home_is_a_link(world: World, identity: Identity) -> Changes:
    """Name the home folder by a link to it."""
    link = world.base / "link_to_home"
    link.symlink_to(world.home)
    return {"environment": {"HOME": str(link)}}


@fault
def cache_is_home(world: World, identity: Identity) -> Changes:
    """Name the home folder as the folder of caches."""
    return {"environment": {"XDG_CACHE_HOME": str(world.home), "XDG_CONFIG_HOME": str(world.home)}}


@fault
def library_caches_are_home(world: World, identity: Identity) -> Changes:
    """Name the home folder as the folder of every library's cache."""
    names = ("TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "MPLCONFIGDIR")
    return {"environment": dict.fromkeys(names, str(world.home))}


@fault
def modules_in_home(world: World, identity: Identity) -> Changes:
    """Look for Python modules in the home folder."""
    return {"environment": {"PYTHONPATH": f"{PROJECT}:{world.home}"}}


@fault
def libraries_in_home(world: World, identity: Identity) -> Changes:
    """Look for shared libraries in the home folder."""
    return {"environment": {"LD_LIBRARY_PATH": str(world.home)}}


@fault
def started_in_home(world: World, identity: Identity) -> Changes:
    """Start in the home folder, which Python then looks for modules in."""
    return {"cwd": world.home}


@fault
def empty_name_among_modules(world: World, identity: Identity) -> Changes:
    """Start in the home folder with an empty name in the list of module folders."""
    return {"environment": {"PYTHONPATH": f"{PROJECT}:"}, "cwd": world.home}


@fault
def started_in_the_workspace(world: World, identity: Identity) -> Changes:
    """Start in the workspace, as the agent does."""
    return {"cwd": world.base / "workspace"}


def measure_fault(name: str, identity: Identity) -> Outcome:
    """Try one attack of every kind in the sandbox under a fault; return whether one of them succeeded."""
    with World(identity.uid) as world:
        ways = [WAYS[way] for way in TRIED]
        world.victims(ways)
        changes = FAULTS[name](world, identity)
        environment = {"HOME": str(world.home), **changes.get("environment", {})}
        for variable in changes.get("without", ()):
            del environment[variable]
        ended = run_ways(
            world,
            ways,
            identity,
            sandboxed=True,
            environment=environment,
            cwd=changes.get("cwd", "/"),
            attempt=9,  # whichever has been made by the fault
        )
        if ended.code != 0 or ended.record is None or ended.record["ended"] == "cannot_start":
            return Outcome(False, CARE.name, "refused")
        outcomes = outcomes_of(world, ways, ended)
        succeeded = [way for way, outcome in outcomes.items() if outcome.open]
        if succeeded:
            return Outcome(True, None, ", ".join(succeeded))
        return Outcome(False, CARE.name, f"{len(ways)} attacks stopped")
