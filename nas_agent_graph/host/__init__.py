"""The machine the agent runs on: signals, free disk space, clocks, protection of its memory."""
