"""`python -m nas_agent_graph.note`: the same as `nas note`."""

import sys

from nas_agent_graph.cli import run_as_module

if __name__ == "__main__":
    sys.exit(run_as_module("note"))
