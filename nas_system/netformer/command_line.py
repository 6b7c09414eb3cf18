"""The parser that the commands of Netformer share."""

from __future__ import annotations

from nas_system.command_line import Parser


def command_parser(command: str, module_doc: str | None) -> Parser:
    """Return the parser of one command; its description is the first line of the command's module."""
    return Parser(
        prog=f"python -m nas_system.netformer {command}",
        description=(module_doc or "").splitlines()[0],
        allow_abbrev=False,
    )
