"""What a search recommends, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_agent_graph.text.terminal import duration, printable
from nas_system.files import finite
from nas_system.nas_agent.recommended import Member, Part, Recommended
from nas_system.space.tasks.task import metric_name_of

_PARTS: tuple[tuple[Part, str], ...] = (("test", "test"), ("hold_out", "hold-out"))


def recommendation_lines(recommended: Recommended, metric: str) -> list[str]:
    """Return the lines about what is recommended, and about how good it is on the parts after the search.

    `metric` is the score's name: `val_mse`.
    """
    score = "" if recommended.val_score is None else f" ({metric} {recommended.val_score:.5f})"
    lines = [
        f"Recommended: {printable(recommended.recommended, 100)}{score}, {printable(recommended.why, 500)}."
    ]
    name = metric_name_of(metric)
    for part, shown in _PARTS:
        searched = _number(recommended.scores("as_searched", part), name)
        refitted = _number(recommended.scores("refitted", part), name)
        if searched is None:
            continue
        text = f"{shown.capitalize()} {name} {searched:.5f} as searched{_seeds(recommended.members)}"
        first = recommended.first_seed.get(part)
        if first is not None and f"{first:.5f}" != f"{searched:.5f}":
            text += f" ({first:.5f} with its first seed alone, as in the leaderboard)"
        if refitted is not None:
            before = "train and validation part" if part == "test" else "everything before it"
            refit = recommended.refitted("val" if part == "test" else "test")
            text += f"; {refitted:.5f} refitted on {before}{_seeds(refit.members if refit else ())}"
        lines.append(f"{text}.")
    return [*lines, *_cost(recommended), *_intervals(recommended)]


def _seeds(members: Sequence[Member]) -> str:
    """Say over how many seeds a run alone is the mean."""
    seeds = len(members[0].trainings) if len(members) == 1 else 1
    return f", the mean of {seeds} seeds" if seeds > 1 else ""


def _cost(recommended: Recommended) -> list[str]:
    """Say what the refits took, where there are any, and what was left out."""
    cost = recommended.cost
    if not cost.refit_sec:
        return []
    left = f"; {recommended.not_begun} were not begun, for lack of time" if recommended.not_begun else ""
    took = f"Refits took {duration(cost.refit_sec)} of compute{left}"
    return [f"{took}; evaluations {duration(cost.evaluation_sec)}."]


def _intervals(recommended: Recommended) -> list[str]:
    """Say how often the prediction intervals held what they should hold, and whether that has changed."""
    record = recommended.evaluation.get("intervals")
    intervals = record if isinstance(record, Mapping) else {}
    levels = intervals.get("levels")
    held = []
    for level in [one for one in levels if type(one) is int][:5] if isinstance(levels, list) else ():
        parts = [
            f"{100 * share:.0f} % {where}"
            for part, where in (("test", "on test"), ("hold_out", "on hold-out"), ("recent", "lately"))
            if (share := _coverage(intervals.get(part), level)) is not None
        ]
        if parts:
            held.append(f"{level} % intervals held {', '.join(parts)}")
    lines = [f"{'; '.join(held)}."] if held else []
    warning = intervals.get("warning")
    return lines + ([f"Warning: {printable(warning, 300)}."] if isinstance(warning, str) else [])


def _coverage(part: Any, level: int) -> float | None:
    found = part.get(str(level)) if isinstance(part, Mapping) else None
    return finite(found.get("coverage")) if isinstance(found, Mapping) else None


def _number(scores: Mapping[str, Any], name: str) -> float | None:
    return finite(scores.get(name))
