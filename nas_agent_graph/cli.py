"""The command line: `nas COMMAND`, and the parsers behind every `python -m nas_agent_graph.COMMAND`.

A command's module is imported once its arguments are read: `--help` and a typing error answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_agent_graph import __version__
from nas_agent_graph.settings import add_llm_flags
from nas_system.command_line import (
    Parser,
    add_data_dir,
    add_device,
    amount,
    choose_command,
    count,
    exit_code_of,
    positive,
    positive_int,
    seconds_between,
)

DEFAULT_MAX_RUNS = 100
LEAST_FREE_MB = 200
WATCH_S = 5.0


@dataclass(frozen=True)
class Command:
    """A command: what it is for, and where the function is that does it."""

    purpose: str
    entry: str
    """`module:function`, which is passed the parsed arguments; a `main` parses (argv, prog=...) itself."""
    add_arguments: Callable[[Parser], None] | None = None
    """None: the module has a `build_parser(prog)`."""

    def run(self, argv: Sequence[str], prog: str) -> int:
        """Run the command and return its exit code."""
        if self.entry.endswith(":main"):
            return self._import(self.entry)(argv, prog=prog)
        arguments = self.parser(prog).parse_args(argv)
        return exit_code_of(lambda: self._import(self.entry)(arguments))

    def parser(self, prog: str) -> Parser:
        """Return the parser of the command's arguments."""
        if self.add_arguments is None:
            return self._import(self.entry.replace(":main", ":build_parser"))(prog)
        parser = Parser(prog=prog, description=f"{self.purpose[0].upper()}{self.purpose[1:]}.")
        self.add_arguments(parser)
        return parser

    @staticmethod
    def _import(entry: str) -> Callable[..., Any]:
        module, _, function = entry.partition(":")
        return getattr(importlib.import_module(module), function)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` begins with and return its exit code; without one print the help."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    parser = Parser(prog="nas", description="Neural architecture search with a language model or without.")
    parser.add_argument("--version", action="version", version=f"nas-agent {__version__}")
    name, rest = choose_command(parser, {name: command.purpose for name, command in COMMANDS.items()}, words)
    return COMMANDS[name].run(rest, f"nas {name}")


def run_as_module(name: str) -> int:
    """Run `python -m nas_agent_graph.NAME` and return its exit code."""
    return COMMANDS[name].run(sys.argv[1:], f"python -m nas_agent_graph.{name}")


# --- the arguments of each command ----------------------------------------------------------


def _add_workspace(parser: argparse._ActionsContainer, what: str = "folder of the search") -> None:
    parser.add_argument(
        "--workspace", metavar="DIR", type=Path, default=Path(), help=f"{what} (default: the current folder)"
    )


def _add_run_arguments(parser: Parser) -> None:
    # Here, because it loads pydantic.
    from nas_system.space.task_flags import add_task_flags

    _add_search_flags(parser)
    add_task_flags(parser)
    machine = parser.add_argument_group("machine")
    add_data_dir(machine)
    add_device(machine)
    machine.add_argument("--threads", metavar="N|auto", help="CPU threads of a training (default: 1)")


def _add_search_flags(parser: Parser) -> None:
    search = parser.add_argument_group("search")
    search.add_argument(
        "--max-runs",
        metavar="N",
        type=positive_int,
        default=DEFAULT_MAX_RUNS,
        help=f"runs in total, base config and failures included (default: {DEFAULT_MAX_RUNS})",
    )
    search.add_argument("--max-hours", metavar="X", type=positive, help="start no further run after X hours")
    search.add_argument(
        "--max-tokens",
        metavar="N",
        type=positive_int,
        help="propose no further run once the language model has used this many (whole search)",
    )
    search.add_argument(
        "--max-cost",
        metavar="USD",
        type=positive,
        help="propose no further run once its answers have cost this many US dollars (whole search)",
    )
    search.add_argument(
        "--minutes-per-run",
        metavar="X",
        type=positive,
        help="a training ends after the epoch that reaches this",
    )
    search.add_argument(
        "--max-silent-minutes",
        metavar="X",
        type=amount,
        help="a training without a sign of life for this long is ended as hung (default: 60; 0: no limit)",
    )
    search.add_argument(
        "--memory-per-run",
        metavar="GIB",
        type=amount,
        help="host memory that a training may hold (default: 80%% of the machine's or container's; "
        "0: no limit)",
    )
    search.add_argument(
        "--keep-free",
        metavar="MIB",
        type=amount,
        default=LEAST_FREE_MB,
        help=f"start a training only with this much free disk; wait for it (default: {LEAST_FREE_MB})",
    )
    search.add_argument(
        "--wait-for-disk",
        metavar="MIN",
        type=amount,
        help="on a full disk wait this long, then end with exit code 4 (default: until there is space)",
    )
    search.add_argument(
        "--proposer",
        metavar="NAME",
        help="tpe, random_search, netformer or llm (default: llm if a model is named, else tpe)",
    )
    add_llm_flags(search)
    search.add_argument(
        "--seed",
        metavar="N",
        type=count,
        help="of the sampler and the trainings (default: the base configuration's)",
    )
    search.add_argument("--base-config", metavar="FILE|NAME", help="what run_0000 trains (default: default)")
    search.add_argument(
        "--repeat-base",
        "--repeat-baseline",
        type=count,
        default=2,
        metavar="N",
        help="train the base config N more times with other seeds to measure the noise (default: 2)",
    )
    _add_workspace(search, "folder of agent_state.json and runs/")
    search.add_argument(
        "--dry-run",
        action="store_true",
        help="show the next prompt and what the search may cost; ask, train and write nothing",
    )


def _add_show_arguments(parser: Parser) -> None:
    parser.add_argument("run_id", nargs="?", metavar="RUN_ID", help="a run, for example run_0007")
    _add_workspace(parser)
    parser.add_argument("--limit", type=positive_int, metavar="N", help="how many runs (default: 15)")
    parser.add_argument(
        "--transcript", action="store_true", help="of a run: every word exchanged with the language model"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="for programs; all runs unless --limit is given")
    what.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the progress of the search instead")
    what.add_argument("--lessons", action="store_true", help="the lessons as the language model reads them")


def _add_report_arguments(parser: Parser) -> None:
    _add_workspace(parser)
    parser.add_argument(
        "--out",
        type=_html_file,
        metavar="FILE.html",
        help="the file to write (default: report.html in the workspace)",
    )
    parser.add_argument(
        "--watch",
        type=seconds_between(0.2, 3600),
        nargs="?",
        const=WATCH_S,
        metavar="SECONDS",
        help=f"keep the file up to date until the search ends, looking every {WATCH_S:g} seconds",
    )


def _html_file(text: str) -> Path:
    # The file is replaced without asking, so it must not be the search's own memory or a model.
    if not text.lower().endswith((".html", ".htm")):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    return Path(text)


def _add_replay_arguments(parser: Parser) -> None:
    parser.epilog = "exit codes: 0 the same state, 1 drift, 2 bad input, 3 an answer is missing"
    parser.add_argument(
        "recording", type=Path, metavar="DIR", help="a search's folder: agent_state.json and runs/"
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="take answers by run, node and attempt, without comparing the prompts",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="DIR", help="folder of prompt templates (default: the program's own)"
    )


def _add_doctor_arguments(parser: Parser) -> None:
    add_llm_flags(parser)
    _add_workspace(parser, "folder whose .env is read")


def _add_space_arguments(parser: Parser) -> None:
    parser.add_argument(
        "family", nargs="?", metavar="FAMILY", help="only this family, for example linear (default: all)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as tables of a Markdown file")
    form.add_argument("--json", action="store_true", help="for programs")


COMMANDS = {
    "run": Command("start or continue a search", "nas_agent_graph.run:main", _add_run_arguments),
    "show": Command(
        "show a search or one of its runs, also while the search runs",
        "nas_agent_graph.show.views:show",
        _add_show_arguments,
    ),
    "report": Command(
        "write a search into one self-contained HTML file, also while the search runs",
        "nas_agent_graph.report.html:report",
        _add_report_arguments,
    ),
    "replay": Command(
        "drive a recorded search again with no model and no training, and compare where it ends",
        "nas_agent_graph.replay.comparison:compare",
        _add_replay_arguments,
    ),
    "doctor": Command(
        "check the language model's settings with four small calls",
        "nas_agent_graph.doctor:check",
        _add_doctor_arguments,
    ),
    "space": Command(
        "print the search space: every parameter that a proposal may change, with its bounds",
        "nas_agent_graph.space.page:print_space",
        _add_space_arguments,
    ),
    "predict": Command("forecast the future with a finished run", "nas_system.predict:main"),
    "train": Command("train one configuration", "nas_system.train:main"),
    "describe": Command("measure a task's data and its baselines", "nas_system.describe:main"),
    "score": Command("score a finished run on the hold-out set", "nas_system.score:main"),
}


if __name__ == "__main__":
    sys.exit(main())
