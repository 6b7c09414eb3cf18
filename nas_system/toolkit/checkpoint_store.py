"""Saved networks: weights, the name of the function that builds the network, and its criterion.

A file holds no code, but it names the function its weights belong to. A file from elsewhere could
name anything (`os:system` with an argument), so a name from a file is used only if it stands
for code of the running program itself: see `find_builder`.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypedDict

import torch
from torch import nn

from nas_system.errors import ConfigError, StateError
from nas_system.training.checkpoint import StateDict, load_checkpoint

# Classes that only build layers, for any arguments in a file.
LAYER_LIBRARY = "torch.nn.modules."


def network_path(name: str) -> Path:
    """Return the file of the network called `name`: `name.pt` in the working directory; may have folders."""
    if not Path(name).name or name.endswith("/"):
        raise ConfigError(f"name={name!r}: must end in the name of a file")
    return Path.cwd() / f"{name}.pt"


def read_network(path: Path, device: torch.device) -> StateDict:
    """Read a saved network. Raises StateError for any other file."""
    content = load_checkpoint(path, device)
    if not {"model", "net_builder", "net_build_args", "criterion"} <= content.keys():
        raise StateError(f"{path}: not saved by PytorchTrainer")
    return content


class BuilderRecord(TypedDict):
    """The function that builds a saved network; None for what has no name or is not plain."""

    net_builder: str | None
    net_build_args: list[Any] | None


def builder_record(builder: Callable[..., nn.Module], arguments: list[Any]) -> BuilderRecord:
    return {
        "net_builder": _name_of(builder),
        "net_build_args": arguments if _is_plain(arguments) else None,
    }


def recorded_builder(content: StateDict) -> tuple[Callable[..., nn.Module], list[Any]]:
    """Return the builder named by a saved network, and its arguments. Raises StateError if there is none."""
    if content["net_builder"] is None:
        raise StateError("its builder has no name that could be saved (a lambda, a closure or the like)")
    if content["net_build_args"] is None:
        raise StateError("its builder's arguments are no plain values and were not saved")
    return find_builder(content["net_builder"]), content["net_build_args"]


def find_builder(name: str) -> Callable[..., nn.Module]:
    """Return the function or network class called `module:qualname`. Raises StateError if it may not be used.

    Nothing is imported because of a file: the module must be loaded already. The name must belong to
    a function or `nn.Module` class that is defined in that very module, and the module must be part
    of the program: not of Python, not of an installed package, not of this one (torch's own layers
    excepted). That leaves an untrusted file the choice among the program's own functions; build the
    trainer yourself to load such files, then nothing that the file names is called.
    """
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        raise StateError(f"its builder {name} is not imported; import {module_name} first")
    found = _look_up(module, qualname)
    if found is None:
        raise StateError(f"its builder {name} does not exist (any more)")
    is_net = isinstance(found, type) and issubclass(found, nn.Module)
    is_layer = is_net and module_name.startswith(LAYER_LIBRARY)
    is_own = (is_net or isinstance(found, FunctionType)) and _is_own_source(module)
    if not (is_own or is_layer):
        raise StateError(f"its builder {name} is refused: a file may call only your program's builders")
    return found


def _name_of(builder: Any) -> str | None:
    if not isinstance(builder, FunctionType | type):
        return None
    module = sys.modules.get(builder.__module__)
    # A lambda, a closure or something that was replaced is not found again, or not itself.
    if module is None or _look_up(module, builder.__qualname__) is not builder:
        return None
    return f"{builder.__module__}:{builder.__qualname__}"


def _look_up(module: ModuleType, qualname: str) -> Any:
    """Return what `module` itself defines under this name, or None. Runs no code: no getattr, no import."""
    found: Any = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    if not isinstance(found, FunctionType | type):
        return None
    return found if (found.__module__, found.__qualname__) == (module.__name__, qualname) else None


def _is_own_source(module: ModuleType) -> bool:
    if module.__name__.partition(".")[0] == __name__.partition(".")[0]:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__"  # a notebook or an interpreter
    path = Path(file).resolve()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return not path.is_relative_to(standard) and not {"site-packages", "dist-packages"} & set(path.parts)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return type(value) in (bool, int, float, str, type(None))
