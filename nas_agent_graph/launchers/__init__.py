"""The only place of the agent that starts processes. Every launcher runs the same supervisor."""
