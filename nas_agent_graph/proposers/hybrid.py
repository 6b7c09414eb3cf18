"""The sampler and a language model: each gets the turns that its gains have earned.

The families' defaults come first, then TPE around the leader; the model is asked for structural ideas in its
share of the turns, and whenever the search is flat (`analysis.arms`). It ranks up to five candidates, of
which the first that is valid, new and not known to be poor is trained (`candidates`); where none is, or no
answer comes, the sampler proposes, so that a bad model costs its tokens and no training.

With several slots the question is asked on a thread, and others fill the slots until the answer is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from typing import Protocol

from nas_agent_graph.analysis.arms import is_turn_of_model
from nas_agent_graph.budget import BudgetSpent
from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.proposers.sampling import untried_default
from nas_agent_graph.search_view import AnswerPending, Proposal, Proposer, SearchView
from nas_system.errors import NasError, ProposalError


class Turn(Protocol):
    """How a language model is asked, and its answer becomes a proposal."""

    def begin(self, view: SearchView) -> list[Message]: ...
    def ask(self, view: SearchView, messages: list[Message]) -> Answer: ...
    def propose(self, view: SearchView, answer: Answer) -> Proposal: ...
    def stand_in(self, view: SearchView, sampler: Proposer, reason: str) -> Proposal: ...


class HybridProposer:
    """Lets the sampler and a language model propose, each in its turns."""

    name = "hybrid"

    def __init__(
        self, turn: Turn, sampler: Proposer, note: Callable[[str], None] = lambda text: None
    ) -> None:
        """`note` is called where the model cannot be asked."""
        self._turn = turn
        self._sampler = sampler
        self._note = note
        self._question: _Question | None = None
        self._is_spent = False

    def thinking(self, *, others_may_begin: bool) -> Container[str]:
        """Return the run about which the model has been asked, until it has answered; none where nothing else
        can be done than to wait for it."""
        question = self._question
        pending = others_may_begin and question is not None and not question.has_ended
        return (question.run_id,) if question is not None and pending else ()

    def propose(self, view: SearchView) -> Proposal:
        """Raises AnswerPending if the model has just been asked, and others may begin meanwhile."""
        if view.attempt:
            return self._sampler.propose(view)
        question = self._question
        if question is None or question.run_id != view.run_id:
            default = untried_default(view, self._sampler.name)
            if default is not None:
                return default
            if question is not None or not self._may_ask(view) or not is_turn_of_model(view):
                return self._sampler.propose(view)
            self._question = question = _Question(self._turn, view)
        if view.may_wait and not question.has_ended:
            raise AnswerPending(f"the language model thinks about {view.run_id}")
        self._question = None
        try:
            return self._turn.propose(view, question.answer())
        except ProposalError as refusal:
            reason = str(refusal)
        except NasError as failure:
            reason = str(failure)
            self._note(f"{view.run_id}: {reason}; {self._sampler.name} proposes")
        return self._turn.stand_in(view, self._sampler, reason)

    def _may_ask(self, view: SearchView) -> bool:
        """Return whether the budget allows another question; that it does not is said once."""
        try:
            view.left.refuse_if_spent(0, 0.0)
        except BudgetSpent as reason:
            if not self._is_spent:
                self._note(f"{view.run_id}: {reason}; from now on {self._sampler.name} proposes")
            self._is_spent = True
        return not self._is_spent


class _Question:
    """A question to the model, asked on a thread of its own."""

    def __init__(self, turn: Turn, view: SearchView) -> None:
        self.run_id = view.run_id
        self._outcome: Answer | Exception | None = None
        self._ended = threading.Event()
        messages = turn.begin(view)

        def work() -> None:
            try:
                self._outcome = turn.ask(view, messages)
            except (NasError, OSError, MemoryError, RuntimeError) as error:
                self._outcome = error
            finally:
                self._ended.set()

        threading.Thread(target=work, name="wait for the language model", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def answer(self) -> Answer:
        """Wait for the answer. Raises what the thread raised."""
        self._ended.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None, "the thread that asks died; its traceback is above"
        return self._outcome
