"""Prints the search space: python -m nas_agent_graph.space [FAMILY]

Everything that a proposal may change: the families, their parameters with bounds and defaults, and what
each means. Read from the declarations that the validator and the samplers read, so it cannot be out of date.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 printed, 2 no such family."""
    arguments = _parser().parse_args(argv)
    # The space itself is loaded only now: --help and a typing error answer at once.
    from nas_system.errors import NasError

    try:
        _print(arguments)
        sys.stdout.flush()
    except NasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # `space | head`: the reader has seen enough. Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _print(arguments: argparse.Namespace) -> None:
    from nas_agent_graph.space import page
    from nas_agent_graph.text.terminal import width_of, write_lines

    families = page.chosen_families(arguments.family)
    if arguments.json:
        print(json.dumps(page.record(families), indent=1))
    elif arguments.markdown:
        print(page.markdown(families))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        write_lines(page.page(families, width_of(sys.stdout)), sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nas_agent_graph.space",
        description="Print the search space: every parameter that a proposal may change, with its bounds.",
    )
    parser.add_argument(
        "family", nargs="?", metavar="FAMILY", help="only this family, for example linear (default: all)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as tables of a Markdown file")
    form.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
