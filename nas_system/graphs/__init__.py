"""Graph models and the graphs they learn from: `from nas_system.graphs import get_dataset, get_model`.

A name is looked up when it is first asked for, and PyTorch Geometric is loaded when a graph is first
made, so that nobody else pays for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_system.graphs.datasets import get_dataset
    from nas_system.graphs.models import get_model

__all__ = ["get_dataset", "get_model"]

_HOMES = {"get_dataset": "datasets", "get_model": "models"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
