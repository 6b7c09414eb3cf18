"""Which of a model's candidates is trained: valid, new, and not what the sampler expects little of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import search_context

from nas_agent_graph.llm.parsing import ParsedAnswer
from nas_agent_graph.proposers.candidates import choose_candidate
from nas_agent_graph.search_view import RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.space import Change, RunConfig, apply_changes, canonical_key

BASE = RunConfig()


def candidate(parent: str = "run_0000", repeat: bool = False, **changes: Any) -> ParsedAnswer:
    listed = tuple(Change(parameter=name.replace("__", "."), value=value) for name, value in changes.items())
    return ParsedAnswer(parent=parent, changes=listed, hypothesis="", expected_score=None, repeat=repeat)


def run(number: int, score: float | None, **changes: Any) -> RunView:
    config = apply_changes(BASE, candidate(**changes).changes) if changes else BASE
    return RunView(
        f"run_{number:04d}",
        "OK" if score is not None else "DIVERGED",
        None,
        config,
        config.model.family,
        canonical_key(config),
        score,
        accepted=number == 0,
        parent="run_0000",
        summary="",
    )


@pytest.fixture
def view(tmp_path: Path) -> SearchView:
    first = run(0, 0.1)
    return replace(search_context(tmp_path).view("run_0042"), base=BASE, runs=(first,), best_run=first)


def with_runs(view: SearchView, *runs: RunView) -> SearchView:
    return replace(view, runs=(*view.runs, *runs))


def test_the_first_valid_and_new_one_is_taken(view: SearchView) -> None:
    view = with_runs(view, run(1, 0.09, data__seq_len=48))
    choice = choose_candidate(
        [
            candidate("run_0077", data__seq_len=36),
            candidate(training__lr=70.0),
            candidate(data__seq_len=48),
            candidate(training__lr=BASE.training.lr * 1.02),
            candidate(data__seq_len=120, training__lr=0.002),
        ],
        view,
    )
    assert choice.rank == 4


def test_what_changes_the_structure_comes_first(view: SearchView) -> None:
    choice = choose_candidate([candidate(training__lr=0.003), candidate(model__family="linear")], view)
    assert choice.rank == 1


def test_every_refused_candidate_is_told_why(view: SearchView) -> None:
    view = with_runs(view, run(1, 0.09, data__seq_len=48))
    with pytest.raises(ProposalError) as refused:
        choose_candidate(
            [
                candidate("run_0077", data__seq_len=36),
                candidate(training__lr=70.0),
                candidate(data__seq_len=48),
                candidate(training__lr=BASE.training.lr * 1.02),
                candidate("run_0001", repeat=True),
            ],
            view,
        )
    reasons = str(refused.value).split("; candidate ")
    assert len(reasons) == 5
    for reason, words in zip(
        reasons,
        ("'run_0077' is not a run", "training.lr", "configuration of run_0001", "nearly", "a repeat"),
        strict=True,
    ):
        assert words in reason


def test_candidates_are_counted_as_in_the_answer(view: SearchView) -> None:
    poor, good = candidate("run_0077", data__seq_len=120), candidate(data__seq_len=120)
    with pytest.raises(ProposalError, match=r"candidate 2: .*run_0077.*candidate 4: .*run_0077"):
        choose_candidate([poor, poor], view, (2, 4))
    assert choose_candidate([poor, good], view, (2, 4)).rank == 3


def test_the_sampler_vetoes_what_has_done_badly(view: SearchView) -> None:
    rates = [0.0001 * 1.5**n for n in range(12)]
    tried = [run(n, 0.05 + 4 * rate, training__lr=rate) for n, rate in enumerate(rates, start=1)]
    view = with_runs(view, *(replace(other, accepted=True) for other in tried))
    high, low = candidate(training__lr=0.0072), candidate(training__lr=0.00018)
    assert choose_candidate([high, low], view).rank == 1
    with pytest.raises(ProposalError, match=r"the sampler expects little of its training\.lr"):
        choose_candidate([high], view)
    # It has no opinion on a family of which it has seen little.
    assert (
        choose_candidate([high], with_runs(view.__class__(**{**vars(view), "runs": view.runs[:5]}))).rank == 0
    )
