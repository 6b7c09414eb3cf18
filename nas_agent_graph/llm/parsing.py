"""Parses a model's text into changes. What is invalid is refused with a sentence the model can act on.

An answer is one proposal, or `{"candidates": [...]}` with up to MOST_CANDIDATES of them, best first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from nas_agent_graph.llm.answer import BROKEN_STREAM, Answer
from nas_agent_graph.llm.answer_formats import DEFAULT_METRIC, MOST_CANDIDATES
from nas_agent_graph.llm.reading.objects import literal, objects_in
from nas_agent_graph.llm.reading.thoughts import without_thoughts
from nas_system.errors import ProposalError
from nas_system.nas_agent.log_text import one_line
from nas_system.space import Change

MAX_ANSWER_CHARACTERS = 100_000
CUT_OFF = ("length", "max_tokens", "model_length")
_FILTERED = ("content_filter", "safety", "sensitive")
_QUOTED_CHARACTERS = 300
_MOST_PROPOSALS = 10
_MOST_REASONS = 20
"""Against candidates of one answer; what comes behind is not read."""
_MOST_WRAPPERS = 3
"""Objects that may stand around a proposal: `{"answer": {"proposal": {...}}}`."""
_OF_A_PROPOSAL = ("changes", "repeat", "candidates")
_FIELDS = ("repeat", "parent", "changes", "hypothesis")


class _WireChange(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parameter: str = Field(max_length=100)
    value: Any

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse values that no parameter can have before they are stored: our files are strict JSON."""
        value = _meant(self.value)
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
    places: tuple[int, ...] = (1,)
    """In the answer, from 1, those counted that are left out."""

    @classmethod
    def of(
        cls, kept: Sequence[ParsedAnswer], dropped: Sequence[str] = (), places: Sequence[int] = (1,)
    ) -> Candidates:
        """Build from the good candidates with their places, and the reasons against the others."""
        found = cls(kept)
        found.dropped, found.places = tuple(dropped), tuple(places)
        return found


def read_answer(answer: Answer, metric: str = DEFAULT_METRIC) -> ParsedAnswer:
    """Return the proposal in an answer about a task of this metric, the best of several candidates.

    Raises ProposalError that says what is wrong with the answer or its transport.
    """
    return _read(answer, metric, ranked=False)[0]


def read_candidates(answer: Answer, metric: str = DEFAULT_METRIC) -> Candidates:
    """Return the proposals in an answer about a task of this metric: one at least, best first.

    A malformed one among good ones is left out, its reason kept. Raises ProposalError that says what is
    wrong with the answer or its transport, or with the first candidate where none is good.
    """
    return _read(answer, metric, ranked=True)


def _read(answer: Answer, metric: str, *, ranked: bool) -> Candidates:
    if answer.garbled is not None:
        raise ProposalError(f"the service's reply was no chat completion ({_quoted(answer.garbled)})")
    ended = (answer.finish_reason or "").lower()
    if answer.refusal is not None or ended == "refusal":
        raise ProposalError(
            f"the model refused to answer: {_quoted(answer.refusal or answer.text) or 'it gave no reason'}"
        )
    if ended in _FILTERED:
        raise ProposalError("the service's content filter stopped the answer; say it in other words")
    try:
        return parse_candidates(answer.text, metric, ranked=ranked)
    except ProposalError:
        if ended in CUT_OFF:
            thoughts = f", {answer.reasoning_tokens} of them thoughts" if answer.reasoning_tokens else ""
            raise ProposalError(
                f"the answer was cut off after {answer.output_tokens} tokens{thoughts}, before its JSON "
                "object was complete; think less and answer with one short JSON object"
            ) from None
        if ended == BROKEN_STREAM:
            raise ProposalError(
                "the service's stream broke off before the JSON object was complete; answer again, briefly"
            ) from None
        if not answer.text.strip():
            raise ProposalError(
                "the answer is empty: no JSON object was found in it; answer with one JSON object"
            ) from None
        raise


def parse_answer(text: str, metric: str = DEFAULT_METRIC) -> ParsedAnswer:
    """Parse the best proposal in `text`. Raises ProposalError that says what is wrong with it."""
    return parse_candidates(text, metric, ranked=False)[0]


def parse_candidates(text: str, metric: str = DEFAULT_METRIC, *, ranked: bool = True) -> Candidates:
    """Parse the one JSON object in `text`; with `ranked` a list of proposals counts as candidates.

    Raises ProposalError that says what is wrong with it.
    """
    found = _json_object(text, ranked=ranked)
    if "candidates" not in found:
        return Candidates.of([_parsed(found, metric)])
    listed = found["candidates"]
    if not isinstance(listed, list) or not listed:
        raise ProposalError("candidates: this is a list of one proposal or more, the best one first")
    kept: list[ParsedAnswer] = []
    places: list[int] = []
    dropped: list[str] = []
    for place, candidate in enumerate(listed, start=1):
        try:
            kept.append(_candidate(candidate, place, kept, metric))
            places.append(place)
        except ProposalError as error:
            dropped.append(f"candidate {place}: {error}")
            if len(dropped) == _MOST_REASONS:
                break
    if not kept:
        raise ProposalError(dropped[0])
    return Candidates.of(kept, dropped, places)


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
        model = _wire_model(expected, repeat=found.get("repeat") is True)
        wire = model.model_validate(_as_asked(found, expected))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: "
            f"{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)[:5]
        ]
        raise ProposalError("the JSON object does not fit: " + "; ".join(problems)) from None
    return ParsedAnswer(
        parent=wire.parent,
        changes=tuple(Change(parameter=c.parameter, value=_meant(c.value)) for c in wire.changes),
        hypothesis=wire.hypothesis,
        expected_score=getattr(wire, expected),
        repeat=wire.repeat,
    )


def _json_object(text: str, *, ranked: bool) -> dict[str, Any]:
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise ProposalError(
            f"the answer has more than {MAX_ANSWER_CHARACTERS} characters; answer with one small JSON object"
        )
    first: dict[str, Any] | None = None
    proposals: list[dict[str, Any]] = []
    for found_value in objects_in(without_thoughts(text)):
        value = {"candidates": found_value} if ranked and _is_ranking(found_value) else found_value
        first = first or next((item for item in _items(value) if isinstance(item, dict)), None)
        # Next to a proposal, any other object is part of the prose around it.
        for proposal in _proposals_in(value, _MOST_WRAPPERS):
            if proposal not in proposals:
                proposals.append(proposal)
            if len(proposals) == _MOST_PROPOSALS:
                break
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


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_ranking(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "changes" in item for item in value)


def _proposals_in(value: Any, wrappers: int) -> Iterator[dict[str, Any]]:
    """Yield the proposals in a value that may wrap them."""
    if isinstance(value, list):
        for item in value:
            yield from _proposals_in(item, wrappers)
    elif isinstance(value, dict):
        if any(name in value for name in _OF_A_PROPOSAL):
            yield value
        elif wrappers:
            for inner in value.values():
                yield from _proposals_in(inner, wrappers - 1)


def _as_asked(found: Mapping[str, Any], expected: str) -> dict[str, Any]:
    """Return the proposal in the format that was asked for, where its own leaves no doubt.

    A name that nobody asked for is left out, unless it holds an object: that could be a change.
    """
    plain = {
        name: value for name, value in found.items() if name in (*_FIELDS, expected) or _holds_object(value)
    }
    if isinstance(plain.get(expected), str):
        plain[expected] = _number_in(plain[expected])
    if isinstance(plain.get("changes"), dict):
        plain["changes"] = _listed(plain["changes"])
    if isinstance(plain.get("changes"), list):
        plain["changes"] = [_change(item) for item in plain["changes"]]
    return plain


def _listed(changes: Mapping[str, Any]) -> list[Any]:
    """Return changes that are written as one object: `{"training.lr": 0.003}`, or by groups, or a change."""
    if "parameter" in changes and "value" in changes:
        return [changes]
    listed: list[Any] = []
    for name, value in changes.items():
        inside = value.items() if isinstance(value, dict) and "." not in name else ()
        listed += [{"parameter": f"{name}.{inner}", "value": it} for inner, it in inside]
        if not inside:
            listed.append({"parameter": name, "value": value})
    return listed


def _change(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    if len(item) == 1 and "parameter" not in item and "value" not in item:
        ((name, value),) = item.items()
        return {"parameter": name, "value": value}
    known = {"parameter", "value"}
    return {name: value for name, value in item.items() if name in known or _holds_object(value)}


def _holds_object(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_object(item) for item in value)
    return isinstance(value, dict)


def _number_in(text: str) -> Any:
    """Return the number that a string holds, else the string."""
    value = literal(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number or value is None else text


def _quoted(text: str) -> str:
    return " ".join(text.split())[:_QUOTED_CHARACTERS]


def _spelled(value: Any) -> str:
    """Return a value as the model wrote it: `1e999` parses as infinity."""
    return one_line(value, 40) if isinstance(value, str) else json.dumps(value)


def _meant(value: Any) -> Any:
    """Return the value of a change: a string that holds a literal ("128" is 128) stands for it."""
    return literal(value) if isinstance(value, str) else value
