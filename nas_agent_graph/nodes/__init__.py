"""The seven verbs of the search. One node, one file; each returns only what it changed."""

from nas_agent_graph.nodes.decide_acceptance import decide_acceptance
from nas_agent_graph.nodes.launch_training import launch_training
from nas_agent_graph.nodes.parse_results import parse_results
from nas_agent_graph.nodes.propose_config import propose_config
from nas_agent_graph.nodes.read_context import read_context
from nas_agent_graph.nodes.summarize_history import summarize_history
from nas_agent_graph.nodes.validate_config import validate_config

__all__ = [
    "decide_acceptance",
    "launch_training",
    "parse_results",
    "propose_config",
    "read_context",
    "summarize_history",
    "validate_config",
]
