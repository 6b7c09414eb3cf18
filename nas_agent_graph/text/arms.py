"""What the arms of a hybrid search have done, in words."""

from __future__ import annotations

from collections.abc import Sequence

from nas_agent_graph.analysis.arms import arm_records
from nas_agent_graph.search_view import RunView, arm_in, wasted_in
from nas_agent_graph.text.terminal import dollars
from nas_system.nas_agent.agent_state import RunInfo, mean_score
from nas_system.nas_agent.ledger import Ledger

NAMES = {"default": "defaults", "sampler": "sampler", "model": "language model"}


def has_model(runs: Sequence[RunInfo]) -> bool:
    """Return whether a language model was ever asked."""
    return any(run.tokens or (run.proposer or "").startswith("llm:") for run in runs)


def arm_sentences(ledger: Ledger) -> list[str]:
    """Say how often each arm took the lead, and what the model's turns were good for."""
    runs, views = ledger.state.runs, [_view_of(run, ledger) for run in ledger.state.runs]
    records = arm_records(views, ledger.state.direction)
    parts = [
        f"{NAMES[arm]} {_count(record.trainings, 'run')}, in the lead {_count(record.led, 'time')}"
        + (f", {record.failed} failed" if record.failed else "")
        for arm, record in records.items()
        if record.trainings
    ]
    lines = [f"Proposed by: {'; '.join(parts)}"] if parts else []
    vain = [run for view, run in zip(views, runs, strict=True) if view.wasted]
    if vain:
        used = records["model"].trainings
        costs = [run.cost_usd for run in vain if run.cost_usd is not None]
        money = f", {dollars(sum(costs))}" if costs else ""
        lines.append(
            f"The language model was asked about {used + len(vain)} runs and {used} of its proposals were "
            f"trained; the others cost {sum(run.tokens for run in vain):,} tokens{money}. The last time: "
            f"{[view.wasted for view in views if view.wasted][-1]}"
        )
    return lines


def _view_of(run: RunInfo, ledger: Ledger) -> RunView:
    """Return what arms are about; no configuration is read for it."""
    proposal = ledger.proposal(run.run_id)
    return RunView(
        run_id=run.run_id,
        status=run.status,
        cause=None,
        config=None,
        family=run.family,
        key=run.key,
        val_score=mean_score(ledger.state, run),
        accepted=run.accepted,
        parent=run.parent,
        summary="",
        proposer=run.proposer or "",
        arm=arm_in(proposal),
        wasted=wasted_in(proposal),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
