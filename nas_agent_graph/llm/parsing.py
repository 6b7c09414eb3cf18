"""Parses a model's text into changes. What is invalid is refused with a sentence the model can act on.

An answer is one proposal, or `{"candidates": [...]}` with up to MOST_CANDIDATES of them, best first.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.answer_formats import DEFAULT_METRIC, MOST_CANDIDATES
from nas_system.errors import ProposalError
from nas_system.nas_agent.log_text import one_line
from nas_system.space import Change

MAX_ANSWER_CHARACTERS = 100_000
_CUT_OFF = ("length", "max_tokens", "model_length")
_QUOTED_CHARACTERS = 300
_LONGEST_INTEGER = 309
_MOST_PROPOSALS = 10
_MOST_REASONS = 20
"""Against candidates of one answer; what comes behind is not read."""
_DEEP = 500
"""Levels of nesting that no proposal has. The decoder gives up at about a thousand."""
_STRIDE = 4096
_OBJECT_START = re.compile(r'\{(?=[ \t\n\r]*["}])')
_NESTING = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, whole or cut off, and brackets."""
_THOUGHT_TAG = re.compile(r"(</?think(?:ing)?>)")


class _WireChange(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parameter: str = Field(max_length=100)
    value: Any

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse values that no parameter can have before they are stored: our files are strict JSON."""
        value = _literal(self.value)
        if isinstance(value, list | dict):
            raise ValueError(f"the value of {self.parameter!a} is a {type(value).__name__}; give one value")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"the value of {self.parameter!a} is {_spelled(self.value)}; use a finite number"
            )
        return self


class _WireProposal(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parent: str = Field(max_length=64)
    changes: list[_WireChange] = Field(min_length=1, max_length=40)
    hypothesis: str = Field(max_length=2000)
    repeat: Literal[False] = False


class _WireRepeat(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    repeat: Literal[True]
    parent: str = Field(max_length=64)
    changes: list[_WireChange] = Field(default_factory=list, max_length=0)
    hypothesis: str = Field(max_length=2000)


@cache
def _wire_model(expected: str, *, repeat: bool) -> type[_WireProposal | _WireRepeat]:
    """Return the model of an answer whose prediction is called `expected`."""
    prediction: Any = (float | None, Field(default=None, allow_inf_nan=False))
    base = _WireRepeat if repeat else _WireProposal
    return create_model(base.__name__, __base__=base, **{expected: prediction})


class ParsedAnswer(BaseModel):
    """A proposal as the language model meant it."""

    parent: str
    changes: tuple[Change, ...]
    hypothesis: str
    expected_score: float | None
    repeat: bool = False
    """Whether its parent is to be trained once more with another seed."""


class Candidates(tuple[ParsedAnswer, ...]):
    """The proposals of one answer, best first."""

    dropped: tuple[str, ...] = ()
    """What is wrong with each that is left out."""

    @classmethod
    def of(cls, kept: Sequence[ParsedAnswer], dropped: Sequence[str] = ()) -> Candidates:
        """Build from the good candidates and the reasons against the others."""
        found = cls(kept)
        found.dropped = tuple(dropped)
        return found


def read_answer(answer: Answer, metric: str = DEFAULT_METRIC) -> ParsedAnswer:
    """Return the proposal in an answer about a task of this metric, the best of several candidates.

    Raises ProposalError that says what is wrong with the answer or its transport.
    """
    return read_candidates(answer, metric)[0]


def read_candidates(answer: Answer, metric: str = DEFAULT_METRIC) -> Candidates:
    """Return the proposals in an answer about a task of this metric: one at least, best first.

    A malformed one among good ones is left out, its reason kept. Raises ProposalError that says what is
    wrong with the answer or its transport, or with the first candidate where none is good.
    """
    if answer.garbled is not None:
        raise ProposalError(f"the service's reply was no chat completion ({_quoted(answer.garbled)})")
    if answer.refusal is not None or answer.finish_reason == "refusal":
        raise ProposalError(
            f"the model refused to answer: {_quoted(answer.refusal or answer.text) or 'it gave no reason'}"
        )
    if answer.finish_reason == "content_filter":
        raise ProposalError("the service's content filter stopped the answer; say it in other words")
    try:
        return parse_candidates(answer.text, metric)
    except ProposalError:
        if answer.finish_reason in _CUT_OFF:
            thoughts = f", {answer.reasoning_tokens} of them thoughts" if answer.reasoning_tokens else ""
            raise ProposalError(
                f"the answer was cut off after {answer.output_tokens} tokens{thoughts}, before its JSON "
                "object was complete; think less and answer with one short JSON object"
            ) from None
        if not answer.text.strip():
            raise ProposalError(
                "the answer is empty: no JSON object was found in it; answer with one JSON object"
            ) from None
        raise


def parse_answer(text: str, metric: str = DEFAULT_METRIC) -> ParsedAnswer:
    """Parse the best proposal in `text`. Raises ProposalError that says what is wrong with it."""
    return parse_candidates(text, metric)[0]


def parse_candidates(text: str, metric: str = DEFAULT_METRIC) -> Candidates:
    """Parse the one JSON object in `text`. Raises ProposalError that says what is wrong with it."""
    found = _json_object(text)
    if "candidates" not in found:
        return Candidates.of([_parsed(found, metric)])
    listed = found["candidates"]
    if not isinstance(listed, list) or not listed:
        raise ProposalError("candidates: this is a list of one proposal or more, the best one first")
    kept: list[ParsedAnswer] = []
    dropped: list[str] = []
    for place, candidate in enumerate(listed, start=1):
        try:
            kept.append(_candidate(candidate, place, kept, metric))
        except ProposalError as error:
            dropped.append(f"candidate {place}: {error}")
            if len(dropped) == _MOST_REASONS:
                break
    if not kept:
        raise ProposalError(dropped[0])
    return Candidates.of(kept, dropped)


def _candidate(candidate: Any, place: int, before: Sequence[ParsedAnswer], metric: str) -> ParsedAnswer:
    if place > MOST_CANDIDATES:
        raise ProposalError(f"only the first {MOST_CANDIDATES} are read")
    if not isinstance(candidate, dict):
        raise ProposalError("it is no JSON object")
    parsed = _parsed(candidate, metric)
    if any((parsed.parent, parsed.changes) == (other.parent, other.changes) for other in before):
        raise ProposalError("it repeats one before it")
    return parsed


def _parsed(found: Mapping[str, Any], metric: str) -> ParsedAnswer:
    expected = f"expected_{metric}"
    try:
        wire = _wire_model(expected, repeat=found.get("repeat") is True).model_validate(found)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: "
            f"{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)[:5]
        ]
        raise ProposalError("the JSON object does not fit: " + "; ".join(problems)) from None
    return ParsedAnswer(
        parent=wire.parent,
        changes=tuple(Change(parameter=c.parameter, value=_literal(c.value)) for c in wire.changes),
        hypothesis=wire.hypothesis,
        expected_score=getattr(wire, expected),
        repeat=wire.repeat,
    )


def _json_object(text: str) -> dict[str, Any]:
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise ProposalError(
            f"the answer has more than {MAX_ANSWER_CHARACTERS} characters; answer with one small JSON object"
        )
    first: dict[str, Any] | None = None
    proposals: list[dict[str, Any]] = []
    for value in _objects(_without_thoughts(text)):
        first = value if first is None else first
        # Next to a proposal, any other object is part of the prose around it.
        is_proposal = any(name in value for name in ("changes", "repeat", "candidates"))
        if is_proposal and not any(_same(value, other) for other in proposals):
            proposals.append(value)
        if len(proposals) == _MOST_PROPOSALS:
            break
    if len(proposals) > 1:
        more = " or more" if len(proposals) == _MOST_PROPOSALS else ""
        raise ProposalError(
            f"the answer holds {len(proposals)}{more} different proposals; answer with the best one alone"
        )
    found = proposals[0] if proposals else first
    if found is None:
        raise ProposalError(
            "no JSON object was found in the answer; answer with one JSON object and nothing else"
        )
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object that is not inside another one, in a time that is linear in the text.

    An object that breaks off is read once, and so is everything that it left open: those objects
    break off at the same place.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_int=_integer)
    broken: set[int] = set()
    dropped = start = 0
    while found := _OBJECT_START.search(text, start):
        start = found.start()
        if start > _STRIDE:
            # The decoder's errors count the lines from the beginning of the text.
            text, dropped, start = text[start:], dropped + start, 0
        if dropped + start in broken:
            start += 1
            continue
        try:
            value, start = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            broken.update(dropped + place for place in _left_open(text, start, error.pos))
            start += 1
        except RecursionError:
            broken.update(dropped + place for place in _left_open(text, start, len(text), _DEEP))
            start += 1
        else:
            yield value


def _left_open(text: str, start: int, end: int, deepest: int | None = None) -> list[int]:
    """Return where the objects and lists start that JSON text leaves open at `end`, or at a depth."""
    levels: list[int] = []
    for token in _NESTING.finditer(text, start, end):
        if token[0] in "]}":
            del levels[-1:]
        elif token[0] in "[{":
            levels.append(token.start())
        if len(levels) == deepest:
            break
    return levels


def _without_thoughts(text: str) -> str:
    """Strip a reasoning model's thoughts. Its template may have opened the tag already, and an answer
    that is cut off never closes it."""
    answer: list[str] = []
    thinking = False
    for number, piece in enumerate(_THOUGHT_TAG.split(text)):
        is_tag = number % 2 == 1
        if is_tag and piece.startswith("</") and not thinking:
            answer.clear()
        elif is_tag:
            thinking = not piece.startswith("</")
        elif not thinking:
            answer.append(piece)
    return "".join(answer)


def _quoted(text: str) -> str:
    return " ".join(text.split())[:_QUOTED_CHARACTERS]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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


def _same(one: Any, other: Any) -> bool:
    try:
        return one == other
    except RecursionError:
        return False


def _spelled(value: Any) -> str:
    """Return a value as the model wrote it: `1e999` parses as infinity."""
    return one_line(value, 40) if isinstance(value, str) else json.dumps(value)


def _literal(value: Any) -> Any:
    """Parse a string that holds a JSON literal ("128" is 128); any other string is itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_int=_integer)
    except (RecursionError, ValueError):
        return value
