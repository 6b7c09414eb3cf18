"""Drives a recorded search again: `python -m nas_agent_graph.replay`."""
