"""What the commands of Netformer share: their parser, and an argument type for counts."""

from __future__ import annotations

import argparse
from typing import NoReturn

from nas_system.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse with this project's message and exit code for a bad flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(ConfigError.exit_code, f"error: {message}\n")


def command_parser(command: str, module_doc: str | None) -> Parser:
    """Return a command's parser, described by the first line of the command's module."""
    return Parser(
        prog=f"python -m nas_system.netformer {command}",
        description=(module_doc or "").splitlines()[0],
        allow_abbrev=False,
    )


def count(text: str) -> int:
    """Parse a whole number of 1 or more. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)
