"""The state has the rule's leader: `nas_system` may not import the rule, so it has a few lines of its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.selection.rule import leader
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInfo, get_best_run

SCORES = st.one_of(st.none(), st.integers(0, 8).map(lambda eighths: eighths / 8))
PURPOSES = st.sampled_from(["base", "challenge", "asked", "final"])


@st.composite
def states(draw: st.DrawFn) -> AgentState:
    """A search in the middle or at its end, with failed trainings and repeats of an earlier final."""
    scores = draw(st.lists(SCORES, max_size=6))
    runs = [
        RunInfo(
            run_id=f"run_{number:04d}",
            val_score=score,
            status="CRASH" if score is None else "OK",
        )
        for number, score in enumerate(scores)
    ]
    repeats = []
    for seed in range(draw(st.integers(0, 8)) if runs else 0):
        score = draw(SCORES)
        after = draw(st.integers(len(runs) - 1, len(runs)))
        repeat = RepeatInfo(
            run_id=draw(st.sampled_from(runs)).run_id,
            seed=43 + seed,
            purpose=draw(PURPOSES),
            after=after,
            ended_after=len(runs),
            status="CRASH" if score is None else "OK",
            val_score=score,
            seconds=1.0,
        )
        repeats.append(repeat)
    return AgentState(leads_by="mean", runs=tuple(runs), repeats=tuple(repeats))


@settings(max_examples=300, deadline=None)
@given(states())
def test_the_state_and_the_rule_name_the_same_leader(state: AgentState) -> None:
    named, best = get_best_run(state), leader(candidates_of(state))
    assert (named and named.run_id) == (best and best.run_id)
