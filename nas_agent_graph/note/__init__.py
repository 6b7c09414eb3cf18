"""Takes a person's wish for the language model: `python -m nas_agent_graph.note`."""
