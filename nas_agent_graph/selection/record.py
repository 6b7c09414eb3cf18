"""A conclusion as a JSON object (`runs/conclusion.json`), and back from any content of such a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from nas_agent_graph.selection.bootstrap import Difference, Interval
from nas_agent_graph.selection.comparison import Comparison
from nas_agent_graph.selection.conclusion import Conclusion, FreshMean, Word

SCHEMA_VERSION = 1
MOST_ENTRIES = 100
"""Of a list, when it is read back."""
LONGEST_NAME = 100
_MOST = 10**9


def to_record(conclusion: Conclusion) -> dict[str, Any]:
    """Return the conclusion as plain values; scores are losses, lower is better."""
    record = asdict(conclusion)
    derived = [
        {
            "seeds_margin": one.seeds_margin,
            "rows_margin": one.rows_margin,
            "by_seeds": one.by_seeds,
            "by_rows": one.by_rows,
            "told_apart": one.told_apart,
        }
        for one in conclusion.comparisons
    ]
    record["comparisons"] = [plain | more for plain, more in zip(record["comparisons"], derived, strict=True)]
    record["luck"] = dict(conclusion.luck)
    return {"schema_version": SCHEMA_VERSION, **record, "optimism": conclusion.optimism}


def from_record(record: Mapping[str, Any]) -> Conclusion | None:
    """Return the conclusion in a record; None for one that holds none.

    What is derived is not read but computed again. Entries that are nothing are left out, lists are cut.
    """
    recommended = _name(record.get("recommended"))
    word: Word | None = next((known for known in get_args(Word) if known == record.get("word")), None)
    first, ties = _finite(record.get("first")), _names(record.get("ties"))
    if recommended is None or word is None or first is None or ties[:1] != (recommended,):
        return None
    read = [_comparison(row) for row in _rows(record.get("comparisons"))]
    luck = record.get("luck")
    probabilities = {
        name: chance
        for name, value in (list(luck.items())[:MOST_ENTRIES] if isinstance(luck, dict) else ())
        if _name(name) and (chance := _finite(value)) is not None and 0 <= chance <= 1
    }
    blocks = record.get("independent_blocks")
    return Conclusion(
        recommended=recommended,
        word=word,
        configurations=_count(record.get("configurations")),
        first=first,
        fresh=_fresh_mean(record.get("fresh")),
        ties=ties,
        ties_left_out=_count(record.get("ties_left_out")),
        baseline_ties=_names(record.get("baseline_ties")),
        comparisons=tuple(one for one in read if one is not None),
        resolution=_finite(record.get("resolution")),
        block=max(1, _count(record.get("block"))),
        independent_blocks=None if blocks is None else _count(blocks),
        luck=probabilities,
        hold_out_score=_finite(record.get("hold_out_score")),
        hold_out=_interval(record.get("hold_out")),
    )


def _comparison(row: Mapping[str, Any]) -> Comparison | None:
    name, lead = _name(row.get("name")), _finite(row.get("lead"))
    if name is None or lead is None:
        return None
    rows = row.get("rows")
    interval = _interval(rows)
    chance = _finite(rows.get("probability_better")) if isinstance(rows, dict) else None
    difference = (
        None
        if interval is None or chance is None
        else Difference(**vars(interval), probability_better=chance)
    )
    return Comparison(
        name, row.get("is_baseline") is True, lead, _finite(row.get("seeds_margin")), difference
    )


def _interval(value: object) -> Interval | None:
    if not isinstance(value, dict):
        return None
    mean, error = _finite(value.get("mean")), _finite(value.get("standard_error"))
    low, high = _finite(value.get("low")), _finite(value.get("high"))
    if mean is None or error is None or low is None or high is None:
        return None
    return Interval(
        mean, error, low, high, _count(value.get("block")), _count(value.get("independent_blocks"))
    )


def _fresh_mean(value: object) -> FreshMean | None:
    if not isinstance(value, dict) or (mean := _finite(value.get("mean"))) is None:
        return None
    low, high = _finite(value.get("low")), _finite(value.get("high"))
    if low is None or high is None:
        return FreshMean(_count(value.get("seeds")), mean)
    return FreshMean(_count(value.get("seeds")), mean, low, high)


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value[:MOST_ENTRIES] if isinstance(row, dict)] if isinstance(value, list) else []


def _names(value: object) -> tuple[str, ...]:
    # A tuple before it has been JSON.
    listed = value[:MOST_ENTRIES] if isinstance(value, list | tuple) else ()
    return tuple(name for entry in listed if (name := _name(entry)) is not None)


def _name(value: object) -> str | None:
    """Return a name that can be shown anywhere; None for anything else."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable():
        return value
    return None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is converted: an int of 400 digits has no float. NaN is below nothing.
    return float(value) if abs(value) < 1e300 else None


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _MOST else 0
