"""Labels of a search's task: what is predicted, which score wins, and what the data consist of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_agent_graph.text.terminal import printable
from nas_system.files import finite
from nas_system.space import ForecastingTask, GraphRegressionTask, TaskConfig


def winning_label(task: TaskConfig) -> str:
    """Return which score wins: `lowest val_mse on scaled data`."""
    extreme = "lowest" if task.direction == "minimize" else "highest"
    return f"{extreme} {task.metric}{scale_label(task)}"


def goal_label(task: TaskConfig) -> str:
    """Return `forecast OT, 24 steps ahead`, or `zinc_synth, one number for every graph`."""
    if isinstance(task, ForecastingTask):
        return f"forecast {printable(', '.join(task.targets), 60)}, {task.pred_len} steps ahead"
    return f"{task.name}, one number for every graph"


def scale_label(task: TaskConfig) -> str:
    """Return what follows the metric's name: errors of forecasts are measured on scaled data."""
    return " on scaled data" if isinstance(task, ForecastingTask) else ""


def baselines_label(task: TaskConfig | None) -> str:
    """Return what kind of predictions the baselines are."""
    return "simple predictions" if isinstance(task, GraphRegressionTask) else "simple forecasts"


def samples_label(task: TaskConfig | None) -> str:
    """Return what the parts of the data are counted in."""
    return "graphs" if isinstance(task, GraphRegressionTask) else "rows"


def format_graphs(facts: Mapping[str, Any]) -> str:
    """Describe how many graphs there are to learn from, and their size; empty for a series.

    Reads task_facts.json, which may have been edited by hand: what is no number is left out. The test
    part is never mentioned.
    """
    counts = facts.get("graphs")
    known = counts if isinstance(counts, Mapping) else {}
    parts = [
        f"{count:,.0f} graphs {purpose}"
        for part, purpose in (("train", "to train on"), ("val", "to validate on"))
        if (count := finite(known.get(part))) is not None
    ]
    size = [
        f"{value:g} {name}"
        for field, name in (("nodes", "nodes"), ("edges", "directed edges"))
        if (value := finite(facts.get(field))) is not None
    ]
    types = [
        f"{value:g} types of {name}"
        for field, name in (("node_types", "nodes"), ("edge_types", "edges"))
        if (value := finite(facts.get(field))) is not None
    ]
    sentences = (" and ".join(parts), "on average " + " and ".join(size) if size else "", " and ".join(types))
    return "; ".join(sentence for sentence in sentences if sentence)
