"""PyTorch Geometric, loaded when a graph is first made: it is optional, and importing it takes a second."""

from __future__ import annotations

import warnings
from types import ModuleType

from nas_system.training.extras import import_extra


def import_pyg(module: str = "torch_geometric.data") -> ModuleType:
    """Import a module of PyTorch Geometric. Raises ConfigError, with the way to install it, if it is missing.

    What it warns about while it loads (its own use of a deprecated part of torch, compiled extensions
    that we do not need) is nothing its user can fix.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_extra(module, "graphs")
