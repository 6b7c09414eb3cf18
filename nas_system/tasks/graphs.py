"""What the kinds of task on graphs share: data on the device, encodings, baselines, the hold-out set.

A kind differs from the others in its `Answers`: what is predicted, how it is scored and drawn, and which
simple predictions it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.graphs.baselines import Predict
from nas_system.graphs.datasets import GraphDataset
from nas_system.graphs.loader import GraphLoader, joined
from nas_system.graphs.task_graphs import load_graphs, locate_graphs
from nas_system.graphs.transformer import GraphTransformer
from nas_system.model import build_model
from nas_system.space import GraphShape, RunConfig, Task, family_default
from nas_system.space.families import GraphTransformerConfig
from nas_system.space.task_info import Baseline, DataSource, TaskInfo
from nas_system.space.tasks.task import GraphTask
from nas_system.tasks.kind import (
    Batches,
    Part,
    Problem,
    ScoredPart,
    Scoring,
    TaskKind,
    scoring_batch,
)
from nas_system.training.build import build_engine
from nas_system.training.callbacks import BestWeights
from nas_system.training.engine import Engine
from nas_system.training.objectives import Objective
from nas_system.training.reproducibility import set_threads
from nas_system.visualization import MoleculeDrawing, drawings
from nas_system.visualization.drawings import Drawing

Picture = Callable[[Tensor, Tensor], Drawing]
"""Returns the picture of true and predicted answers, (N, outputs) both."""


@dataclass(frozen=True)
class Answers:
    """What is predicted for graphs, or for pairs of their nodes."""

    summary: str
    """`one number for every graph`."""
    objective: Callable[[RunConfig, GraphDataset], Objective]
    n_outputs: Callable[[GraphDataset], int]
    baselines: Callable[[GraphDataset], dict[str, Predict]]
    """Predictions that need no search, by name."""
    per_sample: Callable[[Tensor, Sequence[Any]], Tensor]
    """The task's metric of predictions by a baseline, (samples,): its mean is the score."""
    picture: Picture
    level: Literal["graph", "edge"] = "graph"
    target_shape: tuple[int, ...] | None = None
    """What every graph's `y` is reshaped to; None leaves it."""


class GraphProblem:
    """A data set of graphs, as one configuration reads it; see `nas_system.tasks.kind.Problem`."""

    evaluation_batch = 128
    """Graphs are padded to the largest of a batch: larger batches save nothing."""

    def __init__(
        self,
        config: RunConfig,
        source: DataSource,
        dataset: GraphDataset,
        device: torch.device,
        answers: Answers,
    ) -> None:
        assert isinstance(config.model, GraphTransformerConfig)
        self.config, self.source, self.device, self.answers = config, source, device, answers
        names = (*config.model.node_encodings, *config.model.pair_encodings)
        self.dataset = dataset.with_encodings(names, config.model.encoding_options)
        if answers.target_shape is not None:
            for part in (*self.dataset.get_splits(), self.dataset.hold_out):
                for graph in part:
                    graph.y = graph.y.reshape(answers.target_shape)
        self.objective = answers.objective(config, self.dataset)

    @property
    def shape(self) -> GraphShape:
        dataset = self.dataset
        return GraphShape(
            dataset.num_features,
            dataset.num_edge_types,
            self.answers.n_outputs(dataset),
            self.answers.level,
        )

    @property
    def trained_until(self) -> int:
        return len(self.dataset.train)

    def count(self, part: Part) -> int:
        return len(self._graphs(part))

    def build_model(self) -> nn.Module:
        return build_model(self.config, self.shape)

    def training_batches(self, generator: torch.Generator) -> Batches:
        size = self.config.data.batch_size
        return GraphLoader(self._graphs("train"), size, self.device, generator=generator)

    def batches(self, part: Part, batch_size: int) -> Iterable[Any]:
        return GraphLoader(self._graphs(part), batch_size, self.device)

    def sample_batch(self, n: int) -> Any:
        return joined(self._graphs("train")[:n], self.device)

    def trained_through(self, end: ScoredPart | int) -> GraphProblem:
        """Return the problem with all graphs to the end of a part as training graphs, and no others."""
        if isinstance(end, int):
            raise ConfigError(
                f"{self.config.task.name}: graphs are in no order; name a part, not {end} of them"
            )
        task = _graph_task(self.config.task)
        parts = _parts(load_graphs(self.source, task, hold_out=end == "hold_out"))
        names = list(parts)
        graphs = [graph for name in names[: names.index(end) + 1] for graph in parts[name]]
        dataset = replace(self.dataset, train=graphs, val=(), test=(), hold_out=())
        return GraphProblem(self.config, self.source, dataset, self.device, self.answers)

    def export_metadata(self) -> dict[str, Any]:
        return {
            "shape": {"n_node_types": self.shape.n_node_types, "n_edge_types": self.shape.n_edge_types},
            "data_sha256": self.source.sha256,
            "config": self.config.model_dump(mode="json"),
        }

    def drawings(self, engine: Engine) -> list[Drawing]:
        test = self._graphs("test")
        predicted = engine.predict(self.batches("test", self.evaluation_batch))
        truth = torch.cat([graph.y for graph in test])
        found = [self.answers.picture(truth, predicted.float().cpu())]
        if isinstance(engine.model, GraphTransformer):
            found.append(drawings.molecule(self._attention_of_a_graph(engine.model, test)))
        return found

    def accuracy_meter(self, part: Part) -> None:
        return None

    def earlier_origins(self) -> Sequence[Problem]:
        return ()

    def _attention_of_a_graph(self, model: GraphTransformer, graphs: Sequence[Any]) -> MoleculeDrawing:
        """Return the attention of the most spread-out node in a graph of median size, in the last layer."""
        graph = sorted(graphs, key=lambda graph: len(graph.x))[len(graphs) // 2]
        maps = model.attention_maps(joined([graph], self.device))
        # Over the heads of the last layer: what the answer is read from comes next.
        attention = list(maps.values())[-1][0].mean(0).float().cpu().numpy()
        center = int(attention.max(-1).argmax())
        names, kinds = self.dataset.node_types, self.dataset.edge_types
        once = [number for number, (i, j) in enumerate(graph.edge_index.t().tolist()) if i < j]
        return MoleculeDrawing(
            atoms=[_name(names, kind) for kind in graph.x.flatten().tolist()],
            bonds=[tuple(graph.edge_index[:, number].tolist()) for number in once],
            bond_types=[_name(kinds, int(graph.edge_attr[number])) for number in once],
            attention=attention[center],
            center=center,
        )

    def _graphs(self, part: Part) -> Sequence[Any]:
        return getattr(self.dataset, part)


def graph_kind(answers: Answers) -> TaskKind:
    """Return the kind of task on graphs that has these answers."""

    def open_graphs(
        config: RunConfig, info: TaskInfo | None, data_dir: Path | None, device: torch.device
    ) -> Problem:
        task = _graph_task(config.task)
        source = _find_source(task, info, data_dir)
        return GraphProblem(config, source, load_graphs(source, task), device, answers)

    def scoring(
        config: RunConfig,
        info: TaskInfo | None,
        data_dir: Path | None,
        device: torch.device,
        part: ScoredPart,
    ) -> Scoring:
        task = _graph_task(config.task)
        source = _find_source(task, info, data_dir)
        dataset = load_graphs(source, task, hold_out=part == "hold_out")
        count = len(_parts(dataset)[part])
        if not count:
            raise ConfigError(f"{task.name} has no hold-out set, so there is nothing to score")
        # Encodings of the other parts would cost more than the score.
        alone = replace(
            dataset, **{name: graphs if name == part else () for name, graphs in _parts(dataset).items()}
        )
        problem = GraphProblem(config, source, alone, device, answers)
        size = scoring_batch(config, problem.evaluation_batch)
        return Scoring(
            build_model=problem.build_model,
            batches=GraphLoader(_parts(problem.dataset)[part], size, device),
            objective=problem.objective,
            samples="graphs",
            count=count,
            baselines=lambda: score_baselines(task, source, dataset, (part,), answers),
        )

    def describe(
        task: GraphTask, data_dir: Path | None, *, hold_out: bool = False, download: bool = True
    ) -> TaskInfo:
        set_threads(1)
        source = locate_graphs(task, data_dir)
        dataset = load_graphs(source, task, hold_out=True)
        parts = ("val", "test", "hold_out") if hold_out else ("val", "test")
        graphs = [graph for part in dataset.get_splits() for graph in part]
        return TaskInfo(
            task=task,
            source=source,
            baselines=score_baselines(task, source, dataset, parts, answers),
            sizes={name: len(part) for name, part in _parts(dataset).items()},
            measured={
                "nodes": round(sum(len(graph.x) for graph in graphs) / len(graphs), 2),
                "edges": round(sum(len(graph.edge_attr) for graph in graphs) / len(graphs), 2),
                "node_types": dataset.num_features,
                "edge_types": dataset.num_edge_types,
            },
        )

    def summarize(info: TaskInfo) -> list[str]:
        known = info.measured
        parts = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in info.sizes.items())
        return [
            f"graphs    {parts}; on average {known['nodes']:g} nodes and {known['edges']:g} directed edges",
            f"types     {known['node_types']} of nodes, {known['edge_types']} of edges",
            f"task      {answers.summary} of {info.task.name}",
        ]

    return TaskKind(open=open_graphs, scoring=scoring, describe=describe, summary=summarize)


def score_baselines(
    task: GraphTask, source: DataSource, dataset: GraphDataset, parts: Sequence[str], answers: Answers
) -> tuple[Baseline, ...]:
    """Score simple predictions and a model without encodings on the parts of `dataset`.

    The model is the family's default, trained here: what message passing and attention find alone.
    """
    graphs = {name: part for name, part in _parts(dataset).items() if name in parts and len(part)}

    def row(name: str, per_sample: Callable[[str, Sequence[Any]], Tensor]) -> Baseline:
        errors = {part: per_sample(part, those).double() for part, those in graphs.items()}
        scores = {
            f"{part}_{task.metric_name}": float(f"{float(found.mean()):.6g}")
            for part, found in errors.items()
        }
        return Baseline(name, scores, errors=errors["val"].cpu().numpy() if "val" in errors else None)

    rows = [
        row(name, lambda part, those, predict=predict: answers.per_sample(predict(those), those))
        for name, predict in answers.baselines(dataset).items()
    ]
    config = without_encodings(task)
    problem = GraphProblem(config, source, dataset, torch.device("cpu"), answers)
    engine = build_engine(config, problem, problem.device)
    assert engine.generator is not None
    batch = problem.evaluation_batch
    training, val = problem.training_batches(engine.generator), problem.batches("val", batch)
    engine.fit_planned(training, val, [BestWeights()])
    prepared = _parts(problem.dataset)

    def trained(part: str, those: Sequence[Any]) -> Tensor:
        errors = engine.evaluate_samples(GraphLoader(prepared[part], batch, problem.device)).errors
        assert errors is not None
        return errors

    return (*rows, row("no encodings", trained))


def without_encodings(task: GraphTask) -> RunConfig:
    """Return the default graph transformer, which has no encodings."""
    return family_default("graph_transformer").model_copy(update={"task": task})


def draw_values(truth: Tensor, predicted: Tensor) -> Drawing:
    """Return the picture of predicted against true numbers."""
    return drawings.predicted_numbers(truth.numpy(), predicted.numpy())


def _graph_task(task: Task) -> GraphTask:
    return cast(GraphTask, task)


def _find_source(task: GraphTask, info: TaskInfo | None, data_dir: Path | None) -> DataSource:
    """Return the search's own graphs if there is a search; otherwise look for them."""
    return locate_graphs(task, data_dir) if info is None else info.source


def _name(names: Sequence[str], kind: int) -> str:
    """Return what a type is called, or its number where it has no name."""
    return names[kind] if kind < len(names) else str(kind)


def _parts(dataset: GraphDataset) -> dict[str, Sequence[Any]]:
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test, "hold_out": dataset.hold_out}
