"""A trainer that says beforehand that it holds 60 MiB, and holds 300.

python hungry_trainer.py STAND_IN ...     otherwise it is that program, with the same arguments
"""

import json
import runpy
import sys

SAID_MB, HELD_MB = 60, 300

if __name__ == "__main__":
    if "--preflight-only" in sys.argv:
        print(json.dumps({"memory_mb": SAID_MB}))
    else:
        held = b"x" * (HELD_MB * 2**20)
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")
