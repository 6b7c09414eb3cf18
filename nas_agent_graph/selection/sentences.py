"""A conclusion in sentences, with scores as they are reported: turned back where the metric is maximised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nas_agent_graph.selection.bootstrap import FEWEST_BLOCKS
from nas_agent_graph.selection.comparison import Comparison
from nas_agent_graph.selection.conclusion import Conclusion

Direction = Literal["minimize", "maximize"]

NAMED = 8
"""Names in an enumeration."""


def sentences(conclusion: Conclusion, metric: str, direction: Direction = "minimize") -> list[str]:
    """Return the three to six lines that a search ends with; `metric` is the score's name: `val_mse`."""
    return [
        line
        for line in (
            _verdict(conclusion, metric, direction),
            _nearest(conclusion, direction),
            _fresh(conclusion, metric, direction),
            _rows(conclusion),
            _lucky(conclusion, metric, direction),
            _hold_out(conclusion, direction),
        )
        if line
    ]


def _verdict(conclusion: Conclusion, metric: str, direction: Direction) -> str:
    run, of = conclusion.recommended, _count(conclusion.configurations, "run")
    tied = [*conclusion.ties[1:], *conclusion.baseline_ties]
    if conclusion.word == "confirmed":
        others = "every baseline" if conclusion.configurations == 1 else "every other run and baseline"
        return (
            f"{run} is confirmed as the best of {of}: over {_seeds(conclusion)} its mean {metric} is "
            f"{_better(direction)} than that of {others}, by more than chance in seeds and validation rows "
            "explains (each comparison at 90 %)."
        )
    if conclusion.word == "not distinguishable":
        names = _names(tied, conclusion.ties_left_out)
        return f"{run} leads {of}, but is not distinguishable from {names}."
    return f"{run} leads {of}, untested: {_why_untested(conclusion)}."


def _why_untested(conclusion: Conclusion) -> str:
    if conclusion.fresh is None:
        return "it has no score from a fresh seed after it was chosen"
    if not conclusion.comparisons:
        return "there is nothing to compare it with"
    without = [one.name for one in conclusion.comparisons if one.by_rows is None]
    if without:
        return f"errors on single validation windows are missing for a comparison with {_names(without)}"
    return "the noise of seeds is not known, because no run has two scores"


def _nearest(conclusion: Conclusion, direction: Direction) -> str:
    """Say how far the run and the baseline of the lowest losses are away, and what chance explains."""
    parts = []
    for kind in (False, True):
        nearest = next((one for one in _by_lead(conclusion.comparisons) if one.is_baseline is kind), None)
        if nearest is not None:
            parts.append(_lead(nearest, direction))
    return f"{'; '.join(parts)}." if parts else ""


def _by_lead(comparisons: Sequence[Comparison]) -> list[Comparison]:
    return sorted(comparisons, key=lambda comparison: comparison.lead)


def _lead(comparison: Comparison, direction: Direction) -> str:
    kind = "baseline " if comparison.is_baseline else ""
    better = _better(direction) if comparison.lead < 0 else _worse(direction)
    text = f"{kind}{comparison.name} is {better} by {_digits(abs(comparison.lead), 2)}"
    margins = []
    if comparison.seeds_margin is not None:
        margins.append(f"{_digits(comparison.seeds_margin, 2)} from seeds")
    if comparison.rows_margin is not None:
        margins.append(f"{_digits(comparison.rows_margin, 2)} from the validation rows")
    if comparison.margin is not None:
        margins.append(f"{_digits(comparison.margin, 2)} together")
    return f"{text} (margin of error at 90 %: {', '.join(margins)})" if margins else text


def _fresh(conclusion: Conclusion, metric: str, direction: Direction) -> str:
    first, fresh = _score(conclusion.first, direction), conclusion.fresh
    if fresh is None or conclusion.optimism is None:
        return f"{metric} {first} is the score of one training."
    interval = ""
    if fresh.low is not None and fresh.high is not None:
        span = _span(fresh.low, fresh.high, direction)
        interval = f" (90 % interval over seeds {span})"
    text = f"{metric} {_score(fresh.mean, direction)} is its mean over {_seeds(conclusion)}{interval}"
    if conclusion.optimism > 0:
        return f"{text}; its first score, {first}, was too good by {_digits(conclusion.optimism, 2)}."
    return f"{text}; its first score, {first}, was no better."


def _rows(conclusion: Conclusion) -> str:
    blocks = conclusion.independent_blocks
    if blocks is None:
        return "What the validation rows can resolve is not known: errors on single windows were not kept."
    if blocks < FEWEST_BLOCKS:
        return (
            f"The validation part has fewer than {FEWEST_BLOCKS} independent blocks ({blocks} of "
            f"{conclusion.block} windows), so its rows cannot tell models apart."
        )
    if conclusion.resolution is None:
        return ""
    return (
        f"The validation rows resolve no differences below about {_digits(conclusion.resolution, 2)} (90 %)."
    )


def _lucky(conclusion: Conclusion, metric: str, direction: Direction) -> str:
    if not conclusion.luck:
        return ""
    shown = list(conclusion.luck.items())[:NAMED]
    named = ", ".join(f"{run_id} ({luck:.0%} or more)" for run_id, luck in shown)
    return f"A lead with one seed could be luck, by the noise of seeds: {named}."


def _hold_out(conclusion: Conclusion, direction: Direction) -> str:
    if conclusion.hold_out_score is None:
        return ""
    text = f"Its hold-out score, taken once, is {_score(conclusion.hold_out_score, direction)}"
    interval = conclusion.hold_out
    if interval is None:
        return f"{text}."
    if not interval.trusted:
        return f"{text}; the hold-out part has too few independent blocks for an interval."
    return f"{text} (90 % interval over its rows {_span(interval.low, interval.high, direction)})."


def _seeds(conclusion: Conclusion) -> str:
    return _count(conclusion.fresh.seeds if conclusion.fresh else 0, "fresh seed")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _names(names: Sequence[str], unnamed: int = 0) -> str:
    """Enumerate the first names; `unnamed` more are only counted, as those that are too many."""
    listed, others = ", ".join(names[:NAMED]), max(len(names) - NAMED, 0) + unnamed
    return f"{listed} and {_count(others, 'other')}" if others else listed


def _score(loss: float, direction: Direction) -> str:
    return _digits(loss if direction == "minimize" else -loss, 4)


def _span(low: float, high: float, direction: Direction) -> str:
    ends = (low, high) if direction == "minimize" else (high, low)
    return " to ".join(_score(loss, direction) for loss in ends)


def _better(direction: Direction) -> str:
    return "lower" if direction == "minimize" else "higher"


def _worse(direction: Direction) -> str:
    return "higher" if direction == "minimize" else "lower"


def _digits(number: float, significant: int) -> str:
    """Return a number rounded to so many digits, without an exponent where it can be read without one."""
    rounded = float(f"{number:.{significant}g}")
    if rounded and not 1e-6 <= abs(rounded) < 1e9:
        return f"{rounded:.{significant}g}"
    return np.format_float_positional(rounded, trim="-")
