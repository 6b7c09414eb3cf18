"""A comparison as text: the table, and what may be said of it."""

from __future__ import annotations

import math

from nas_agent_graph.compare.results import Comparison, Interval, Row
from nas_agent_graph.text.terminal import Column, Line, dollars, duration, table


def lines_of(compared: Comparison, width: int) -> list[Line]:
    """Return the table and the sentences below it."""
    return [*_table(compared, width), Line(""), *(Line(text) for text in sentences(compared))]


def _table(compared: Comparison, width: int) -> list[Line]:
    rows = compared.rows
    counts = list(rows[0].above_best)
    columns = [
        Column("proposer", [row.proposer for row in rows]),
        Column(f"best {compared.metric}", [_score(row.best) for row in rows], "right"),
        *(
            Column(f"after {count}", [_distance(row.above_best[count]) for row in rows], "right")
            for count in counts
        ),
        Column("failed", [str(row.failed) for row in rows], "right", drop=1),
        Column("compute", [duration(row.compute_seconds) for row in rows], "right", drop=2),
        Column("tokens", [f"{row.tokens:,}" for row in rows], "right", drop=3),
        Column("cost", [_cost(row) for row in rows], "right", drop=4),
    ]
    return table(columns, [""] * len(rows), width)


def sentences(compared: Comparison) -> list[str]:
    """Return what the columns mean, and which proposers can be told apart."""
    n = len(compared.seeds)
    many = f"{n} seeds" if n > 1 else "one seed"
    lines = [
        f"best: validation score of the run that leads at the end, mean over {many}"
        + (" +- 90 %" if n > 1 else ""),
        "after: how much worse the best training so far is than the best of all searches, likewise a mean",
    ]
    leader, *others = compared.rows
    if leader.best is None:
        return [*lines, "No proposer has found a score with every seed."]
    lines += [f"{row.proposer} has a search without any score." for row in others if row.best is None]
    alike = [row.proposer for row in others if row.behind is not None and row.behind.holds_zero]
    worse = [row for row in others if row.behind is not None and not row.behind.holds_zero]
    if n == 1:
        return [*lines, f"{leader.proposer} has the best score; with one seed no two can be told apart."]
    for row in worse:
        assert row.behind is not None and row.behind.half_width is not None
        lines.append(
            f"{leader.proposer} is better than {row.proposer} by {row.behind.mean:.5g} "
            f"+- {row.behind.half_width:.2g}, seed by seed."
        )
    if alike:
        lines.append(
            f"{leader.proposer} has the best mean; {_and(alike)} cannot be told apart from it with {n} seeds."
        )
    if len(others) > 1 and worse:
        lines.append(
            "With many proposers one may look worse by luck: each interval is right in 90 % of cases."
        )
    return lines


def _score(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    spread = "" if interval.half_width is None else f" +- {interval.half_width:.2g}"
    return f"{interval.mean:.5g}{spread}"


def _distance(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.2g}"


def _cost(row: Row) -> str:
    if not row.tokens:
        return "-"
    return "unknown" if row.cost_usd is None else dollars(row.cost_usd)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
