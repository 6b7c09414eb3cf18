"""One number for every graph: graphs with their encodings on the device, and pictures of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_system.data import DataSource
from nas_system.errors import ConfigError
from nas_system.graphs.datasets import GraphDataset
from nas_system.graphs.loader import GraphLoader, joined
from nas_system.graphs.task_graphs import load_graphs, locate_graphs
from nas_system.graphs.transformer import GraphTransformer
from nas_system.model import build_model
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import GraphShape, GraphTask, RunConfig
from nas_system.space.families import GraphTransformerConfig
from nas_system.tasks.problem import Batches, Part
from nas_system.training.engine import Engine
from nas_system.training.objectives import GraphRegression


def open_graphs(
    config: RunConfig, facts: dict[str, Any] | None, data_dir: Path | None, device: torch.device
) -> GraphProblem:
    """The graphs of the task."""
    task = graph_task_of(config)
    source = find_graphs(task, facts, data_dir)
    return GraphProblem(config, source, load_graphs(source, task), device)


def find_graphs(task: GraphTask, facts: dict[str, Any] | None, data_dir: Path | None) -> DataSource:
    """The search's own graphs if there is a search; otherwise wherever they are found."""
    if facts is None:
        return locate_graphs(task, data_dir)
    try:
        return DataSource.from_json(facts["source"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the facts of the search name no data source ({error})") from None


class GraphProblem:
    """A data set of graphs, as one configuration reads it; see `nas_system.tasks.problem`."""

    evaluation_batch = 128
    """Graphs are padded to the largest of a batch: larger batches save nothing."""

    def __init__(
        self, config: RunConfig, source: DataSource, dataset: GraphDataset, device: torch.device
    ) -> None:
        assert isinstance(config.model, GraphTransformerConfig)
        self.config, self.source, self.device = config, source, device
        names = (*config.model.node_encodings, *config.model.pair_encodings)
        self.dataset = dataset.with_encodings(names, config.model.encoding_options)
        for part in (*self.dataset.get_splits(), self.dataset.hold_out):
            for graph in part:
                # As the model answers, (B, 1): beside (B,) that would make B times B differences.
                graph.y = graph.y.reshape(1, 1)
        self.objective = GraphRegression(config.training.loss)

    @property
    def shape(self) -> GraphShape:
        return GraphShape(self.dataset.num_features, self.dataset.num_edge_types)

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

    def export_metadata(self) -> dict[str, Any]:
        return {
            "shape": {"n_node_types": self.shape.n_node_types, "n_edge_types": self.shape.n_edge_types},
            "data_sha256": self.source.sha256,
            "config": self.config.model_dump(mode="json"),
        }

    def draw(self, engine: Engine, paths: RunPaths, title: str) -> None:
        from nas_system.visualization import molecule_picture, predicted_values

        test = self._graphs("test")
        predicted = engine.predict(self.batches("test", self.evaluation_batch))
        truth = torch.cat([graph.y for graph in test])
        predicted_values(truth.numpy(), predicted.float().cpu().numpy(), paths.predictions, title=title)
        if isinstance(engine.model, GraphTransformer):
            molecule_picture(self._looked_at(engine.model, test), paths.attention, title=title)

    def _looked_at(self, model: GraphTransformer, graphs: Sequence[Any]) -> Any:
        """The graph of middle size, and where its most looking-around node looks: in the last layer."""
        from nas_system.visualization import MoleculeDrawing

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


def _name(names: Sequence[str], kind: int) -> str:
    """What a type is called, or its number where nobody has named it."""
    return names[kind] if kind < len(names) else str(kind)


def graph_task_of(config: RunConfig) -> GraphTask:
    assert isinstance(config.task, GraphTask), "graphs are asked for by a task about them"
    return config.task
