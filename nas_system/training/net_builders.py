"""Functions that build networks, by name: how a saved network finds the code it belongs to.

A file of weights holds no code, but it names the function that builds its network. A file from
elsewhere could name anything (`os:system` with an argument), so a name from a file is believed
only if it stands for code of the running program itself: see `find_builder`.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from nas_system.errors import StateError

# Network classes that do nothing but make layers, whatever arguments a file gives them.
LAYER_LIBRARIES = ("torch.nn.modules.", "nas_system.sequential.", "nas_system.graphs.")


def builder_record(builder: Callable[..., nn.Module], arguments: list[Any]) -> dict[str, Any]:
    """The builder's name and arguments as plain values; None for what has no name or is not plain."""
    return {
        "net_builder": _name_of(builder),
        "net_build_args": arguments if _is_plain(arguments) else None,
    }


def find_builder(name: str) -> Callable[..., nn.Module]:
    """The function or network class called `module:qualname`. Raises StateError when it may not be used.

    Nothing is imported for a file's sake: the module must be loaded already. The name must belong to
    a function or `nn.Module` class that is defined in that very module, and the module must be
    part of the program, not of Python or an installed package (layers such as nn.Linear excepted).
    What remains is the program's own functions: who loads files of strangers builds the
    trainer himself, then nothing that the file names is called.
    """
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        raise StateError(f"the builder {name} is in a module that is not imported; import {module_name} first")
    found = _look_up(module, qualname)
    if found is None:
        raise StateError(f"the builder {name} does not exist (any more)")
    own = _is_own_source(module)
    is_net = isinstance(found, type) and issubclass(found, nn.Module)
    if not (own and (is_net or isinstance(found, FunctionType))) and not (
        is_net and module_name.startswith(LAYER_LIBRARIES)
    ):
        raise StateError(f"the builder {name} is refused: a file may not call code outside your own program")
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
    """What `module` itself defines under this name, or None. Runs no code: no getattr, no import."""
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
