"""Accuracy in the units of the data as a report shows it: the figures, and the error of every step ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from nas_agent_graph.show.accuracy import accuracy_of_run, totals_of
from nas_agent_graph.show.rows import Row
from nas_agent_graph.text.terminal import printable
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import AgentState, get_best_run
from nas_system.nas_agent.recommended import RECOMMENDED_FILE
from nas_system.space.accuracy import Accuracy
from nas_system.space.score import loss_of
from nas_system.space.task_info import HOLD_OUT, TaskInfo

MOST_BASELINES = 3
"""Baselines whose steps are drawn."""
MOST_POINTS = 400
"""Steps of a line that are drawn; of more every second, third, ..."""
DRAWN_PARTS = ("val", "test")

Totals = Mapping[str, Mapping[str, float | None]]
"""By part; see `Accuracy.totals`."""


class StepsLine(TypedDict):
    """The mean absolute error of every step of the horizon, in the units of the data."""

    name: str
    role: str
    """`run`, `baseline`, `recommended` or `refitted`."""
    step: list[int]
    mae: list[float]


@dataclass(frozen=True)
class Recommended:
    """How what a search hands over forecasts; empty where the file is missing or cannot be read."""

    name: str
    as_searched: Mapping[str, Accuracy]
    """By part, trained on the training part alone."""
    refitted: Mapping[str, Accuracy]
    """By part, trained on all rows before it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "as_searched": totals_of(self.as_searched),
            "refitted": totals_of(self.refitted),
        }


def ensemble_record(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return the ensemble's row of the leaderboard; None where there is none."""
    row = next((row for row in rows if row.members), None)
    if row is None:
        return None
    names = ("name", "members", "val_score", "test_score")
    return {name: getattr(row, name) for name in names}


def recommended_of(runs_dir: Path) -> Recommended | None:
    """Read what the search recommends, from a file that anybody may have edited; None where there is none."""
    record = read_record(runs_dir / RECOMMENDED_FILE) or {}
    name, evaluation = record.get("recommended"), record.get("evaluation")
    if not isinstance(name, str) or not name or not isinstance(evaluation, dict):
        return None
    as_searched, refitted = (_parts(evaluation.get(kind)) for kind in ("as_searched", "refitted"))
    return Recommended(printable(name, 40), as_searched, refitted)


def _parts(value: object) -> dict[str, Accuracy]:
    parts = value if isinstance(value, dict) else {}
    found = {}
    for part in (*DRAWN_PARTS, HOLD_OUT):
        scored = parts.get(part)
        accuracy = Accuracy.from_json(scored.get("accuracy")) if isinstance(scored, dict) else None
        if accuracy is not None:
            found[part] = accuracy
    return found


def lines_of_steps(
    runs_dir: Path, state: AgentState, info: TaskInfo | None, recommended: Recommended | None
) -> dict[str, list[StepsLine]]:
    """Return what is drawn for each part: the best run, the best baselines, and what is recommended."""
    best_run = get_best_run(state)
    scored = sorted(
        (loss_of(score, state.direction), row.name, row.accuracy)
        for row in (info.baselines if info else ())
        if (score := row.on("val", state.metric)) is not None and row.accuracy
    )
    drawn: list[tuple[str, str, Mapping[str, Accuracy]]] = []
    if best_run is not None:
        drawn.append((best_run.run_id, "run", accuracy_of_run(best_run, runs_dir)))
    drawn += [(printable(name, 40), "baseline", accuracy) for _, name, accuracy in scored[:MOST_BASELINES]]
    if recommended is not None:
        if recommended.name not in [name for name, _, _ in drawn]:
            drawn.append((recommended.name, "recommended", recommended.as_searched))
        drawn.append((f"{recommended.name}, refitted", "refitted", recommended.refitted))
    return {part: _lines(drawn, part) for part in DRAWN_PARTS}


def _lines(drawn: Sequence[tuple[str, str, Mapping[str, Accuracy]]], part: str) -> list[StepsLine]:
    """Return the lines of a part, as long as the first one; none for a horizon of a single step."""
    known = [(name, role, found.per_step_mae) for name, role, each in drawn if (found := each.get(part))]
    steps = len(known[0][2]) if known else 0
    if steps < 2:
        return []
    every = math.ceil(steps / MOST_POINTS)
    return [
        StepsLine(name=name, role=role, step=list(range(1, steps + 1, every)), mae=list(mae[::every]))
        for name, role, mae in known
        if len(mae) == steps
    ]
