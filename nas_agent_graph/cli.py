"""The command line: `nas COMMAND`, and the parsers behind every `python -m nas_agent_graph.COMMAND`.

A command's module is imported once its arguments are read: `--help` and a typing error answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nas_agent_graph import __version__
from nas_agent_graph.launchers import DEFAULT as DEFAULT_LAUNCHER
from nas_agent_graph.launchers import LAUNCHERS
from nas_agent_graph.proposers import PROPOSERS
from nas_agent_graph.settings import add_llm_flags
from nas_system.command_line import (
    Parser,
    add_data_dir,
    add_device,
    amount,
    auto_or_amount,
    auto_or_count,
    choose_command,
    count,
    exit_code_of,
    positive,
    positive_int,
    seconds_between,
    share,
)
from nas_system.processes.sandbox.modes import MODES

WATCH_S = 5.0


@dataclass(frozen=True)
class Command:
    """A command: what it is for, and where the function is that does it."""

    purpose: str
    entry: str
    """`module:function`, which is passed the parsed arguments; a `main` parses (argv, prog=...) itself."""
    add_arguments: Callable[[Parser], None] | None = None
    """None: the module has a `build_parser(prog)`."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Functions of ours that a `main` is given by name, each as `module:function`: imported when called."""

    def run(self, argv: Sequence[str], prog: str) -> int:
        """Run the command and return its exit code."""
        if self.entry.endswith(":main"):
            given = {name: partial(self._call, entry) for name, entry in self.needs.items()}
            return self._import(self.entry)(argv, prog=prog, **given)
        return exit_code_of(lambda: self._parse_and_work(argv, prog))

    def parser(self, prog: str) -> Parser:
        """Return the parser of the command's arguments."""
        if self.add_arguments is None:
            return self._import(self.entry.replace(":main", ":build_parser"))(prog)
        parser = Parser(prog=prog, description=f"{self.purpose[0].upper()}{self.purpose[1:]}.")
        self.add_arguments(parser)
        return parser

    def _parse_and_work(self, argv: Sequence[str], prog: str) -> int | None:
        arguments = self.parser(prog).parse_args(argv)
        return self._import(self.entry)(arguments)

    def _call(self, entry: str, *arguments: Any) -> Any:
        return self._import(entry)(*arguments)

    @staticmethod
    def _import(entry: str) -> Callable[..., Any]:
        module, _, function = entry.partition(":")
        return getattr(importlib.import_module(module), function)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` begins with and return its exit code; without one print the help."""
    return exit_code_of(lambda: _run_command(argv))


def _run_command(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    parser = Parser(prog="nas", description="Neural architecture search, with or without a language model.")
    parser.add_argument("--version", action="version", version=f"nas-agent {__version__}")
    name, rest = choose_command(parser, {name: command.purpose for name, command in COMMANDS.items()}, words)
    return COMMANDS[name].run(rest, f"nas {name}")


def run_as_module(name: str) -> int:
    """Run `python -m nas_agent_graph.NAME` and return its exit code."""
    return COMMANDS[name].run(sys.argv[1:], f"python -m nas_agent_graph.{name}")


# --- the arguments of each command ----------------------------------------------------------


def _add(
    parser: argparse._ActionsContainer,
    flags: str,
    metavar: str,
    kind: Callable[[str], Any],
    text: str,
    default: Any = None,
) -> None:
    """Add a flag, in one or several spellings, that takes a value; the help shows its default."""
    shown = "" if default in (None, "") else f" (default: {default})"
    parser.add_argument(*flags.split(), metavar=metavar, type=kind, default=default, help=text + shown)


def _add_switch(parser: argparse._ActionsContainer, flag: str, text: str) -> None:
    parser.add_argument(flag, action="store_true", help=text)


def _add_run_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("this search")
    _add(group, "--max-runs", "N", positive_int, "runs in total, base config and failures included", 100)
    _add(
        group,
        "--proposer",
        "NAME",
        str,
        f"{', '.join(PROPOSERS)} (default: hybrid if a model is named, else tpe)",
    )
    _add(group, "--seed", "N", count, "of the sampler and the trainings (default: the base config's)")
    group.add_argument(
        "--continue",
        dest="continued",
        metavar="RUN_ID",
        help="first train a run to its end that was stopped early, as a further run",
    )
    _add_switch(
        group, "--no-refit", "do not train what is recommended again on all rows once the search has ended"
    )
    _add(group, "--workspace", "DIR", Path, "folder of agent_state.json and runs/", Path())
    _add_switch(
        group, "--dry-run", "show the next prompt and the expected cost; ask, train and write nothing"
    )
    _add_search_arguments(parser)


def _add_compare_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("this comparison")
    group.add_argument(
        "--proposers",
        metavar="NAME[,NAME]",
        type=_proposers,
        default="tpe,random_search",
        help=f"whom to compare: {', '.join(PROPOSERS)} (default: tpe,random_search)",
    )
    _add(group, "--runs", "N", positive_int, "runs of every search, base config and failures included", 20)
    _add(group, "--seeds", "N", positive_int, "searches of every proposer", 3)
    _add(group, "--seed", "N", count, "of the first of them; the others have the next ones", 1)
    _add(group, "--workspace", "DIR", Path, "folder of the comparison: a folder per search", Path("compare"))
    _add_search_arguments(parser)


def _proposers(text: str) -> tuple[str, ...]:
    """Read names of proposers, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in PROPOSERS:
            raise argparse.ArgumentTypeError(f"{name!r} is not known; choose from: {', '.join(PROPOSERS)}")
    return names


def _add_search_arguments(parser: Parser) -> None:
    """Add what is the same for a search and for several that are compared."""
    # Here, because it loads pydantic.
    from nas_system.space.task_flags import add_task_flags

    group = parser.add_argument_group("limits")
    _add(group, "--max-hours", "X", positive, "start no further run after X hours")
    _add(group, "--max-tokens", "N", positive_int, "propose no run once the model has used N (whole search)")
    _add(
        group, "--max-cost", "USD", positive, "propose no run once its answers have cost this (whole search)"
    )
    _add(group, "--minutes-per-run", "X", positive, "compute of a training, which is planned to fit")
    _add(group, "--steps-per-run", "N", positive_int, "most optimizer steps of a training, on any machine")
    _add(
        group,
        "--max-silent-minutes",
        "X",
        amount,
        "a training without a sign of life for X minutes is ended as hung (default: 60; 0: no limit)",
    )
    _add(
        group,
        "--memory-per-run",
        "GIB|auto",
        auto_or_amount,
        "host memory of a training (default: 80%% of the machine's or container's; 0: no limit; auto: on a "
        "cluster, what its trainer estimates)",
    )
    _add(
        group,
        "--disk-per-run",
        "GIB",
        amount,
        "files of a training (default: 20, or half of what is free; 0: no limit)",
    )
    _add(group, "--keep-free", "MIB", amount, "wait with a training until this much disk is free", 200)
    _add(
        group,
        "--wait-for-disk",
        "MIN",
        amount,
        "on a full disk wait this long, then end with exit code 4 (default: until there is space)",
    )
    group = parser.add_argument_group("several trainings")
    _add(
        group,
        "--parallel",
        "N|auto",
        auto_or_count,
        "trainings at once; auto: one a core, or as many as the GPUs hold",
        1,
    )
    _add(group, "--gpus-per-run", "F", share, "share of a GPU that a training gets, such as 0.5", 1.0)
    group.add_argument(
        "--stop-early",
        choices=("margin", "median", "off"),
        default="off",
        help="stop trainings that cannot win: far behind the best run, or worse than the median "
        "(default: off)",
    )
    group = parser.add_argument_group("search")
    add_llm_flags(group)
    _add(group, "--base-config", "FILE|NAME", str, "what run_0000 trains (default: the task's own)")
    _add(
        group,
        "--repeat-base --repeat-baseline",
        "N",
        count,
        "train the base config N more times with other seeds to measure the noise",
        2,
    )
    _add(
        group,
        "--repeats",
        "N|auto",
        _repeats,
        "trainings with fresh seeds at the end, among the best three; 0: no repeats at all "
        "(default: auto, a tenth of the runs; none below 10 runs)",
    )
    add_task_flags(parser)
    group = parser.add_argument_group("machine")
    add_data_dir(group)
    add_device(group)
    _add_launcher_flags(parser, group)
    _add_switch(
        group, "--detach", "leave trainings running when this search is stopped; the same command adopts them"
    )
    _add(group, "--threads", "N|auto", str, "CPU threads of a training (default: 1)")
    group.add_argument(
        "--sandbox",
        choices=MODES,
        help="required: train nothing that it does not hold; best: say what it does not hold (default); off",
    )


def _add_launcher_flags(parser: Parser, group: argparse._ActionsContainer) -> None:
    _add(group, "--launcher", "NAME", str, f"where trainings run: {', '.join(LAUNCHERS)}", DEFAULT_LAUNCHER)
    parser.takes_flags = ("--slurm",)
    _add(
        group,
        "--slurm",
        "FLAGS",
        str,
        'with --launcher slurm: your flags for sbatch, such as "-p gpu -A project --gres=gpu:1"',
        "",
    )
    _add(
        group,
        "--ray-address",
        "URL",
        str,
        "with --launcher ray: of the head's dashboard, such as http://127.0.0.1:8265",
    )


def _add_show_arguments(parser: Parser) -> None:
    parser.add_argument("run_id", nargs="?", metavar="RUN_ID", help="a run, for example run_0007")
    _add(parser, "--workspace", "DIR", Path, "folder of the search", Path())
    _add(parser, "--limit", "N", positive_int, "how many runs (default: 15)")
    _add_switch(parser, "--transcript", "of a run: every word exchanged with the language model")
    what = parser.add_mutually_exclusive_group()
    _add_switch(what, "--json", "for programs; all runs unless --limit is given")
    _add(what, "--plot", "FILE.png", Path, "draw the progress of the search instead")
    _add_switch(what, "--lessons", "the lessons as the language model reads them")


def _add_note_arguments(parser: Parser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TEXT",
        help='a wish, for example "try longer look-backs" (default: print)',
    )
    _add(parser, "--workspace", "DIR", Path, "folder of the search", Path())


def _add_report_arguments(parser: Parser) -> None:
    _add(parser, "--workspace", "DIR", Path, "folder of the search", Path())
    _add(
        parser, "--out", "FILE.html", _html_file, "the file to write (default: report.html in the workspace)"
    )
    parser.add_argument(
        "--watch",
        type=seconds_between(0.2, 3600),
        nargs="?",
        const=WATCH_S,
        metavar="SECONDS",
        help=f"keep the file up to date until the search ends, looking every {WATCH_S:g} seconds",
    )


def _repeats(text: str) -> int | None:
    """Read a number of trainings; None for `auto`."""
    return None if text == "auto" else count(text)


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
    _add_switch(parser, "--lenient", "take answers by run, node and attempt, without comparing the prompts")
    _add(parser, "--prompts", "DIR", Path, "folder of prompt templates (default: the program's own)")


def _add_doctor_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("language model")
    add_llm_flags(group)
    _add(
        parser,
        "--workspace",
        "DIR",
        Path,
        "folder whose .env is read, and that a cluster's nodes see",
        Path(),
    )
    group = parser.add_argument_group("cluster", "with a launcher, it is checked in the place of the model")
    _add_launcher_flags(parser, group)
    _add(group, "--device", "NAME", str, "that trainings are to use", "auto")
    _add(group, "--threads", "N", str, "CPU threads of a training (default: 1)")
    _add(group, "--gpus-per-run", "F", share, "share of a GPU that a training gets, such as 0.5", 1.0)
    group.add_argument("--sandbox", choices=MODES, help="mode of the sandbox (default: best)")


def _add_space_arguments(parser: Parser) -> None:
    parser.add_argument(
        "family", nargs="?", metavar="FAMILY", help="a family, for example linear (default: all)"
    )
    form = parser.add_mutually_exclusive_group()
    _add_switch(form, "--markdown", "as tables of a Markdown file")
    _add_switch(form, "--json", "for programs")


COMMANDS = {
    "run": Command("start or continue a search", "nas_agent_graph.run:main", _add_run_arguments),
    "compare": Command(
        "search with several proposers and seeds, and compare what they find",
        "nas_agent_graph.compare.command:main",
        _add_compare_arguments,
    ),
    "show": Command(
        "show a search or one of its runs, also while the search runs",
        "nas_agent_graph.show.views:show",
        _add_show_arguments,
    ),
    "note": Command(
        "tell the language model a wish, also while the search runs; without text print the notes",
        "nas_agent_graph.note.page:note",
        _add_note_arguments,
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
        "check the language model's settings with a few small calls, or a cluster with a small job",
        "nas_agent_graph.doctor:check",
        _add_doctor_arguments,
    ),
    "space": Command(
        "print the search space: every parameter that a proposal may change, with its bounds",
        "nas_agent_graph.space.page:print_space",
        _add_space_arguments,
    ),
    "predict": Command(
        "forecast the future with a finished run",
        "nas_system.predict:main",
        needs={"backtest": "nas_agent_graph.handover.backtest:run_backtest"},
    ),
    "train": Command("train one configuration", "nas_system.train:main"),
    "describe": Command("measure a task's data and its baselines", "nas_system.describe:main"),
    "score": Command("score a finished run on the hold-out set", "nas_system.score:main"),
}


if __name__ == "__main__":
    sys.exit(main())
