"""What flows along the edges of the graph: a working paper for one round, plain JSON only.

The truth is `agent_state.json` and `runs/`; this is rebuilt from it at every start.
"""

from __future__ import annotations

from typing import Any

# pydantic, which draws the form in LangGraph Studio, takes only this one before Python 3.12.
from typing_extensions import TypedDict


class SearchState(TypedDict):
    """One round: which run, what was proposed, how it went."""

    run_id: str
    attempt: int
    """Refused proposals so far for this run."""
    proposal: dict[str, Any] | None
    refusal: str | None
    """Why the last proposal was refused; goes back to the proposer."""
    outcome: dict[str, Any] | None
    summary: str
    end: str | None
    """Why the search has ended, None while it goes on."""


def initial_state() -> SearchState:
    """The whole start state: LangGraph ignores defaults of a TypedDict."""
    return SearchState(run_id="", attempt=0, proposal=None, refusal=None, outcome=None, summary="", end=None)
