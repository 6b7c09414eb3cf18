"""The public names of nas_agent: lazy, cheap, and the same under both of their names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nas_system.nas_agent as nas_agent

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "nas_system" / "nas_agent"

NAMES = [
    *("load_agent_state", "save_agent_state", "add_run", "get_best_run", "get_recent_runs", "RunInfo"),
    *("save_metrics", "load_metrics", "save_history", "load_history", "build_history_summary"),
    *("get_run_dir", "snapshot_config"),
]


def python(script: str, folder: Path, **environment: str) -> str:
    """What a fresh interpreter prints that runs `script` in `folder`."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_is_there_and_listed() -> None:
    assert sorted(nas_agent.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(nas_agent, name).__name__ == name
        assert name in dir(nas_agent)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_agent_states'"):
        _ = nas_agent.load_agent_states


LOADED = """
import sys
before = set(sys.modules)
import {module}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(names - sys.stdlib_module_names - {{"nas_system"}}))
"""


@pytest.mark.parametrize("module", ["", ".run_manager", ".logging_utils", ".history_summary"])
def test_the_parts_of_the_supervisor_need_the_standard_library_alone(module: str) -> None:
    assert python(LOADED.format(module=f"nas_system.nas_agent{module}"), ROOT).split() == []


def test_the_package_alone_loads_none_of_its_modules() -> None:
    script = (
        "import nas_system.nas_agent, sys; print(*[m for m in sys.modules if m.startswith('nas_system.')])"
    )
    assert python(script, ROOT).split() == ["nas_system.nas_agent"]


def test_no_module_of_the_library_loads_torch() -> None:
    modules = [
        f"nas_system.nas_agent.{file.stem}" for file in LIBRARY.glob("*.py") if file.stem != "__init__"
    ]
    script = (
        f"import sys, {', '.join(modules)}\nprint([m for m in ('torch', 'langgraph') if m in sys.modules])"
    )
    assert python(script, ROOT).strip() == "[]"


def test_a_script_inside_nas_system_gets_the_same_modules() -> None:
    script = """
from nas_agent import load_history, RunInfo
import nas_agent, nas_agent.logging_utils, nas_agent.agent_state
from nas_agent.run_manager import RunPaths
import nas_system.nas_agent as real
import nas_system.nas_agent.run_manager
assert nas_agent is real
assert nas_agent.logging_utils is real.logging_utils
assert RunPaths is real.run_manager.RunPaths
assert load_history is real.load_history and RunInfo is real.RunInfo
assert load_history.__module__ == "nas_system.nas_agent.logging_utils"
from nas_agent import *
assert snapshot_config is real.snapshot_config
try:
    import nas_agent.absent
except ModuleNotFoundError as error:
    print(error)
"""
    assert python(script, ROOT / "nas_system").strip() == "No module named 'nas_system.nas_agent.absent'"


def test_the_examples_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    readme = (LIBRARY / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 3
    said = python("\n".join(examples), tmp_path, PYTHONPATH=str(ROOT))
    assert "Best: run_0000, MSE: 0.185" in said
    comment = " ".join(line.removeprefix("# ") for line in readme.splitlines() if line.startswith("# "))
    summary = said.splitlines()[-1]
    assert summary in comment
    assert (tmp_path / "runs" / "run_0000" / "config_used.py").is_file()


def test_the_example_of_the_original_format_runs_inside_nas_system(tmp_path: Path) -> None:
    script = """
from pathlib import Path
from nas_agent import (
    load_agent_state, save_agent_state, add_run,
    get_best_run, get_recent_runs, RunInfo
)
import os
os.chdir(FOLDER)
state = load_agent_state()
run_info = RunInfo(
    run_id="run_0000", val_mse=0.185, test_mse=0.192, history_summary="...", accepted=True
)
state = add_run(state, run_info)
save_agent_state(state)
best = get_best_run(load_agent_state())
print(f"Best: {best.run_id}, MSE: {best.val_mse}")
recent = get_recent_runs(state, k=5)
from nas_agent import save_metrics, load_metrics, save_history, load_history, get_run_dir, snapshot_config
save_metrics(Path("runs/run_0000"), {"val_mse": 0.185, "test_mse": 0.192, "best_epoch": 17})
assert load_metrics(Path("runs/run_0000"))["best_epoch"] == 17
""".replace("FOLDER", repr(str(tmp_path)))
    assert python(script, ROOT / "nas_system") == "Best: run_0000, MSE: 0.185\n"
    assert (tmp_path / "agent_state.json").is_file()
