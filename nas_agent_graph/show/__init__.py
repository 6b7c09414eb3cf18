"""Prints a search or one of its runs: `python -m nas_agent_graph.show`."""
