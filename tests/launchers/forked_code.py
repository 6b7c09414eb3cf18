"""A program for fork servers: `python -m forked_code CODE ARGUMENTS` does what `python -c` does."""

import sys
from collections.abc import Sequence


def preload() -> None:
    """Import nothing more."""


def main(arguments: Sequence[str]) -> int:
    sys.argv[0:2] = ["-c"]
    exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
