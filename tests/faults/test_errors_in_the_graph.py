"""A bug in a node, a partner that raises, a router in any state: the search never ends in silence."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args, get_type_hints

import pytest
from chaos.bombardment import finish
from chaos.search import Search

from nas_agent_graph import routes
from nas_agent_graph.graph import build_graph
from nas_agent_graph.state import SearchState, initial_state


@pytest.mark.fault(51)
@pytest.mark.parametrize("run_id", [pytest.param("run_0000", marks=pytest.mark.faults_long), "run_0001"])
def test_a_node_that_raises_ends_the_program_with_a_code_and_a_whole_state(
    new_search: Callable[..., Search], run_id: str
) -> None:
    """A file where the run's folder has to be: no node expects that."""
    search = new_search("--max-runs", "2", "--repeat-baseline", "0")
    obstacle = search.workspace / "runs" / run_id
    obstacle.parent.mkdir(exist_ok=True)
    obstacle.write_text("in the way")
    search.start()
    assert search.wait() not in (0, 130), search.text()
    assert run_id in search.text()
    assert "The search has ended" not in search.text()
    assert len(search.last.runs) == int(run_id[-1])
    obstacle.unlink()
    finish(search)


@pytest.mark.fault(51)
@pytest.mark.parametrize("route", [routes.after_validation, routes.after_decision])
def test_a_router_answers_in_every_state_with_an_edge_that_there_is(
    route: Callable[[SearchState], str],
) -> None:
    names = set(get_args(get_type_hints(route)["return"]))
    node = {"after_validation": "validate_config", "after_decision": "decide_acceptance"}[route.__name__]
    edges = {edge.data for edge in build_graph().get_graph().edges if edge.source == node}
    assert names == edges
    answers = set()
    for end, refusal in itertools.product((None, "", "why"), repeat=2):
        state = initial_state()
        state["end"], state["refusal"] = end, refusal
        answers.add(route(state))
        answers.add(route({}))  # type: ignore[typeddict-item]
    assert answers == names
