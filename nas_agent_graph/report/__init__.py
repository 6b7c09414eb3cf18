"""Writes a search into one HTML file: `python -m nas_agent_graph.report`."""
