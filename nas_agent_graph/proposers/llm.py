"""The language model as proposer: one question per proposal, the exact error back when it errs."""

from __future__ import annotations

from typing import Any

from nas_agent_graph.context import Proposal, RunView, SearchView
from nas_agent_graph.llm.client import ChatClient, Message
from nas_agent_graph.llm.parsing import parse_answer
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.llm.recording import Transcript
from nas_agent_graph.proposers.sampling import families_for
from nas_system.space import FAMILIES, changes_between
from nas_system.space.overview import overview, sentence_of, tried_values

BEST, RECENT, FAILED = 8, 8, 5
"""How many runs of each kind the prompt shows: its length must not grow with the search."""


class LLMProposer:
    """Asks the model, records every word in the run's transcript, and parses the answer."""

    name = "llm"

    def __init__(self, client: ChatClient, transcript: Transcript) -> None:
        self.client = client
        self.transcript = transcript

    def propose(self, view: SearchView) -> Proposal:
        messages = self._messages(view)
        self.transcript.append(view.run_id, "request", messages=messages, model=self.client.settings.model)
        answer = self.client.ask(messages)
        tokens = answer.input_tokens + answer.output_tokens
        self.transcript.append(
            view.run_id,
            "response",
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=answer.model,
            usage={"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
            latency_s=round(answer.latency_s, 3),
        )
        parsed = parse_answer(answer.text)
        return Proposal(
            proposer=f"llm:{self.client.settings.model}",
            parent=parsed.parent,
            changes=parsed.changes,
            hypothesis=parsed.hypothesis,
            expected_val_mse=parsed.expected_val_mse,
            tokens=tokens,
        )

    def _messages(self, view: SearchView) -> list[Message]:
        messages: list[Message] = [
            {"role": "system", "content": render("system")},
            {"role": "user", "content": render("propose", **prompt_values(view))},
        ]
        previous = self.transcript.last_answer(view.run_id)
        if view.refused and previous is not None:
            messages.append({"role": "assistant", "content": previous})
            messages.append({"role": "user", "content": render("repair", refusal=view.refused[-1])})
        return messages


def prompt_values(view: SearchView) -> dict[str, Any]:
    """Everything the prompt may show, bounded in size. The view holds no test figure to begin with."""
    scored = sorted((r for r in view.runs if r.val_mse is not None), key=lambda r: r.val_mse or 0.0)
    failed = [run for run in view.runs if run.val_mse is None]
    shown = {run.run_id: run for run in (*scored[:BEST], *view.runs[-RECENT:], *failed[-FAILED:])}
    for family in families_for(view):
        best = next((r for r in scored if r.family == family), None)
        if best is not None:
            shown[best.run_id] = best
    worst_first = sorted(shown.values(), key=lambda r: -(r.val_mse if r.val_mse is not None else 1e30))
    return {
        "run_id": view.run_id,
        "runs_left": view.max_runs - len(view.runs),
        "task": view.task,
        "columns": view.columns,
        "references": view.references,
        "noise": view.noise,
        "champion": view.champion,
        "n_runs": len(view.runs),
        "runs": [_row(run, view) for run in worst_first],
        "families": [
            {
                "name": name,
                "meaning": sentence_of(name),
                "tried": tried_values(name),
                "reads_covariates": FAMILIES[name].reads_covariates,
            }
            for name in families_for(view)
        ],
        "space": overview(families_for(view), view.task, defaults_apart=True),
        "max_seq_len": view.max_seq_len,
    }


def _row(run: RunView, view: SearchView) -> dict[str, Any]:
    champion = view.champion.val_mse if view.champion else None
    changes = changes_between(view.base, run.config) if run.config else []
    return {
        "run_id": run.run_id,
        "status": run.status,
        "cause": run.cause,
        "val_mse": run.val_mse,
        "delta": run.val_mse - champion if run.val_mse is not None and champion is not None else None,
        "accepted": run.accepted,
        "family": run.family,
        "changes": {change.parameter: change.value for change in changes},
        "summary": run.summary,
    }
