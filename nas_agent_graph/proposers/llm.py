"""The language model as proposer: one question per proposal, the exact error back when it errs."""

from __future__ import annotations

from pathlib import Path

from nas_agent_graph.context import Proposal, SearchPaused, SearchView
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.client import ChatClient, Message
from nas_agent_graph.llm.parsing import read_answer
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.llm.recording import Transcript, circumstances_of
from nas_agent_graph.proposers.sampling import families_for
from nas_agent_graph.structure import require_new_structure

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
            answer = self.client.ask(messages)
        except SearchPaused as reason:
            self.transcript.append(view.run_id, "failed", reason=str(reason))
            raise
        self.transcript.append(view.run_id, "response", **answer.to_event())
        parsed = read_answer(answer)
        require_new_structure(view, parsed.parent, parsed.changes)
        paid = self.transcript.paid(view.run_id)
        return Proposal(
            proposer=f"llm:{self.client.settings.model}",
            parent=parsed.parent,
            changes=parsed.changes,
            hypothesis=parsed.hypothesis,
            expected_val_mse=parsed.expected_val_mse,
            tokens=paid.tokens,
            cost_usd=paid.cost_usd,
        )

    def _messages(self, view: SearchView) -> list[Message]:
        messages = opening_messages(view, self.prompts)
        previous = self.transcript.last_answer(view.run_id)
        if view.refused and previous is not None:
            # Some servers refuse a message without text.
            said = previous[:LONGEST_ANSWER] or "(an empty answer)"
            messages.append({"role": "assistant", "content": said})
            repair = render("repair", self.prompts, refusal=view.refused[-1])
            messages.append({"role": "user", "content": repair})
        return messages
