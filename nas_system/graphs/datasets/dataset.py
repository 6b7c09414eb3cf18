"""What every graph data set is: three lists of graphs and what a model has to know about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nas_system.graphs.datasets.molecules import Molecule
from nas_system.graphs.encodings.attach import Options, add_encodings
from nas_system.graphs.pyg import import_pyg


@dataclass(frozen=True)
class GraphDataset:
    """Graphs for training, validation and test: lists of `torch_geometric.data.Data`, ready for a loader.

    Node types `x` (N, 1) and edge types `edge_attr` (E,) are whole numbers; `edge_index` (2, E) has both
    directions. `y` is (1,) float for regression, (1,) long for classification, and equal to
    `edge_label` (L,) float for edge prediction, where `edge_label_index` (2, L) holds the pairs of nodes.
    """

    name: str
    task_type: str
    """regression, classification or edge_prediction, as the Trainer calls them."""
    train: Sequence[Any]
    val: Sequence[Any]
    test: Sequence[Any]
    num_features: int
    """How many node types there are: the size of an embedding table for `x`."""
    num_classes: int
    """The number of outputs of a model: one per class, or 1."""
    num_edge_types: int
    node_types: tuple[str, ...] = ()
    """Names for pictures, where the types have any."""
    edge_types: tuple[str, ...] = ()
    hold_out: Sequence[Any] = ()
    """Graphs that no training, selection or early stopping sees; few data sets have some."""

    def get_splits(self) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Return training, validation and test graphs."""
        return self.train, self.val, self.test

    def with_encodings(self, names: Iterable[str], options: Options | None = None) -> GraphDataset:
        """Return the data set with encodings in its graphs; see `add_encodings`."""
        names = list(names)
        train, val, test, hold_out = (
            add_encodings(part, names, options) for part in (*self.get_splits(), self.hold_out)
        )
        return replace(self, train=train, val=val, test=test, hold_out=hold_out)


def graph_from_molecule(molecule: Molecule, y: torch.Tensor) -> Any:
    """Return a `Data` with every bond in both directions."""
    return build_graph(
        torch.tensor(molecule.atoms).unsqueeze(-1),
        torch.tensor([(i, j) for i, j, _ in molecule.bonds]).reshape(-1, 2),
        torch.tensor([kind for _, _, kind in molecule.bonds], dtype=torch.long),
        y=y,
    )


def build_graph(x: torch.Tensor, pairs: torch.Tensor, types: torch.Tensor, **more: torch.Tensor) -> Any:
    """Return a `Data` from undirected edges (E, 2) and their types (E,)."""
    both = torch.cat((pairs, pairs.flip(-1)))
    data = import_pyg("torch_geometric.data").Data
    return data(x=x, edge_index=both.t().contiguous(), edge_attr=types.repeat(2), **more)
