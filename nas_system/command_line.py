"""What all command lines share: the parser, the types of arguments, and how a command ends.

Loads nothing beyond the standard library, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from nas_system.errors import ConfigError, NasError

T = TypeVar("T", int, float)
INTERRUPTED = 130
"""Exit code after Ctrl-C (SIGINT), as shells have it."""


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(ConfigError.exit_code, f"error: {message}; see --help\n")


def exit_code_of(work: Callable[[], int | None]) -> int:
    """Return the exit code of `work`: the one it returns (None is 0), or that of the NasError it raised."""
    code = 0
    try:
        code = work() or 0
        sys.stdout.flush()
    except NasError as error:
        code = error.exit_code
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:
        # `... | head`: the reader has seen enough. Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        code = INTERRUPTED
    return code


def choose_command(
    parser: Parser, commands: Mapping[str, str], argv: Sequence[str] | None
) -> tuple[str, list[str]]:
    """Return the command that `argv` begins with, and the arguments after it.

    `commands` says what each does; `--help` lists them. Ends the program (SystemExit) at any other word.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in commands.items()]
    parser.epilog = "\n".join(["commands (each has a --help of its own):", *lines])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = f"{parser.prog} COMMAND [options]"
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    name = parser.parse_args(words[:1]).command
    if name not in commands:
        which = "which command?" if name is None else f"there is no command {name!r};"
        parser.error(f"{which} choose from: {', '.join(commands)}")
    return name, words[1:]


# --- arguments of several commands ----------------------------------------------------------


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="folder with ETTh1.csv, or with the files of ZINC (default: $NAS_DATA_DIR, cache, download)",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda:N", default="auto", help="where to compute (default: auto)"
    )


# --- types of arguments ---------------------------------------------------------------------


def positive_int(text: str) -> int:
    return _number(text, int, lambda value: value >= 1, "a whole number of 1 or more")


def count(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "a whole number of 0 or more")


def positive(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def amount(text: str) -> float:
    return _number(text, float, lambda value: 0 <= value < float("inf"), "a number of 0 or more")


def threads(text: str) -> int | None:
    """Read a number of threads; `auto` is None."""
    if text == "auto":
        return None
    return _number(text, int, lambda value: value >= 1, "auto or a whole number of 1 or more")


def seconds_between(low: float, high: float) -> Callable[[str], float]:
    """Return the type of a duration from `low` to `high` seconds, bounds included."""
    return lambda text: _number(
        text, float, lambda value: low <= value <= high, f"a number of seconds from {low:g} to {high:g}"
    )


def _number(text: str, kind: Callable[[str], T], fits: Callable[[T], bool], wanted: str) -> T:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
