"""The whole topology on one screen. No logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from nas_agent_graph import routes
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context
from nas_agent_graph.nodes.decide_acceptance import decide_acceptance
from nas_agent_graph.nodes.launch_training import launch_training
from nas_agent_graph.nodes.parse_results import parse_results
from nas_agent_graph.nodes.propose_config import propose_config
from nas_agent_graph.nodes.read_context import read_context
from nas_agent_graph.nodes.summarize_history import summarize_history
from nas_agent_graph.nodes.validate_config import validate_config
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.errors import ConfigError

Node = Callable[[SearchState, Context], StateUpdate]


def build_graph(checkpointer: Any = None, *, context_schema: type | None = Context) -> Any:
    """Compile the search as a LangGraph. The truth is on disk, so no checkpointer by default."""
    graph = StateGraph(SearchState, context_schema=context_schema)
    for node in (
        read_context,
        propose_config,
        validate_config,
        launch_training,
        parse_results,
        summarize_history,
        decide_acceptance,
    ):
        # The stubs know no node that takes a Runtime; the library does.
        graph.add_node(node.__name__, _recorded(node))  # pyright: ignore[reportArgumentType]

    graph.add_edge(START, "read_context")
    graph.add_conditional_edges(
        "read_context",
        routes.after_reading,
        {"room": "propose_config", "repeat": "launch_training", "full": "parse_results", "done": END},
    )
    graph.add_edge("propose_config", "validate_config")
    graph.add_conditional_edges(
        "validate_config",
        routes.after_validation,
        {"valid": "launch_training", "invalid": "propose_config", "exhausted": "read_context"},
    )
    graph.add_edge("launch_training", "read_context")
    graph.add_edge("parse_results", "summarize_history")
    graph.add_edge("summarize_history", "decide_acceptance")
    graph.add_conditional_edges(
        "decide_acceptance", routes.after_decision, {"continue": "read_context", "done": END}
    )
    return graph.compile(checkpointer=checkpointer)


def steps_for(limits: Limits, begun: int = 0) -> int:
    """Return an upper bound on the graph steps of a search of this length; `begun` runs have begun."""
    # Each run comes with two repeats at most, and a final's trainings may be any number.
    return max(limits.max_runs, begun) * (24 + 2 * limits.attempts) + 6 * (limits.repeats or 0) + 100


def _recorded(node: Node) -> Callable[[SearchState, Runtime[Context]], StateUpdate]:
    """Check what the node returns, and record on disk that it is done; on a full disk wait, do it again."""

    def run(state: SearchState, runtime: Runtime[Context]) -> StateUpdate:
        if runtime.context is None:
            raise ConfigError("a search needs its context; start it with: nas run")
        runtime.context.stop.check()
        disk = runtime.context.disk
        update = disk.retry_until_space(lambda: node(state, runtime.context))
        unknown = set(update) - set(SearchState.__annotations__)
        # LangGraph drops unknown keys without a word.
        assert not unknown, f"node {node.__name__} returned unknown keys: {sorted(unknown)}"
        run_id = update.get("run_id", state["run_id"])
        assert isinstance(run_id, str)
        disk.retry_until_space(lambda: runtime.context.ledger.reach(run_id, node.__name__))
        return update

    return run
