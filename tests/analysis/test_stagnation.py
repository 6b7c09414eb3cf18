"""When a search counts as stuck, and what gets it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nas_agent_graph.analysis.stagnation import (
    FLAT_RUNS,
    flat_runs,
    is_stuck,
    require_new_structure,
    structural_changes,
)
from nas_agent_graph.context import Proposal, RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.space import (
    Change,
    ForecastingTask,
    RunConfig,
    apply_changes,
    canonical_key,
    families_of,
    family_default,
)

BASE = RunConfig()


def config_with(**values: Any) -> RunConfig:
    return apply_changes(BASE, changes(**values))


def changes(**values: Any) -> list[Change]:
    """`training__lr=0.1` is training.lr."""
    return [Change(parameter=name.replace("__", "."), value=value) for name, value in values.items()]


def run_view(number: int, config: RunConfig | None = BASE, **fields: Any) -> RunView:
    known: dict[str, Any] = {
        "run_id": f"run_{number:04d}",
        "status": "OK",
        "cause": None,
        "config": config,
        "family": config.model.family if config else None,
        "key": canonical_key(config) if config else None,
        "val_score": 0.07,
        "accepted": number == 0,
        "parent": "run_0000" if number else None,
        "summary": "",
    }
    return RunView(**{**known, **fields})


def flat(first: int, count: int = FLAT_RUNS) -> list[RunView]:
    rates = [config_with(training__lr=0.002 + n / 1e4) for n in range(first, first + count)]
    return [run_view(first + place, config) for place, config in enumerate(rates)]


def view_of(runs: Sequence[RunView]) -> SearchView:
    best_run = next((run for run in reversed(runs) if run.accepted), None)
    return SearchView(
        f"run_{len(runs):04d}", ForecastingTask(), BASE, ("OT",), (), tuple(runs), best_run, 0.001, 1, 100
    )


@pytest.mark.parametrize(
    ("values", "structural"),
    [
        ({"model__family": "gru"}, ["model.family"]),
        ({"model__normalization": "revin"}, ["model.normalization"]),
        ({"model__decomposition": True, "training__lr": 0.1}, ["model.decomposition"]),
        ({"data__seq_len": 192}, ["data.seq_len"]),
        ({"data__seq_len": 100}, []),
        ({"data__features": "S"}, ["data.features"]),
        ({"training__lr": 0.1, "model__d_model": 256, "training__loss": "mae"}, []),
    ],
)
def test_structure_is_how_a_model_computes_not_how_wide_it_is(
    values: dict[str, Any], structural: list[str]
) -> None:
    assert structural_changes(BASE, config_with(**values)) == structural
    assert structural_changes(config_with(**values), BASE) == structural


def test_every_family_differs_in_structure_from_every_other() -> None:
    families = families_of("forecasting")
    configs = [config_with(model__family=name) if name != "informer" else BASE for name in families]
    for one in configs:
        for other in configs:
            assert bool(structural_changes(one, other)) == (one is not other)


def test_a_search_is_stuck_after_five_flat_runs_and_not_after_four() -> None:
    runs = [run_view(0), *flat(1)]
    assert not is_stuck(view_of(runs[:-1]))
    assert is_stuck(view_of(runs))


def test_an_accepted_run_ends_it() -> None:
    runs = [run_view(0), *flat(1), run_view(6, config_with(training__lr=0.01), accepted=True)]
    assert flat_runs(runs) == 0


def test_an_end_that_is_nobodys_fault_does_not_count() -> None:
    lost = [run_view(n, val_score=None, status="LOST") for n in range(5, 9)]
    assert flat_runs([run_view(0), *flat(1, 4), *lost]) == 4
    assert flat_runs([run_view(0), *flat(1, 4), run_view(5, val_score=None, status="DIVERGED")]) == 5


def test_an_answer_to_the_demand_gets_five_runs_of_its_own() -> None:
    answered = run_view(6, config_with(model__family="gru"))
    assert flat_runs([run_view(0), *flat(1), answered]) == 0
    assert flat_runs([run_view(0), *flat(1), answered, *flat(7, 4)]) == 4
    assert flat_runs([run_view(0), *flat(1), run_view(6, config_with(training__lr=0.05))]) == 6
    assert flat_runs([run_view(0), *flat(1), run_view(6, None)]) == 6


STUCK = view_of([run_view(0), *flat(1)])


def check(view: SearchView, parent: str, changed: list[Change]) -> None:
    """Apply the rule to a proposal as the validator does."""
    start = next(run.config for run in view.runs if run.run_id == parent)
    assert start is not None
    require_new_structure(
        view, Proposal("llm:m", parent, tuple(changed)), start, apply_changes(start, changed)
    )


def test_a_stuck_search_refuses_what_keeps_the_structure() -> None:
    with pytest.raises(
        ProposalError, match=r"\(training\.lr\) keeps that of run_0000.*at least one of: model\."
    ):
        check(STUCK, "run_0000", changes(training__lr=0.05))
    check(STUCK, "run_0000", changes(model__normalization="revin"))


def test_coming_back_to_the_best_runs_structure_from_elsewhere_is_no_way_out() -> None:
    other = run_view(1, config_with(model__normalization="revin"))
    view = view_of([run_view(0), other, *flat(2)])
    back = changes(model__normalization="last", training__lr=0.05)
    with pytest.raises(ProposalError, match="run_0000, the best run"):
        check(view, "run_0001", back)


def test_the_structure_of_a_model_for_graphs_is_its_own_choices_alone() -> None:
    base = family_default("graph_transformer")
    longer = base.model_copy(update={"data": base.data.model_copy(update={"seq_len": 512})})
    assert structural_changes(base, longer) == []
    walking = apply_changes(base, [Change(parameter="model.random_walk", value=True)])
    assert structural_changes(base, walking) == ["model.random_walk"]
