"""`python -m nas_agent_graph.compare`."""

import sys

from nas_agent_graph.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
