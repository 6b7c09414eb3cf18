"""What the deciding and the training program share: the state of a search and the files of a run.

Names are imported when they are first used, so that `import nas_system.nas_agent` costs two
milliseconds: the supervisor of every training lives in this package. Nothing here imports torch.

    from nas_system.nas_agent import load_history, build_history_summary

Scripts that run inside the folder `nas_system` may write `from nas_agent import ...`, as the
original format does; they get the same modules.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_system.nas_agent.agent_state import (
        RunInfo,
        add_run,
        get_best_run,
        get_recent_runs,
        load_agent_state,
        save_agent_state,
    )
    from nas_system.nas_agent.history_summary import build_history_summary
    from nas_system.nas_agent.logging_utils import load_history, load_metrics, save_history, save_metrics
    from nas_system.nas_agent.run_manager import get_run_dir, snapshot_config

__all__ = [
    "RunInfo",
    "add_run",
    "build_history_summary",
    "get_best_run",
    "get_recent_runs",
    "get_run_dir",
    "load_agent_state",
    "load_history",
    "load_metrics",
    "save_agent_state",
    "save_history",
    "save_metrics",
    "snapshot_config",
]

_MODULE_OF = {
    "RunInfo": "agent_state",
    "add_run": "agent_state",
    "build_history_summary": "history_summary",
    "get_best_run": "agent_state",
    "get_recent_runs": "agent_state",
    "get_run_dir": "run_manager",
    "load_agent_state": "agent_state",
    "load_history": "logging_utils",
    "load_metrics": "logging_utils",
    "save_agent_state": "agent_state",
    "save_history": "logging_utils",
    "save_metrics": "logging_utils",
    "snapshot_config": "run_manager",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _SameModules:
    """Finds `nas_agent.x` as `nas_system.nas_agent.x`, so that no module and no class exists twice."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith("nas_agent.") else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import system hands out what stands in sys.modules afterwards.
        sys.modules[module.__name__] = importlib.import_module(f"nas_system.{module.__name__}")


def _be_nas_system_nas_agent() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    sys.meta_path.insert(0, _SameModules())
    sys.modules["nas_agent"] = importlib.import_module("nas_system.nas_agent")


if __name__ == "nas_agent":
    _be_nas_system_nas_agent()
