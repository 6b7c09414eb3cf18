"""LangGraph Studio finds the search through langgraph.json, and importing it costs nothing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.graph import build_graph
from nas_agent_graph.state import initial_state
from nas_agent_graph.studio import make_graph
from nas_system.errors import ConfigError


def factory(project_root: Path) -> tuple[str, str]:
    """Module and function that langgraph.json names."""
    settings = json.loads((project_root / "langgraph.json").read_text())
    assert settings["dependencies"] == ["."]
    (target,) = settings["graphs"].values()
    file, _, function = target.partition(":")
    assert (project_root / file).is_file()
    return ".".join(Path(file).with_suffix("").parts), function


def test_the_factory_compiles_the_graph_that_the_search_runs(project_root: Path) -> None:
    module, function = factory(project_root)
    graph = getattr(importlib.import_module(module), function)({"configurable": {}})
    assert graph.get_graph().draw_mermaid() == build_graph().get_graph().draw_mermaid()
    assert {"run_id", "proposal", "outcome", "end"} <= set(graph.get_input_jsonschema()["properties"])
    # Studio asks for every schema, and shows nothing if one of them cannot be made.
    assert graph.get_output_jsonschema()["properties"]
    assert graph.get_context_jsonschema() is None


def test_a_search_that_is_started_without_its_partners_says_how_to_start_it() -> None:
    graph = make_graph({"configurable": {}})
    with pytest.raises(ConfigError, match="nas run"):
        graph.invoke(initial_state())


def test_importing_the_factory_loads_nothing(project_root: Path, run_cli: Any, tmp_path: Path) -> None:
    module, _ = factory(project_root)
    code = f"import json, sys, {module}\nprint(json.dumps(sorted(sys.modules)))\n"
    (tmp_path / "loaded.py").write_text(code)
    done = run_cli("loaded", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {"langgraph", "langchain_core", "openai", "pydantic"} & set(json.loads(done.stdout))
