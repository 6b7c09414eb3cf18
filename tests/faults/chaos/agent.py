"""The product's own program, with the stand-in in the place of the training.

python agent.py TRAINER... -- FLAGS OF nas_agent_graph.run
"""

import sys

from nas_agent_graph.run import run_and_leave

if __name__ == "__main__":
    cut = sys.argv.index("--")
    trainer = sys.argv[1:cut]
    sys.argv[1:] = sys.argv[cut + 1 :]
    run_and_leave(trainer or None)
