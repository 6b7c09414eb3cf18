"""The facts of a task on graphs: source and checksum, sizes, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nas_system.data import DataSource
from nas_system.describe import SCHEMA_VERSION, baseline_table
from nas_system.errors import ConfigError
from nas_system.graphs.baselines import simple_predictions, targets_of
from nas_system.graphs.datasets import GraphDataset
from nas_system.graphs.loader import GraphLoader
from nas_system.graphs.task_graphs import load_graphs, locate_graphs
from nas_system.space import GraphTask, RunConfig, family_default
from nas_system.tasks.graph_regression import GraphProblem, find_graphs, graph_task_of
from nas_system.tasks.problem import HoldOut
from nas_system.training.build import build_engine
from nas_system.training.callbacks import BestWeights
from nas_system.training.reproducibility import set_threads


def describe_graphs(task: GraphTask, data_dir: Path | None, *, hold_out: bool = False) -> dict[str, Any]:
    """The facts as JSON. `sealed` scores the references on the graphs kept back: once, after the search."""
    set_threads(1)
    source = locate_graphs(task, data_dir)
    dataset = load_graphs(source, task, hold_out=True)
    sizes = {name: len(part) for name, part in _parts(dataset).items()}
    parts = ("val", "test", "sealed") if hold_out else ("val", "test")
    graphs = [graph for part in dataset.get_splits() for graph in part]
    return {
        "schema": SCHEMA_VERSION,
        "task": task.model_dump(mode="json"),
        "source": source.to_json(),
        "graphs": sizes,
        "nodes": round(sum(len(graph.x) for graph in graphs) / len(graphs), 2),
        "edges": round(sum(len(graph.edge_attr) for graph in graphs) / len(graphs), 2),
        "node_types": dataset.num_features,
        "edge_types": dataset.num_edge_types,
        "windows": {"sealed": sizes["sealed"]},
        "references": graph_baselines(task, source, dataset, parts),
    }


def graph_baselines(
    task: GraphTask, source: DataSource, dataset: GraphDataset, parts: Sequence[str]
) -> list[dict[str, Any]]:
    """Mean absolute error by part: of the mean, of the counts of types, and of a model without encodings.

    The last is the family's default, trained here: what message passing and attention find alone.
    """
    graphs = {name: part for name, part in _parts(dataset).items() if name in parts and len(part)}
    rows = [
        {"name": name}
        | {
            f"{part}_mae": _rounded(float((predict(those) - targets_of(those)).abs().mean()))
            for part, those in graphs.items()
        }
        for name, predict in simple_predictions(dataset).items()
    ]
    problem = GraphProblem(without_encodings(task), source, dataset, torch.device("cpu"))
    engine = build_engine(problem.config, problem, problem.device)
    assert engine.generator is not None
    batch = problem.evaluation_batch
    training, val = problem.training_batches(engine.generator), problem.batches("val", batch)
    engine.fit(training, val, problem.config.training.max_epochs, [BestWeights()])
    scores = {
        f"{part}_mae": _rounded(engine.evaluate(GraphLoader(those, batch, problem.device))["mae"])
        for part, those in _parts(problem.dataset).items()
        if part in graphs
    }
    return [*rows, {"name": "no encodings", **scores}]


def hold_out_graphs(
    config: RunConfig, facts: dict[str, Any] | None, data_dir: Path | None, device: torch.device
) -> HoldOut:
    """The graphs that are kept back."""
    task = graph_task_of(config)
    source = find_graphs(task, facts, data_dir)
    dataset = load_graphs(source, task, hold_out=True)
    if not dataset.hold_out:
        raise ConfigError(f"{task.name} keeps no graphs back, so there is nothing hold-out to score")
    problem = GraphProblem(config, source, dataset, device)
    return HoldOut(
        model=problem.build_model(),
        batches=GraphLoader(problem.dataset.hold_out, problem.evaluation_batch, device),
        objective=problem.objective,
        samples="graphs",
        count=len(dataset.hold_out),
        baselines=lambda: graph_baselines(task, source, dataset, ("sealed",)),
    )


def without_encodings(task: GraphTask) -> RunConfig:
    """The default graph transformer, which has none."""
    return family_default("graph_transformer").model_copy(update={"task": task})


def table_of_graphs(facts: dict[str, Any]) -> str:
    """The facts for people."""
    source, sizes = facts["source"], facts["graphs"]
    parts = ", ".join(f"{count} {name}" for name, count in sizes.items())
    lines = [
        f"data      {source['name']} ({source['kind']}{', ' + source['path'] if source['path'] else ''})",
        f"checksum  sha256 {source['sha256'][:16]}...",
        f"graphs    {parts}; on average {facts['nodes']:g} nodes and {facts['edges']:g} directed edges",
        f"types     {facts['node_types']} of nodes, {facts['edge_types']} of edges",
        f"task      one number for every graph of {facts['task']['name']}",
    ]
    return "\n".join([*lines, "", *baseline_table(facts)])


def _rounded(error: float) -> float:
    """Six digits, which is what a 32-bit network resolves."""
    return float(f"{error:.6g}")


def _parts(dataset: GraphDataset) -> dict[str, Sequence[Any]]:
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test, "sealed": dataset.hold_out}
