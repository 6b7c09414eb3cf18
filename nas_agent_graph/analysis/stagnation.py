"""When a search is stuck, and what counts as doing something structurally different about it.

A rule in code, not a wish in a prompt: after FLAT_RUNS runs without an accepted improvement the next
proposal has to change the structure. A run that does so gets FLAT_RUNS runs of its own before the
demand comes back, so that a new direction can be tuned.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas_agent_graph.search_view import BLAMELESS, Proposal, RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.space import RunConfig, active_values, families_of, parameters

FLAT_RUNS = 5
LOOK_BACK_FACTOR = 1.25
"""A look-back longer or shorter by less than this is the same structure."""


def structural_parameters(family: str) -> tuple[str, ...]:
    """Return what decides how a model of this family computes: no widths, rates or counts."""
    choices = [
        parameter.path
        for parameter in parameters(family)
        if parameter.group == "model" and parameter.kind == "choice" and parameter.sampled
    ]
    return ("model.family", "data.seq_len", "data.features", *choices)


def structural_changes(before: RunConfig, after: RunConfig) -> list[str]:
    """Return the structural parameters in which the two differ."""
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
    """Count the runs since the last accepted improvement, or since the last answer to the demand."""
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
    """Return whether the next proposal has to change the structure."""
    return flat_runs(view.runs) >= FLAT_RUNS


def require_new_structure(view: SearchView, proposal: Proposal, parent: RunConfig, config: RunConfig) -> None:
    """Raise ProposalError if `config` keeps the structure of its parent or that of the best run."""
    best_run = view.best_run
    if not structural_changes(parent, config):
        same = proposal.parent
    elif best_run and best_run.config and not structural_changes(best_run.config, config):
        same = f"{best_run.run_id}, the best run"
    else:
        return
    changed = ", ".join(change.parameter for change in proposal.changes)
    raise ProposalError(
        f"the last {FLAT_RUNS} runs or more {flat_words(view)}, so the structure has to change; this "
        f"proposal ({changed}) keeps that of {same}. Change {demanded(view, config)}"
    )


def flat_words(view: SearchView) -> str:
    """Say what runs have not done while the search is stuck."""
    if view.leads_by == "mean":
        return "have not taken the lead"
    return "brought no improvement beyond the noise"


def demanded(view: SearchView, config: RunConfig | None = None) -> str:
    """List the parameters of which one has to change, for the prompt and for refusals."""
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
