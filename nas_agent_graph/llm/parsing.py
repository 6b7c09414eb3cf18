"""From a model's text to changes. What cannot be read is refused with a sentence it can act on."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas_system.errors import ProposalError
from nas_system.space import Change

MAX_ANSWER_CHARACTERS = 100_000


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
    # Reasoning models think aloud first; what counts comes after.
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    raise ProposalError(
        "no JSON object was found in the answer; answer with one JSON object and nothing else"
    )


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
