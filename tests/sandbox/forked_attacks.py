"""The attacks for fork servers: `python -m forked_attacks FILE PLAN` does what `python FILE PLAN` does."""

import sys
from collections.abc import Sequence
from pathlib import Path


def preload() -> None:
    """Import nothing more."""


def main(arguments: Sequence[str]) -> int:
    sys.argv[:] = arguments
    program = compile(Path(arguments[0]).read_text(), arguments[0], "exec")
    exec(program, {"__name__": "__main__"})
    return 0
