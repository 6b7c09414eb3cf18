"""Edge prediction without a download: which links are missing in small networks of communities?

Every network is a stochastic block model (Holland, Laskey, Leinhardt 1983): nodes of one community
are linked often, others seldom. All nodes look alike; only the links reveal which belong together.

The links of a network are divided once. Some are its known structure, some are to be predicted in training,
some in validation, some in the test. A part sees what the parts before it predict, and never what it
predicts itself, in neither direction:

    train  sees structure                       predicts train
    val    sees structure + train               predicts val
    test   sees structure + train + val         predicts test

As many pairs that are not linked are to be told apart from the links; no pair is used twice.
Encodings are computed from what a part sees, so they cannot leak either.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

from nas_system.graphs.datasets.dataset import GraphDataset, build_graph
from nas_system.graphs.datasets.draws import Draws

NODES = 36
COMMUNITIES = 4
LINKED_INSIDE, LINKED_OUTSIDE = 60, 4
"""Chance of a link, in percent, inside a community and between two."""
ASKED = 8
"""Links to predict per network and part. Always as many, so that a mean over networks is one over links."""
SEED = 20_210_603

Pair = tuple[int, int]


def link_synth(graphs: int = 200, seed: int = SEED, hold_out: int = 0) -> GraphDataset:
    """Generate `graphs` networks, each of them in all three parts with other links to predict.

    `hold_out` further networks have their test links predicted.
    """
    draws = Draws(seed)
    parts = ([], [], [])
    for _ in range(graphs):
        links, others = _network(draws)
        known = links[3 * ASKED :]
        for number, part in enumerate(parts):
            span = slice(number * ASKED, (number + 1) * ASKED)
            part.append(_graph(known, links[span], others[span]))
            known = known + links[span]
    kept_back = []
    for _ in range(hold_out):
        links, others = _network(draws)
        span = slice(2 * ASKED, 3 * ASKED)
        kept_back.append(_graph(links[3 * ASKED :] + links[: 2 * ASKED], links[span], others[span]))
    return GraphDataset(
        "link_synth",
        "edge_prediction",
        *parts,
        num_features=1,
        num_classes=1,
        num_edge_types=1,
        hold_out=kept_back,
    )


def _network(draws: Draws) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs that are linked and the pairs that are not, each in random order."""
    community = [node % COMMUNITIES for node in range(NODES)]
    draws.shuffle(community)
    links, others = [], []
    for i, j in combinations(range(NODES), 2):
        chance = LINKED_INSIDE if community[i] == community[j] else LINKED_OUTSIDE
        (links if draws.below(100) < chance else others).append((i, j))
    draws.shuffle(links)
    draws.shuffle(others)
    return links, others


def _graph(known: Sequence[Pair], links: Sequence[Pair], others: Sequence[Pair]):
    label = torch.tensor([1.0] * len(links) + [0.0] * len(others))
    return build_graph(
        torch.zeros(NODES, 1, dtype=torch.long),
        torch.tensor(sorted(known)),
        torch.zeros(len(known), dtype=torch.long),
        edge_label_index=torch.tensor([*links, *others]).t().contiguous(),
        edge_label=label,
        y=label,
    )
