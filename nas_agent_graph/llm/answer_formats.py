"""Three ways to ask for JSON, the strictest first; a server is asked in the first that it supports.

A strict schema demands that every field is required and that nothing is left open: no unions but
null, no free objects, no defaults, no bounds. What a value may be stands in the prompt, and the
search space checks it.
"""

from __future__ import annotations

from nas_system.space.tasks import ForecastingTask

FORMATS = ("json_schema", "json_object", "prompt")
DEFAULT_METRIC = ForecastingTask().metric
"""What is predicted in a call that belongs to no search."""
MOST_CANDIDATES = 5
"""Proposals that are read of one answer."""


def proposal_schema(metric: str, *, may_repeat: bool = False) -> dict[str, object]:
    """Return the JSON schema of an answer, which predicts the task's metric; with `may_repeat` it says
    whether its parent is to be trained once more."""
    expected = f"expected_{metric}"
    repeat = {"type": "boolean", "description": "train the parent once more with another seed, no changes"}
    return {
        "type": "object",
        "properties": {
            **({"repeat": repeat} if may_repeat else {}),
            "parent": {"type": "string", "description": "the run whose configuration this starts from"},
            "changes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "parameter": {"type": "string", "description": "a name from the search space"},
                        "value": {"type": "string", "description": "the new value as a JSON literal"},
                    },
                    "required": ["parameter", "value"],
                    "additionalProperties": False,
                },
            },
            "hypothesis": {"type": "string", "description": f"why this should improve {metric}"},
            expected: {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": [*(["repeat"] if may_repeat else []), "parent", "changes", "hypothesis", expected],
        "additionalProperties": False,
    }


def candidates_schema(metric: str, most: int, *, may_repeat: bool = False) -> dict[str, object]:
    """Return the JSON schema of an answer of up to `most` proposals."""
    ranked = {
        "type": "array",
        "description": f"one to {most} proposals, the most promising first",
        "items": proposal_schema(metric, may_repeat=may_repeat),
    }
    return {
        "type": "object",
        "properties": {"candidates": ranked},
        "required": ["candidates"],
        "additionalProperties": False,
    }


_FORMAT_TERMS = (
    "response_format",
    "response format",
    "json_schema",
    "json schema",
    "json_object",
    "json mode",
    "schema",
    "grammar",
    "structured output",
    "guided",
)


def request_fields(
    answer_format: str, metric: str, *, may_repeat: bool = False, candidates: int = 1
) -> dict[str, object]:
    """Return what a request carries in addition to its messages; with more than one of `candidates` it asks
    for that many ranked proposals at most."""
    if answer_format == "json_schema":
        if candidates > 1:
            schema = candidates_schema(metric, candidates, may_repeat=may_repeat)
            named = {"name": "proposals", "strict": True, "schema": schema}
        else:
            schema = proposal_schema(metric, may_repeat=may_repeat)
            named = {"name": "proposal", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if answer_format == "json_object":
        return {"response_format": {"type": "json_object"}}
    return {}


def concerns_format(status: int | None, param: object, message: str) -> bool:
    """Return whether a refused request may pass with a simpler format.

    A bad request that does not say what is bad counts: asking once more costs no tokens.
    """
    named = any(term in message.lower() or term in str(param or "").lower() for term in _FORMAT_TERMS)
    if status in (400, 422):
        return named or not param
    return named and status in (500, 501)
