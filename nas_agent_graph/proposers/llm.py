"""The language model as proposer: one question per proposal, and the exact reason back after a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas_agent_graph.analysis.stagnation import is_stuck
from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.client import ChatClient
from nas_agent_graph.llm.parsing import ParsedAnswer, read_answer
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.llm.recording import RecordedFallback, Transcript, circumstances_of
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.proposers.model_client import client_of, transcript_of
from nas_agent_graph.proposers.setup import ProposerSetup, ReadyProposer
from nas_agent_graph.search_view import Proposal, Proposer, SearchView
from nas_system.errors import ProposalError, SearchPaused

LONGEST_ANSWER = 4000
"""Characters of a refused answer that go back to the model."""


def check(setup: ProposerSetup) -> None:
    """Raise ConfigError for settings that cannot be meant, or a provider whose package is not installed."""
    client_of(setup)


def prepare(setup: ProposerSetup, fallback: Proposer) -> ReadyProposer:
    """Build the client of the model and the transcript that it shares with the fallback."""
    client = client_of(setup)
    transcript, settings = transcript_of(setup, client), client.settings
    introduction = f"llm, {settings.model} at {settings.endpoint}; {fallback.name} when it fails"
    return ReadyProposer(
        LLMProposer(client, transcript), RecordedFallback(fallback, transcript), introduction
    )


class LLMProposer:
    """Asks the model, records every word in the run's transcript, and parses the answer."""

    name = "llm"

    def __init__(self, client: ChatClient, transcript: Transcript, *, prompts: Path | None = None) -> None:
        """`prompts` is the folder of the templates; None stands for the program's own."""
        self.client = client
        self.transcript = transcript
        self.prompts = prompts

    def propose(self, view: SearchView) -> Proposal:
        view = replace(view, compact=view.compact or self.client.prompt_form.compact)
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
            circumstances=circumstances_of(view, view.families),
        )
        try:
            answer = self.client.ask(messages, metric=view.task.metric, may_repeat=view.repeats_left > 0)
        except SearchPaused as reason:
            self.transcript.append(view.run_id, "failed", reason=str(reason))
            if self.client.prompt_form.compact and not view.compact:
                return self.propose(view)  # it was too long, and need not be
            raise
        self.transcript.append(view.run_id, "response", **answer.to_event())
        parsed = self._parsed(answer, view.task.metric)
        paid, name = self.transcript.paid(view.run_id), f"llm:{self.client.settings.model}"
        if parsed.repeat:
            view.refuse_repeat_of(parsed.parent)
            return Proposal(
                name,
                parent=None,
                hypothesis=parsed.hypothesis,
                tokens=paid.tokens,
                cost_usd=paid.cost_usd,
                repeat=parsed.parent,
            )
        return Proposal(
            proposer=name,
            parent=parsed.parent,
            changes=parsed.changes,
            hypothesis=parsed.hypothesis,
            expected_score=parsed.expected_score,
            tokens=paid.tokens,
            cost_usd=paid.cost_usd,
            must_restructure=is_stuck(view),
        )

    def _parsed(self, answer: Answer, metric: str) -> ParsedAnswer:
        """Parse the answer; one that spells our key in JSON's own escapes is refused."""
        key = self.client.settings.api_key
        try:
            parsed = read_answer(answer, metric)
        except ProposalError as error:
            raise ProposalError(redacted(str(error), key)) from None
        content = repr((parsed.parent, parsed.changes, parsed.hypothesis))
        if redacted(content, key) != content:
            raise ProposalError("the answer repeats the key of this service; leave it out")
        return parsed

    def _messages(self, view: SearchView) -> list[Message]:
        messages = opening_messages(view, self.prompts)
        previous = self.transcript.last_answer(view.run_id)
        if view.refused and previous is not None:
            # Some servers refuse a message without text, and none can be sent half a character (U+D800).
            text = previous[:LONGEST_ANSWER].encode(errors="replace").decode() or "(an empty answer)"
            messages.append({"role": "assistant", "content": text})
            repair = render("repair", self.prompts, refusal=view.refused[-1])
            messages.append({"role": "user", "content": repair})
        return messages
