"""From a model's text to changes. What cannot be read is refused with a sentence it can act on."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas_agent_graph.llm.answer import Answer
from nas_system.errors import ProposalError
from nas_system.space import Change

MAX_ANSWER_CHARACTERS = 100_000
_CUT_OFF = ("length", "max_tokens", "model_length")
_QUOTED_CHARACTERS = 300


class _WireChange(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parameter: str = Field(max_length=100)
    value: Any


class _WireProposal(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parent: str = Field(max_length=64)
    changes: list[_WireChange] = Field(min_length=1, max_length=40)
    hypothesis: str = Field(max_length=2000)
    expected_val_mse: float | None = None


class ParsedAnswer(BaseModel):
    """A proposal as the model meant it."""

    parent: str
    changes: tuple[Change, ...]
    hypothesis: str
    expected_val_mse: float | None


def read_answer(answer: Answer) -> ParsedAnswer:
    """The proposal in an answer. Raises ProposalError saying what is wrong with it, or with how it came."""
    if answer.garbled is not None:
        raise ProposalError(f"the service's reply was no chat completion ({_quoted(answer.garbled)})")
    if answer.refusal is not None or answer.finish_reason == "refusal":
        raise ProposalError(
            f"the model refused to answer: {_quoted(answer.refusal or answer.text) or 'it gave no reason'}"
        )
    if answer.finish_reason == "content_filter":
        raise ProposalError("the service's content filter stopped the answer; say it in other words")
    try:
        return parse_answer(answer.text)
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


def parse_answer(text: str) -> ParsedAnswer:
    """The one JSON object in `text`. Raises ProposalError saying what is wrong with it."""
    try:
        wire = _WireProposal.model_validate(_json_object(text))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: {item['msg']}"
            for item in error.errors(include_url=False)[:5]
        ]
        raise ProposalError("the JSON object does not fit: " + "; ".join(problems)) from None
    return ParsedAnswer(
        parent=wire.parent,
        changes=tuple(Change(parameter=c.parameter, value=_literal(c.value)) for c in wire.changes),
        hypothesis=wire.hypothesis,
        expected_val_mse=wire.expected_val_mse,
    )


def _json_object(text: str) -> dict[str, Any]:
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise ProposalError(f"the answer has {len(text)} characters; answer with one small JSON object")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    text, start, found = _without_thoughts(text), 0, []
    while (start := text.find("{", start)) >= 0:
        try:
            value, start = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            start += 1
            continue
        if value not in found:
            found.append(value)
    # Beside a proposal, an object that is none is part of the prose around it.
    proposals = [value for value in found if "changes" in value] or found[:1]
    if len(proposals) > 1:
        raise ProposalError(
            f"the answer holds {len(proposals)} different proposals; answer with the best one alone"
        )
    if not proposals:
        raise ProposalError(
            "no JSON object was found in the answer; answer with one JSON object and nothing else"
        )
    return proposals[0]


def _without_thoughts(text: str) -> str:
    """What a reasoning model says after it has thought aloud. Its template may have opened the thought,
    and a cut-off answer never closes it."""
    text = re.sub(r"<think(?:ing)?>.*?</think(?:ing)?>", "", text, flags=re.DOTALL)
    text = re.split(r"</think(?:ing)?>", text)[-1]
    return re.split(r"<think(?:ing)?>", text)[0]


def _quoted(text: str) -> str:
    return " ".join(text.split())[:_QUOTED_CHARACTERS]


def _refuse_constant(name: str) -> Any:
    raise ProposalError(f"{name} is not a JSON value; use a finite number")


def _literal(value: Any) -> Any:
    """A string holding a JSON literal is that literal: "128" is 128; any other string is itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError, ValueError):
        return value
