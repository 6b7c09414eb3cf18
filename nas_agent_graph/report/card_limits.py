"""What a model card warns of: what was not tried, what is uncertain, and where intervals fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_agent_graph.report.card_scores import as_mapping, coverages
from nas_agent_graph.report.markdown import code, prose
from nas_system.nas_agent.agent_state import AgentState
from nas_system.space.data_card import card_of, unseen_of
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

ALLOWED_OFF = 3.0
"""Percentage points by which intervals may miss their level before the card says so."""
LARGE_SHIFT = 1.0
"""Standard deviations of the training rows by which a mean has moved before the card says so."""
FEW_WINDOWS = 100


def limits(
    state: AgentState, info: TaskInfo | None, conclusion: Conclusion | None, recommended: Mapping[str, Any]
) -> list[str]:
    """Return the section, a list; `recommended` is `runs/recommended.json`."""
    series = state.task is None or state.task.is_series
    lines = _untested(info, series)
    lines += _of_the_choice(conclusion)
    lines += _of_the_data(info) if info is not None and series else []
    lines += _of_intervals(as_mapping(recommended.get("evaluation")))
    if as_mapping(as_mapping(recommended.get("refits")).get("hold_out")):
        lines.append("What forecasts was trained on all rows, so no rows are left to score it on.")
    return [f"- {line}" for line in lines]


def _untested(info: TaskInfo | None, series: bool) -> list[str]:
    if not series:
        return ["Tried on this data set alone; on graphs of another origin nothing is known."]
    measured = {} if info is None else info.measured
    rows = f" up to {code(measured['last'])}" if measured.get("last") is not None else ""
    tried = "these series" if measured.get("series") else "this series"
    known, others = (", the future of some", "other ") if measured.get("known") else ("", "")
    return [
        f"Tried on {tried} alone{rows}, at this step and horizon: nothing is known of other series, of "
        "rows with gaps, and of what changes afterwards.",
        f"It knows the past of its columns{known} and the calendar, and nothing of {others}events that are "
        "announced.",
    ]


def _of_the_choice(conclusion: Conclusion | None) -> list[str]:
    if conclusion is None:
        return ["The search has not concluded: its leader may owe its place to chance."]
    lines = []
    if conclusion.word != "confirmed":
        lines.append(f"Chance may explain its lead: the search calls it {conclusion.word}.")
    if conclusion.baseline_ties:
        names = ", ".join(code(name) for name in conclusion.baseline_ties[:8])
        lines.append(f"It is not distinguishable from simple forecasts: {names}.")
    return lines


def _of_the_data(info: TaskInfo) -> list[str]:
    lines = []
    few = {name: size for name, size in info.sizes.items() if name != "train" and 0 < size < FEW_WINDOWS}
    if few:
        counts = ", ".join(f"{size} {name.replace('_', '-')}" for name, size in few.items())
        lines.append(f"Short series: {prose(counts)} windows, which overlap; such scores are uncertain.")
    if not info.has_hold_out:
        lines.append("No hold-out part: its rows were too few, or the split has none.")
    card = card_of(info.measured)
    shifts = [(one.name, "validation", one.val_shift) for one in (card.targets if card else ())]
    shifts += [(name, "test", shift) for name, shift in unseen_of(info.measured).test_shifts.items()]
    for name, part, shift in shifts[:16]:
        if shift is not None and abs(shift) >= LARGE_SHIFT:
            lines.append(
                f"The mean of {code(name)} moved by {shift:+.2g} training standard deviations up to the "
                f"{part} part; where it goes on moving, errors grow."
            )
    return lines


def _of_intervals(evaluation: Mapping[str, Any]) -> list[str]:
    """Say where intervals covered less or more than they should."""
    lines = []
    for part, level, coverage, _ in coverages(evaluation):
        if coverage is None:
            continue
        off = 100 * coverage - level
        if abs(off) > ALLOWED_OFF:
            where = f"of the {part}" if part.endswith("rows") else f"on the {part} part"
            why = "too narrow there, as after a shift" if off < 0 else "wider than need be there"
            lines.append(f"The {level:g} % intervals covered {coverage:.1%} {where}: {why}.")
    return lines
