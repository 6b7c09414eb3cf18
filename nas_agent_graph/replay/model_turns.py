"""The model's turns of a hybrid search, replayed: asked when it was asked, answered when its answer was used.

Others may have begun in between. The moments are those of `pool.moments`: a question has its own in its
request's circumstances, the use of an answer in the proposal. A search that was started again with another
proposer left a turn without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.recording import moment_in, under
from nas_agent_graph.pool.moments import moment_of
from nas_agent_graph.proposers.model_turn import ModelTurn
from nas_agent_graph.replay.cassette import Cassette, CassetteClient, Exchange, answer_of
from nas_agent_graph.search_view import AnswerPending, Proposal, Proposer, SearchView
from nas_system.errors import ProposalError
from nas_system.nas_agent.ledger import Ledger


class ReplayedTurns:
    """Plays the model's turns at the moments at which they took place."""

    def __init__(
        self,
        cassette: Cassette,
        client: CassetteClient,
        turn: ModelTurn,
        *,
        ledger: Ledger,
        proposal: Callable[[str], Mapping[str, Any]],
    ) -> None:
        """`ledger` is that of the replay; `proposal` returns what the recording says of a run."""
        self._cassette, self._client, self._turn = cassette, client, turn
        self._ledger, self._proposal = ledger, proposal
        self._answers: dict[str, Answer | None] = {}

    def thinking(self) -> set[str]:
        """Return the runs whose next question, or whose answer, has not come to its moment."""
        return {run_id for run_id in self._answers if not self._is_due(run_id)}

    def has_turn(self, run_id: str) -> bool:
        """Return whether the model was asked about the run in a turn of its own that is not over."""
        return run_id in self._answers or self._next_turn_of(run_id) is not None

    def propose(self, view: SearchView, sampler: Proposer) -> Proposal | None:
        """Return what came of the turn; None where another proposer took its run over.

        Raises AnswerPending before its moment, Drift where the question is not the recorded one.
        """
        run_id = view.run_id
        while (exchange := self._next_turn_of(run_id)) is not None:
            if run_id in self._answers and not self._is_due(run_id):
                raise AnswerPending(f"the question about {run_id} was asked again later")
            self._client.turn_to(exchange)
            messages = self._turn.begin(under(exchange.circumstances, view))
            self._client.compare(exchange, messages)
            # An answer before another question was lost: its agent died.
            self._answers[run_id] = answer_of(self._cassette.play_turn(run_id))
            if (answer := self._answers[run_id]) is not None:
                self._turn.transcript.append(run_id, "response", **answer.to_event())
        if not self._is_due(run_id):
            raise AnswerPending(f"the answer about {run_id} was used later")
        answer = self._answers.pop(run_id)
        if self._was_taken_over(run_id):
            return None
        try:
            if answer is None:
                raise ProposalError(str(self._proposal(run_id).get("wasted") or "no answer came"))
            return self._turn.propose(view, answer)
        except ProposalError as refusal:
            return self._turn.stand_in(view, sampler, str(refusal))

    def _next_turn_of(self, run_id: str) -> Exchange | None:
        exchange = self._cassette.next_of(run_id)
        return exchange if exchange is not None and exchange.is_turn else None

    def _was_taken_over(self, run_id: str) -> bool:
        """Return whether the first proposal about the run came of no turn. That of a repair tells nothing."""
        following, record = self._cassette.next_of(run_id), self._proposal(run_id)
        if following is not None:
            return following.attempt == 0
        by_model = str(record.get("proposer")).partition(":")[0] == "llm"
        return record.get("attempt") == 0 and not by_model and "wasted" not in record

    def _is_due(self, run_id: str) -> bool:
        """Return whether the replay has come to where the run's next question was asked; after the last one,
        to where its answer was used, which is never where the recording ends before."""
        exchange, record = self._next_turn_of(run_id), self._proposal(run_id)
        if exchange is not None:
            wanted = moment_in(exchange.circumstances)
        elif "attempt" not in record:
            return False
        else:
            wanted = moment_in({"moment": record.get("answered")})
        now = moment_of(self._ledger)
        return all(now[name] >= number for name, number in wanted.items() if name in now)
