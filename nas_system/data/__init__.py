"""What a task reads: its series, split, scaling, time features, windows and baselines.

Three steps: `locate` pins a source, `open_data` reads it, `build_windows` cuts it. Only the last
needs torch, which is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_system.data.loading import OpenTask, load_all, load_series, open_data, open_task
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.scaling import Scaler
from nas_system.data.series import Series
from nas_system.data.source import DataSource, locate
from nas_system.data.splits import Split, SplitName, split_for
from nas_system.data.synthetic import synthetic_series

if TYPE_CHECKING:
    from nas_system.data.windows import TaskWindows, WindowBatch, WindowLoader, WindowSet, build_windows

__all__ = [
    "DataSource",
    "OpenData",
    "OpenPanel",
    "OpenTask",
    "Scaler",
    "Series",
    "Split",
    "SplitName",
    "TaskWindows",
    "WindowBatch",
    "WindowLoader",
    "WindowSet",
    "build_windows",
    "load_all",
    "load_series",
    "locate",
    "open_data",
    "open_task",
    "split_for",
    "synthetic_series",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nas_system.data import windows

    return getattr(windows, name)
