"""The language model as proposer: one question per proposal, the exact error back when it errs."""

from __future__ import annotations

from pathlib import Path

from nas_agent_graph.analysis.stagnation import require_new_structure
from nas_agent_graph.context import Proposal, SearchPaused, SearchView
from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.parsing import ParsedAnswer, read_answer
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.llm.recording import Transcript, circumstances_of
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.proposers.sampling import families_for
from nas_system.errors import ProposalError

LONGEST_ANSWER = 4000
"""Characters of a refused answer that go back to the model."""


class LLMProposer:
    """Asks the model, records every word in the run's transcript, and parses the answer."""

    name = "llm"

    def __init__(self, client: ChatClient, transcript: Transcript, *, prompts: Path | None = None) -> None:
        """`prompts` is the folder of the templates; None stands for the program's own."""
        self.client = client
        self.transcript = transcript
        self.prompts = prompts

    def propose(self, view: SearchView) -> Proposal:
        paid = self.transcript.paid(view.run_id)
        view.left.refuse_if_spent(paid.tokens, paid.cost_usd or 0.0)
        self.transcript.refused(view)
        messages = self._messages(view)
        self.transcript.append(
            view.run_id,
            "request",
            attempt=view.attempt,
            messages=messages,
            model=self.client.settings.model,
            settings={"temperature": self.client.settings.temperature},
            circumstances=circumstances_of(view, families_for(view)),
        )
        try:
            answer = self.client.ask(messages, metric=view.task.metric)
        except SearchPaused as reason:
            self.transcript.append(view.run_id, "failed", reason=str(reason))
            raise
        self.transcript.append(view.run_id, "response", **answer.to_event())
        parsed = self._parsed(answer, view.task.metric)
        require_new_structure(view, parsed.parent, parsed.changes)
        paid = self.transcript.paid(view.run_id)
        return Proposal(
            proposer=f"llm:{self.client.settings.model}",
            parent=parsed.parent,
            changes=parsed.changes,
            hypothesis=parsed.hypothesis,
            expected_score=parsed.expected_score,
            tokens=paid.tokens,
            cost_usd=paid.cost_usd,
        )

    def _parsed(self, answer: Answer, metric: str) -> ParsedAnswer:
        """The answer as a proposal; one that spells our key in JSON's own escapes is refused."""
        key = self.client.settings.api_key
        try:
            parsed = read_answer(answer, metric)
        except ProposalError as error:
            raise ProposalError(redacted(str(error), key)) from None
        said = repr((parsed.parent, parsed.changes, parsed.hypothesis))
        if redacted(said, key) != said:
            raise ProposalError("the answer repeats the key of this service; leave it out")
        return parsed

    def _messages(self, view: SearchView) -> list[Message]:
        messages = opening_messages(view, self.prompts)
        previous = self.transcript.last_answer(view.run_id)
        if view.refused and previous is not None:
            # Some servers refuse a message without text, and none can be sent half a character (U+D800).
            said = previous[:LONGEST_ANSWER].encode(errors="replace").decode() or "(an empty answer)"
            messages.append({"role": "assistant", "content": said})
            repair = render("repair", self.prompts, refusal=view.refused[-1])
            messages.append({"role": "user", "content": repair})
        return messages
