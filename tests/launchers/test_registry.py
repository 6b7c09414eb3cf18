"""Launchers are chosen by name, built in one place, and asked for what only their machine can tell."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.launchers import LAUNCHERS, LauncherOptions, build_launcher
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.replay.launcher import RecordedLauncher
from nas_system.errors import ConfigError, StateError
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Status, read_outcome

CLUSTERS = ("slurm", "ray")
AGENT = Path(__file__).parents[2] / "nas_agent_graph"


def every_launcher(folder: Path) -> dict[str, Any]:
    chosen = {name: build_launcher(name, LauncherOptions(workspace=folder)) for name in LAUNCHERS}
    recorded = RecordedLauncher(AgentState(), folder / "recorded", Ledger(folder, AgentState()))
    return {**chosen, "scripted": ScriptedLauncher(lambda config: 0.0), "recorded": recorded}


@pytest.mark.parametrize("name", [*LAUNCHERS, "scripted", "recorded"])
def test_a_survey_tells_of_every_run_what_its_files_say(name: str, tmp_path: Path) -> None:
    launcher = every_launcher(tmp_path)[name]
    never, ended = tmp_path / "runs/run_0000", tmp_path / "runs/run_0001"
    ended.mkdir(parents=True)
    write_json(ended / "exit.json", {"schema": 1, "attempt": 1, "ended": "exited", "returncode": 0})
    assert dict(launcher.survey([never, ended])) == {never: "absent", ended: "finished"}
    assert not launcher.is_running(never) and not launcher.is_running(ended)
    assert launcher.survey([]) == {}
    launcher.cancel(never)
    launcher.cancel(ended, force=True)
    limit = launcher.memory_limit_mb()
    assert limit is None or limit > 0
    assert launcher.cuda_devices("cpu") == ()
    if name in CLUSTERS:
        with pytest.raises(ConfigError, match="give --parallel and --threads numbers"):
            launcher.cores()
    else:
        assert launcher.cores() >= 1


def test_an_unknown_launcher_is_refused_with_the_choices(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"--launcher 'pigeon' is not known; choose from: local"):
        build_launcher("pigeon")
    for mode in ((), ("--dry-run",)):
        done = run_cli("nas_agent_graph.run", "--launcher", "pigeon", *mode, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "choose from: local" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_local_launcher_is_built_in_one_place() -> None:
    def builds(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and getattr(node.func, "id", None) == "LocalLauncher"

    trees = {path: ast.parse(path.read_text()) for path in AGENT.rglob("*.py")}
    found = [path for path, tree in trees.items() for node in ast.walk(tree) if builds(node)]
    assert found == [AGENT / "launchers" / "__init__.py"]


def test_whether_a_training_is_over_is_asked_of_whoever_can_tell(tmp_path: Path) -> None:
    """A run on another machine holds no lock here; its files alone would say that it is lost."""
    write_json(tmp_path / "proc.json", {"schema": 1, "attempt": 1})
    assert read_outcome(tmp_path).status is Status.LOST
    with pytest.raises(StateError, match="is still training"):
        read_outcome(tmp_path, is_running=lambda run_dir: run_dir == tmp_path)
