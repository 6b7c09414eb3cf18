"""One turn of the language model in a hybrid search: a question, ranked candidates, and the one to train."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nas_agent_graph.analysis.stagnation import is_stuck
from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.llm.parsing import read_candidates
from nas_agent_graph.llm.recording import Transcript, circumstances_of
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.proposers.candidates import choose_candidate
from nas_agent_graph.proposers.model_client import client_of, transcript_of
from nas_agent_graph.proposers.setup import ProposerSetup
from nas_agent_graph.search_view import Proposal, Proposer, SearchView
from nas_system.errors import ProposalError, SearchPaused

CANDIDATES = 5
"""That the model may rank in one answer."""


def open_turn(setup: ProposerSetup) -> ModelTurn:
    """Return the turns of the model that is named. Raises ConfigError for settings that cannot be meant."""
    client = client_of(setup)
    return ModelTurn(client, transcript_of(setup, client))


def as_asked(view: SearchView, *, compact: bool = False) -> SearchView:
    """Return the view that a question is about: which runs get another seed is the rule's to decide."""
    return replace(view, repeats_left=0, compact=view.compact or compact)


class ModelTurn:
    """Asks the model once per turn and records every word of it in the run's transcript."""

    def __init__(self, client: ChatClient, transcript: Transcript, *, prompts: Path | None = None) -> None:
        """`prompts` is the folder of the templates; None stands for the program's own."""
        self.client = client
        self.transcript = transcript
        self.prompts = prompts

    def say_if_unreachable(self, say: Callable[[str], None]) -> None:
        """Look, without waiting, whether the service is there: the first question may be hours away."""

        def work() -> None:
            try:
                self.client.reach()
            except ServiceRefused as refusal:
                say(f"{refusal.reason}. The search goes on without its language model until it answers")

        threading.Thread(target=work, name="look for the language model", daemon=True).start()

    def begin(self, view: SearchView) -> list[Message]:
        """Write the question down and return it."""
        view = as_asked(view, compact=self.client.prompt_form.compact)
        messages = opening_messages(view, self.prompts, candidates=CANDIDATES)
        self.transcript.append(
            view.run_id,
            "request",
            attempt=view.attempt,
            messages=messages,
            model=self.client.settings.model,
            settings={"temperature": self.client.settings.temperature, "candidates": CANDIDATES},
            circumstances={**circumstances_of(view, view.families), "moment": dict(view.moment)},
        )
        return messages

    def ask(self, view: SearchView, messages: list[Message]) -> Answer:
        """Ask, and write the answer down as soon as it is there: it has been paid for.

        Raises SearchPaused if none comes.
        """
        try:
            answer = self.client.ask(messages, metric=view.task.metric, candidates=CANDIDATES)
        except ServiceRefused as refusal:
            self.transcript.append(view.run_id, "failed", reason=refusal.reason)
            raise SearchPaused(refusal.reason) from None
        self.transcript.append(view.run_id, "response", **answer.to_event())
        return answer

    def propose(self, view: SearchView, answer: Answer) -> Proposal:
        """Return the candidate to train. Raises ProposalError that says why none is."""
        key = self.client.settings.api_key
        dropped: tuple[str, ...] = ()
        try:
            candidates = read_candidates(answer, view.task.metric)
            dropped = candidates.dropped
            choice = choose_candidate(candidates, view, candidates.places)
        except ProposalError as error:
            raise ProposalError(redacted("; ".join((str(error), *dropped)), key)) from None
        chosen = choice.candidate
        content = repr((chosen.parent, chosen.changes, chosen.hypothesis))
        if redacted(content, key) != content:
            raise ProposalError("the answer repeats the key of this service")
        paid = self.transcript.paid(view.run_id)
        return Proposal(
            f"llm:{self.client.settings.model}",
            parent=chosen.parent,
            changes=chosen.changes,
            hypothesis=chosen.hypothesis,
            expected_score=chosen.expected_score,
            tokens=paid.tokens,
            cost_usd=paid.cost_usd,
            rank=choice.rank,
            must_restructure=is_stuck(view),
            arm="model",
        )

    def stand_in(self, view: SearchView, sampler: Proposer, reason: str) -> Proposal:
        """Let the sampler propose for a run about which the model was asked in vain, and write down why."""
        reason = redacted(reason, self.client.settings.api_key)
        self.transcript.append(view.run_id, "refused", attempt=view.attempt, reason=reason)
        self.transcript.append(view.run_id, "fallback", proposer=sampler.name)
        paid = self.transcript.paid(view.run_id)
        proposal = sampler.propose(view)
        return replace(proposal, tokens=paid.tokens, cost_usd=paid.cost_usd, wasted=reason)
