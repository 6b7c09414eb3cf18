"""Graph classification without a download: does the molecule contain a ring of six?

Half of the molecules of every part do. The others have rings of other sizes, smaller and larger, so that
the size of the molecule does not reveal the answer.
"""

from __future__ import annotations

import torch

from nas_system.graphs.datasets.dataset import GraphDataset, graph_from_molecule
from nas_system.graphs.datasets.draws import Draws
from nas_system.graphs.datasets.molecules import ATOMS, BONDS, draw_molecule

SOUGHT = 6
OTHER_WEIGHTS = (1, 1, 2, 0, 2, 1)
"""How often rings of 3, 4, ..., 8 atoms occur besides the one sought; its own size does not."""
SEED = 20_210_602


def ring_synth(
    train: int = 800, val: int = 200, test: int = 200, seed: int = SEED, hold_out: int = 0
) -> GraphDataset:
    """Generate the data set: y = 1 with a ring of six atoms, 0 without; classes balanced to one graph."""
    parts = []
    for number, count in enumerate((train, val, test, hold_out)):
        draws = Draws(seed, number)
        labels = [place % 2 for place in range(count)]
        draws.shuffle(labels)
        parts.append([_graph(draws, label) for label in labels])
    return GraphDataset(
        "ring_synth",
        "classification",
        *parts[:3],
        num_features=len(ATOMS),
        num_classes=2,
        num_edge_types=len(BONDS),
        node_types=ATOMS,
        edge_types=BONDS,
        hold_out=parts[3],
    )


def _graph(draws: Draws, label: int):
    molecule = draw_molecule(draws, OTHER_WEIGHTS, ring_sizes=[SOUGHT] if label else [])
    return graph_from_molecule(molecule, torch.tensor([label]))
