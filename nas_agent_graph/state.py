"""What flows along the edges of the graph: the state of one round, plain JSON only.

The truth is `agent_state.json` and `runs/`; this is rebuilt from it at every start.
"""

from __future__ import annotations

from typing import Any, NotRequired

# pydantic, which draws the form in LangGraph Studio, takes only this one before Python 3.12.
from typing_extensions import TypedDict

from nas_agent_graph.acceptance import VerifiedRecord
from nas_agent_graph.search_view import ProposalRecord


class OutcomeRecord(TypedDict):
    """How the training ended."""

    status: str
    cause: str | None
    val_score: float | None
    test_score: float | None
    seconds: float | None
    attempt: int
    noise: float | None
    """Standard deviation of the score over the run's repeats; None below two scores."""
    noise_runs: int
    verified: list[VerifiedRecord]
    """Scores that were computed again; empty if none had to be."""
    repeats: NotRequired[list[dict[str, Any]]]
    """As `RepeatInfo`: of the first run the base config's repeats, of a repeat itself."""


StateUpdate = dict[str, object]
"""The keys of a `SearchState` that a node has changed."""


class SearchState(TypedDict):
    """One round: which run, what was proposed, how it went; and which other runs are training meanwhile."""

    run_id: str
    """Empty where no run can begin now; of a repeat, its folder within that of all runs."""
    attempt: int
    """Refused proposals so far for this run."""
    proposal: ProposalRecord | None
    refusal: str | None
    """Why the last proposal was refused; goes back to the proposer."""
    outcome: OutcomeRecord | None
    summary: str
    launched: dict[str, ProposalRecord | None]
    """Runs and repeats that are training, or wait for the parser of their results, and what was proposed for
    them: nothing for a repeat."""
    postponed: bool
    """Whether no proposal could come now, and nothing begins before another run has ended."""
    thinking: bool
    """Whether the model has been asked about this run, and others begin until it has answered."""
    repeat_asked: bool
    """Whether the answer was to repeat an earlier run, which begins in the place of this one."""
    to_repeat: bool
    """Whether a repeat is due, before which the search does not end."""
    end: str | None
    """Why nothing new begins, None while the search goes on."""


def initial_state() -> SearchState:
    """Return the whole start state: LangGraph ignores defaults of a TypedDict."""
    return SearchState(
        run_id="",
        attempt=0,
        proposal=None,
        refusal=None,
        outcome=None,
        summary="",
        launched={},
        postponed=False,
        thinking=False,
        repeat_asked=False,
        to_repeat=False,
        end=None,
    )
