"""What all command lines share: the parser, the types of arguments, and how a command ends.

Loads nothing beyond the standard library, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from nas_system.errors import ConfigError, NasError, SearchPaused, advice_on_limit

T = TypeVar("T", int, float)
INTERRUPTED = 130
"""Exit code after Ctrl-C (SIGINT), as shells have it."""


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line.

    The value of a flag in `takes_flags` may begin with a dash (`--slurm --gres=gpu:1`).
    """

    takes_flags: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does."""
        words = list(sys.argv[1:] if args is None else args)
        for place in range(len(words) - 1, 0, -1):
            if words[place - 1] in self.takes_flags and words[place].startswith("-"):
                words[place - 1 : place + 1] = [f"{words[place - 1]}={words[place]}"]
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(ConfigError.exit_code, f"error: {message}; see --help\n")


def exit_code_of(work: Callable[[], int | None]) -> int:
    """Return the exit code of `work`: the one it returns (None is 0), or that of the NasError it raised.

    Where the machine refuses something (OSError) that is said in one line, too; a reader who has seen
    enough (`| head`) ends it without a word.
    """
    open_closed_streams()
    try:
        code = _ended(work)
    finally:
        failed = _flush()
    return code or failed


def _ended(work: Callable[[], int | None]) -> int:
    try:
        return work() or 0
    except NasError as error:
        complain(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        return 0
    except OSError as error:
        complain(f"error: {refusal(error)}")
        return SearchPaused.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _flush() -> int:
    """Write out what is left for stdout; return an exit code for what could not be written."""
    try:
        sys.stdout.flush()
        return 0
    except OSError as error:
        # Python would try it once more, and complain, while it exits.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0
        complain(f"error: the output cannot be written: {refusal(error)}")
        return SearchPaused.exit_code


def complain(text: str) -> None:
    """Print to stderr, if that is still there, after all that was printed before; `text` may quote a file."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        print(harmless(text), file=sys.stderr, flush=True)


def harmless(text: str) -> str:
    """Return lines of any origin without what a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def refusal(error: OSError) -> str:
    """Return what the machine refuses, where, and what to do if it refuses it to anybody."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = advice_on_limit(error.errno)
    return f"{where}{error.strerror or error}" + (f"; {advice}" if advice else "")


def open_closed_streams() -> None:
    """Let standard streams that are closed (`>&-`) lead nowhere.

    Else the next file that is opened would take the number of one, and with it what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


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
    return _number(text, float, _is_amount, "a number of 0 or more")


def _is_amount(value: float) -> bool:
    return 0 <= value < float("inf")


def auto_or_amount(text: str) -> float | str:
    """Read `auto`, or a number of 0 or more."""
    return text if text == "auto" else _number(text, float, _is_amount, "auto or a number of 0 or more")


def threads(text: str) -> int | None:
    """Read a number of threads; `auto` is None."""
    if text == "auto":
        return None
    return _number(text, int, lambda value: value >= 1, "auto or a whole number of 1 or more")


def auto_or_count(text: str) -> int | str:
    """Read `auto`, or a number of things at once."""
    if text == "auto":
        return text
    return _number(text, int, lambda value: 1 <= value <= 1000, "auto or a whole number from 1 to 1000")


def share(text: str) -> float:
    """Read a share above 0, 1 included."""
    return _number(text, float, lambda value: 0 < value <= 1, "a number above 0 and at most 1")


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
