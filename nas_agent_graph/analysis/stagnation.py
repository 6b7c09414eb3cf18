"""When a search is stuck, and what counts as doing something structurally different about it.

A rule in code, not a wish in a prompt: after FLAT_RUNS runs without an accepted improvement the next
proposal has to change the structure. A run that does so gets FLAT_RUNS runs of its own before the
demand comes back, so that a new direction can be tuned.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas_agent_graph.context import BLAMELESS, RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.space import Change, RunConfig, active_values, apply_changes, families_of, parameters

FLAT_RUNS = 5
LOOK_BACK_FACTOR = 1.25
"""A look-back longer or shorter by less than this is the same structure."""


def structural_parameters(family: str) -> tuple[str, ...]:
    """What decides how a model of this family computes: no widths, rates or counts."""
    choices = [
        parameter.path
        for parameter in parameters(family)
        if parameter.group == "model" and parameter.kind == "choice" and parameter.sampled
    ]
    return ("model.family", "data.seq_len", "data.features", *choices)


def structural_changes(before: RunConfig, after: RunConfig) -> list[str]:
    """The structural parameters in which the two differ."""
    if before.model.family != after.model.family:
        return ["model.family"]
    old, new = active_values(before), active_values(after)
    changed = [
        path
        for path in structural_parameters(after.model.family)
        if path != "data.seq_len" and old.get(path) != new.get(path)
    ]
    if "data.seq_len" not in new:
        return changed
    short, long = sorted((before.data.seq_len, after.data.seq_len))
    return changed + (["data.seq_len"] if long >= LOOK_BACK_FACTOR * short else [])


def flat_runs(runs: Sequence[RunView]) -> int:
    """Runs since the last accepted improvement, or since the last answer to the demand."""
    configs = {run.run_id: run.config for run in runs}
    best_run: RunConfig | None = None
    count = 0
    for run in runs:
        if run.accepted:
            count, best_run = 0, run.config
        elif run.status in BLAMELESS:
            continue
        elif count >= FLAT_RUNS and _differs(run.config, configs.get(run.parent or ""), best_run):
            count = 0
        else:
            count += 1
    return count


def is_stuck(view: SearchView) -> bool:
    """Whether the next proposal has to change the structure."""
    return flat_runs(view.runs) >= FLAT_RUNS


def require_new_structure(view: SearchView, parent_id: str, changes: Sequence[Change]) -> None:
    """Raise ProposalError if the search is stuck and the proposal keeps its parent's or the best run's
    structure. A proposal that is invalid for another reason passes: the validator says it better."""
    parent = next((run.config for run in view.runs if run.run_id == parent_id), None)
    if parent is None or not is_stuck(view):
        return
    try:
        config = apply_changes(parent, changes, max_seq_len=view.max_seq_len)
    except ProposalError:
        return
    best_run = view.best_run.config if view.best_run else None
    same = parent_id if not structural_changes(parent, config) else None
    if same is None and best_run is not None and not structural_changes(best_run, config):
        assert view.best_run is not None
        same = f"{view.best_run.run_id}, the best run"
    if same is None:
        return
    changed = ", ".join(change.parameter for change in changes)
    raise ProposalError(
        f"the last {FLAT_RUNS} runs or more brought no improvement beyond the noise, so the structure has to "
        f"change; this proposal ({changed}) keeps that of {same}. Change {demanded(view, config)}"
    )


def demanded(view: SearchView, config: RunConfig | None = None) -> str:
    """The parameters of which one has to change, in words."""
    start = config or (view.best_run.config if view.best_run else None) or view.base
    active = active_values(start)
    names = [path for path in structural_parameters(start.model.family) if path in active]
    if len(families_of(view.task.kind)) == 1:
        names.remove("model.family")  # there is no other
    look_back = f"data.seq_len (by a factor of {LOOK_BACK_FACTOR:g} or more)"
    return "at least one of: " + ", ".join(look_back if name == "data.seq_len" else name for name in names)


def _differs(config: RunConfig | None, parent: RunConfig | None, best_run: RunConfig | None) -> bool:
    if config is None or parent is None:
        return False
    others = [parent] if best_run is None else [parent, best_run]
    return all(structural_changes(other, config) for other in others)
