"""`python -m nas_system.netformer archive`: make an archive of trainings, or add a search to your own."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nas_system.command_line import exit_code_of
from nas_system.errors import ConfigError, SearchPaused
from nas_system.netformer.command_line import command_parser

HARD_LIMIT_FACTOR = 20.0
"""How many times its compute a training may take by the clock: one that takes longer hangs."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    try:
        return exit_code_of(lambda: _make(arguments, words))
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}; the same command resumes", file=sys.stderr)
        return SearchPaused.exit_code


def _make(arguments: argparse.Namespace, flags: list[str]) -> int:
    if arguments.add is not None:
        return _add(arguments.add)
    if arguments.out is None:
        raise ConfigError("archive needs --out FILE, or --add WORKSPACE")
    from nas_system.netformer.specs.archive.archive_making import Plan, make_archive
    from nas_system.netformer.specs.archive.trainings import Limits

    plan = Plan(
        tasks=arguments.tasks,
        configs=arguments.configs,
        held_out=arguments.held_out,
        held_out_configs=arguments.held_out_configs,
        shared=arguments.shared,
        seed=arguments.seed,
    )
    limits = Limits(soft_s=arguments.time_limit, hard_s=HARD_LIMIT_FACTOR * arguments.time_limit)
    work = arguments.work or Path(f"{arguments.out}.work")
    archive = make_archive(plan, arguments.out, work, limits, made_by=f"archive {shlex.join(flags)}")
    print(f"{len(archive.rows)} rows of {len(archive.tasks)} tasks, {arguments.out.stat().st_size:,} bytes")
    return 0


def _add(workspace: Path) -> int:
    from nas_system.netformer.specs.archive.library import Library
    from nas_system.netformer.specs.archive.own_rows import add_search

    library = Library.here()
    rows, new = add_search(workspace.expanduser().absolute(), library)
    print(f"{new} of the search's {rows} trainings are new in {library.own_archive}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("archive", __doc__)
    parser.add_argument(
        "--add", type=Path, metavar="WORKSPACE", help="add a search to your own archive instead"
    )
    parser.add_argument("--out", type=Path, help="the archive to write")
    parser.add_argument("--tasks", type=int, default=40, help="tasks to learn from (default: 40)")
    parser.add_argument("--configs", type=int, default=40, help="trainings of each (default: 40)")
    parser.add_argument("--held-out", type=int, default=0, help="tasks to evaluate proposers on (default: 0)")
    parser.add_argument(
        "--held-out-configs", type=int, default=56, help="trainings of each of those (default: 56)"
    )
    parser.add_argument("--shared", type=int, default=10, help="configurations all tasks have (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for data and unfinished work (default: OUT.work)")
    parser.add_argument(
        "--time-limit", type=float, default=5.0, help="compute of one training, in seconds (default: 5)"
    )
    return parser
