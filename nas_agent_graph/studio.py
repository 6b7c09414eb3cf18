"""The graph for LangGraph Studio, which finds this factory through langgraph.json.

Studio shows the topology, its routes and its state. A search itself is started by
`python -m nas_agent_graph.run`: its context (workspace, proposer, launcher) is made of live objects that
no form can fill in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def make_graph(config: Mapping[str, object] | None = None) -> Any:
    """Compile the search; Studio brings its own checkpointer and its `config`, which changes nothing."""
    # Imported when it is called: reading this module costs nothing.
    from nas_agent_graph.graph import build_graph

    # Studio draws a form for the context, and there is none for live objects.
    return build_graph(context_schema=None)
