"""Prints the search space: `python -m nas_agent_graph.space`."""
