"""Finds the JSON objects in a text, also where they are written as people and programs write them.

What is clear is read: comments, trailing commas, single quotes, `.003`, `True` and `None`, names without
quotes, line breaks in strings. What is not is no object: a missing comma or quote, two values for one
name (an error of its own), an object that breaks off.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from nas_system.errors import ProposalError
from nas_system.nas_agent.log_text import one_line

DEEPEST = 100
"""Levels of nesting; what is deeper is no proposal."""
_LONGEST_INTEGER = 309
_MOST_READINGS = 16
_FEW_LETTERS = 4_000_000
"""A text is given up once more letters than this, and each that often, have been looked at in vain."""
_START = re.compile(r"""\{(?=\s*["'}/#A-Za-z_])|\[(?=\s*\{)""")
_BLANKS = re.compile(r"(?:\s++|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/|\#[^\n]*+)*+")
"""And comments. Possessive, as below: nothing is tried a second way."""
_TOKEN = re.compile(
    r"""(?P<mark>[{}\[\]:,])
    |(?P<double>"(?:[^"\\]|\\.)*+")
    |(?P<single>'(?:[^'\\]|\\.)*+')
    |(?P<number>[+-]?(?:(?:0|[1-9]\d*+)(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?)(?![\w.])
    |(?P<word>-?[A-Za-z_$][\w$]*+)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_IN_SINGLE = re.compile(r'\\(.)|"', re.DOTALL)


class _BreaksOff(Exception):
    """Text that is no JSON value. `left_open` are the places of the objects and lists that it began."""

    def __init__(self, left_open: list[int], end: int) -> None:
        super().__init__(end)
        self.left_open = left_open
        self.end = end


def objects_in(text: str) -> Iterator[Any]:
    """Yield every object, and every list of objects, that is not inside another one.

    An object that breaks off is read once, and so is everything that it left open: those objects break
    off at the same place. Raises ProposalError for a name that occurs twice in one object.
    """
    broken: set[int] = set()
    start, left = 0, max(_FEW_LETTERS, _MOST_READINGS * len(text))
    while found := _START.search(text, start):
        start = found.start()
        if left < 0:
            raise ProposalError(
                "the answer holds many objects that break off; answer with one JSON object and nothing else"
            )
        if start in broken:
            start += 1
            continue
        try:
            value, end, depth = _value_at(text, start)
        except _BreaksOff as error:
            broken.update(error.left_open)
            left -= error.end - start
            start += 1
            continue
        left -= end - start
        start = end
        if depth <= DEEPEST:
            yield value


def literal(text: str) -> Any:
    """Parse a string that holds a literal ("128" is 128, ".5" is 0.5, "True" is true); any other string is
    itself."""
    try:
        return json.loads(text, parse_int=_integer)
    except (RecursionError, ValueError):
        pass
    found = _TOKEN.fullmatch(text.strip())
    if found is None or found["mark"] or found["double"]:
        return text
    if found["word"]:
        return _WORDS.get(found["word"], text)
    return _scalar(found)


def _value_at(text: str, start: int) -> tuple[Any, int, int]:
    """Return the object or list that starts here, its end and its depth; raises _BreaksOff.

    Without recursion: a text may open any number of levels.
    """
    places: list[int] = []
    containers: list[list[Any]] = []
    names: list[str | None] = []
    """Of each open object, the name that waits for its value."""
    expected = "value"
    """value, name, colon, or next: a comma or the end. `value?` and `name?`: the end may come instead."""
    place, deepest = start, 0
    while True:
        blank = _BLANKS.match(text, place)
        place = blank.end() if blank else place
        token = _TOKEN.match(text, place)
        if token is None:
            # A string or a comment without an end was looked for up to the end of the text.
            endless = text.startswith(("'", '"', "/*"), place)
            raise _BreaksOff(places, len(text) if endless else place)
        place = token.end()
        mark = token["mark"]
        value: Any
        if mark in ("{", "[") and expected in ("value", "value?"):
            places.append(place - 1)
            containers.append([])
            names.append(None)
            deepest = max(deepest, len(places))
            expected = "name?" if mark == "{" else "value?"
            continue
        if mark in ("}", "]") and expected in ("name?", "value?", "next"):
            if (text[places[-1]] == "{") != (mark == "}"):
                raise _BreaksOff(places, place)
            opened = places.pop()
            items = containers.pop()
            names.pop()
            value = _object(items) if text[opened] == "{" else items
            if not places:
                return value, place, deepest
        elif mark == "," and expected == "next":
            expected = "name?" if text[places[-1]] == "{" else "value?"
            continue
        elif mark == ":" and expected == "colon":
            expected = "value"
            continue
        elif expected == "name?" and (name := _name(token)) is not None:
            names[-1] = name
            expected = "colon"
            continue
        elif mark is None and expected in ("value", "value?") and _is_scalar(token):
            value = _scalar(token)
        else:
            raise _BreaksOff(places, place)
        containers[-1].append((names[-1], value) if text[places[-1]] == "{" else value)
        expected = "next"


def _name(token: re.Match[str]) -> str | None:
    if token["word"] and not token["word"].startswith("-"):
        return token["word"]
    name = _scalar(token) if token["double"] or token["single"] else None
    return name if isinstance(name, str) else None


def _is_scalar(token: re.Match[str]) -> bool:
    return not token["word"] or token["word"] in _WORDS


def _scalar(token: re.Match[str]) -> Any:
    """Return the value of a string, a number or a word; a string with an escape of no meaning is kept."""
    if token["word"]:
        return _WORDS[token["word"]]
    if number := token["number"]:
        return float(number) if any(letter in number for letter in ".eE") else _integer(number)
    quoted = token["double"] or '"' + _IN_SINGLE.sub(_in_double, token["single"][1:-1]) + '"'
    try:
        return json.loads(quoted, strict=False)
    except ValueError:
        return quoted[1:-1]


def _in_double(piece: re.Match[str]) -> str:
    if piece[0] == '"':
        return '\\"'
    return "'" if piece[1] == "'" else piece[0]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, unless a name occurs twice: which of the two is meant is unknown."""
    value = dict(pairs)
    if len(value) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise ProposalError(
            f"the name {one_line(twice, 100)!a} occurs twice in one JSON object; give it once"
        )
    return value


def _integer(text: str) -> int | float:
    """Parse an integer; one beyond any float becomes infinite and is refused as that.

    Python itself parses no number of 5,000 digits.
    """
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)
