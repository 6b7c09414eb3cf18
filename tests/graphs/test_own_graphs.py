"""Graphs as people bring them: real numbers as features, edges to nowhere, attributes on some graphs only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nas_system.errors import ConfigError, Diverged
from nas_system.graphs import get_model
from nas_system.graphs.checks import check_graphs
from nas_system.graphs.encodings import add_encodings
from nas_system.graphs.loader import GraphLoader
from nas_system.training import Trainer, get_optimizer, set_seed

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.graphs.pyg import import_pyg

GENERATOR = torch.Generator().manual_seed(0)


def ring(n: int = 5, **attributes: Any) -> Any:
    """A ring of n nodes of three types, with bonds of three types."""
    start = torch.arange(n)
    end = (start + 1) % n
    graph = import_pyg().Data(
        x=torch.randint(0, 3, (n, 1), generator=GENERATOR),
        edge_index=torch.stack([torch.cat([start, end]), torch.cat([end, start])]),
        edge_attr=torch.randint(0, 3, (2 * n,), generator=GENERATOR),
        y=torch.rand(1, generator=GENERATOR),
    )
    for name, value in attributes.items():
        graph[name] = value
    return graph


def rings(count: int = 12) -> list[Any]:
    return [ring(4 + number % 3) for number in range(count)]


def loader(graphs: Any, batch_size: int = 4, **options: Any) -> Any:
    return import_pyg("torch_geometric.loader").DataLoader(graphs, batch_size=batch_size, **options)


def network(num_features: int = 3, **options: Any) -> Any:
    set_seed(0)
    return get_model("graph_transformer", num_features, 1, 16, 2, heads=2, **options)


def fit(train: Any, val: Any = None, model: Any = None, epochs: int = 1) -> dict[str, list[float]]:
    model = model or network()
    trainer = Trainer(model, get_optimizer(model, lr=3e-3), device="cpu")
    return trainer.fit(loader(train), loader(val or rings()), epochs=epochs)


# --- real numbers as features ---------------------------------------------------------------


def test_whole_numbers_may_be_floats():
    whole = rings()
    floats = [graph.clone() for graph in whole]
    for graph in floats:
        graph.x, graph.edge_attr = graph.x.float(), graph.edge_attr.double()
    (batch,), (other,) = loader(whole, 12), loader(floats, 12)
    model = network().eval()
    assert torch.equal(model(batch), model(other))


def of_numbers(count: int) -> list[Any]:
    """What is to be predicted is the mean of the nodes' second column and of the edges' first."""
    graphs = []
    for _ in range(count):
        n = int(torch.randint(3, 8, (1,), generator=GENERATOR))
        # A mass next to a charge, and a length: columns in units of their own.
        x = torch.randn(n, 2, generator=GENERATOR) * torch.tensor([50.0, 0.1]) + torch.tensor([100.0, 0.0])
        lengths = torch.randn(2 * n, 1, generator=GENERATOR) * 3 + 20
        y = 10 * x[:, 1].mean() + (lengths.mean() - 20) / 3
        graphs.append(ring(n, x=x, edge_attr=lengths, y=y.reshape(1)))
    return graphs


def test_a_model_learns_from_real_numbers_of_nodes_and_edges():
    model = network(2, node_features="numbers", edge_features="numbers", num_edge_types=1)
    train, val = of_numbers(200), of_numbers(60)
    history = fit(train, val, model, epochs=8)
    spread = torch.cat([graph.y for graph in val]).var().item()
    assert min(history["val_mse"]) < 0.3 * spread


def test_numbers_may_be_whole_and_in_one_dimension_and_edges_may_be_none():
    graphs = rings()
    for graph in graphs:
        graph.x = graph.x.flatten()
    model = network(1, node_features="numbers", edge_features="numbers", num_edge_types=1)
    without = ring(3, x=torch.tensor([0, 1, 2]))
    without.edge_index, without.edge_attr = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0)
    history = fit([*graphs, without], graphs, model)
    assert history["val_loss"][0] < 100
    assert model.train()(next(iter(loader([without])))).shape == (1, 1)


def test_parameters_of_a_model_of_types_are_what_they_were():
    names = set(network().state_dict())
    assert {"nodes.types.tables.0.weight", "bonds.tables.0.weight"} < names
    assert not any("scale" in name for name in names)


def test_real_numbers_are_refused_with_the_way_to_have_them_read():
    x = torch.full((5, 4), 0.5)
    with pytest.raises(
        ConfigError, match=r"4 columns.*build it with node_features='numbers' and num_features=4"
    ):
        fit([ring(x=x)])
    with pytest.raises(ConfigError, match="build it with edge_features='numbers' and num_edge_types=2"):
        fit([ring(edge_attr=torch.full((10, 2), 0.5))])
    with pytest.raises(ConfigError, match="x has 4 columns; the model was built for 3"):
        fit([ring(x=x)], model=network(3, node_features="numbers"))
    with pytest.raises(ConfigError, match=r"num_features=\[2, 3\]: of numbers it is how many columns x has"):
        get_model("graph_transformer", [2, 3], 1, 16, 1, node_features="numbers")
    with pytest.raises(ConfigError, match="node_features: there is no 'floats'; choose from: types, numbers"):
        network(node_features="floats")
    (batch,) = loader([ring()])
    del batch.edge_attr
    with pytest.raises(ConfigError, match="no edge_attr, whose numbers the model reads"):
        network(edge_features="numbers", num_edge_types=1)(batch)


@pytest.mark.parametrize("size", [float("nan"), 1e200, -1e200])
def test_a_number_beyond_single_precision_is_refused(size):
    x = torch.rand(5, 2, dtype=torch.float64)
    x[3, 1] = size
    with pytest.raises(
        ConfigError, match=r"x of the batch is (nan|-?inf), in single precision, in row 3, column 1"
    ):
        fit([ring(x=x)], model=network(2, node_features="numbers"))


# --- what does not fit together -------------------------------------------------------------


def changed(number: int = 7, **changes: Tensor | Callable[[Any], Tensor] | None) -> list[Any]:
    """Twelve rings, of which one is changed: None takes an attribute away."""
    graphs = rings()
    for name, value in changes.items():
        if value is None:
            del graphs[number][name]
        else:
            graphs[number][name] = value(graphs[number]) if callable(value) else value
    return graphs


def an_edge_to(node: int) -> Callable[[Any], Tensor]:
    def edges(graph: Any) -> Tensor:
        found = graph.edge_index.clone()
        found[1, 0] = node
        return found

    return edges


BAD = {
    "an edge to the next node": (
        changed(edge_index=an_edge_to(5)),
        "graph 7: edge_index names node 5, but its nodes are 0 to 4; fix",
    ),
    "an edge far out": (changed(edge_index=an_edge_to(1000)), "graph 7: edge_index names node 1000, but"),
    "an edge to node -1": (changed(edge_index=an_edge_to(-1)), "graph 7: edge_index names node -1, but"),
    "nodes from 1": (
        changed(edge_index=lambda graph: graph.edge_index + 1),
        "graph 7: .* names node 5, but its nodes are 0 to 4; nodes count from 0: subtract 1",
    ),
    "edges as floats": (
        changed(edge_index=lambda graph: graph.edge_index.float()),
        r"graph 7: edge_index is torch\.float32; .* \.long\(\)",
    ),
    "edges lying down": (
        changed(edge_index=lambda graph: graph.edge_index.t()),
        r"graph 7: edge_index has the shape \(10, 2\); it is \(2, edges\)",
    ),
    "no edges": (changed(edge_index=None), r"graph 7 has no edge_index"),
    "too few bonds": (
        changed(edge_attr=lambda graph: graph.edge_attr[:-1]),
        "graph 7 has 9 rows of edge_attr and 10 edges",
    ),
    "no bonds in one": (
        changed(edge_attr=None),
        "graph 7 has no edge_attr, which 11 of 12 graphs have; give it",
    ),
    "no bonds in the first": (changed(0, edge_attr=None), "graph 0 has no edge_attr, which 11 of 12"),
    "bonds in the first": (
        [ring(), *(changed(0, edge_attr=None)[0] for _ in range(11))],
        "graph 1 has no edge_attr, which 1 of 12",
    ),
    "no target": (changed(y=None), "graph 7 has no y, which 11 of 12"),
    "no nodes": (changed(x=None), "graph 7 has no x, which 11 of 12"),
    "more columns": (
        changed(x=lambda graph: graph.x.repeat(1, 2)),
        r"graph 7: x has the shape \(5, 2\), that of graph 0 has \(4, 1\)",
    ),
}


@pytest.mark.parametrize(("graphs", "said"), BAD.values(), ids=BAD)
def test_a_graph_that_does_not_fit_is_named(graphs, said):
    with pytest.raises(ConfigError, match=f"^training {said}"):
        fit(graphs)
    with pytest.raises(ConfigError, match=f"^validation {said}"):
        fit(rings(), graphs)
    with pytest.raises(ConfigError, match=f"^{said}"):
        check_graphs(graphs)


def test_a_graph_is_named_at_the_other_doors_too():
    for name in (
        "an edge to the next node",
        "an edge far out",
        "nodes from 1",
        "edges lying down",
        "no edges",
    ):
        graphs, said = BAD[name]
        with pytest.raises(ConfigError, match=said):
            add_encodings(graphs, ["random_walk"])
    for name in ("no bonds in one", "no target", "no nodes", "no edges", "edges lying down"):
        graphs, said = BAD[name]
        with pytest.raises(ConfigError, match=said):
            list(GraphLoader(graphs, 4, torch.device("cpu")))
    for name in (
        "an edge to the next node",
        "an edge far out",
        "nodes from 1",
        "edges as floats",
        "too few bonds",
    ):
        graphs, _ = BAD[name]
        with pytest.raises(ConfigError, match=r"^graph [0-9] of the batch"):
            network()(next(iter(loader(graphs, 12))))


def test_pairs_to_score_are_looked_at_as_well():
    graphs = [ring(edge_label_index=torch.tensor([[0], [end]]), edge_label=torch.ones(1)) for end in (1, 9)]
    model = network(level="edge")
    trainer = Trainer(model, get_optimizer(model), task_type="edge_prediction", device="cpu")
    with pytest.raises(ConfigError, match="training graph 1: edge_label_index names node 9"):
        trainer.fit(loader(graphs), epochs=1)
    with pytest.raises(ConfigError, match="graph 1 of the batch: edge_label_index names node 9"):
        model(next(iter(loader(graphs))))


def test_graphs_without_edges_train():
    empty = ring(3)
    empty.edge_index, empty.edge_attr = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    assert fit([empty, *rings()])["val_loss"][0] < 100


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 1e200, -1e200])
def test_a_target_that_is_no_number_is_blamed_and_the_learning_rate_is_not(size):
    graphs = changed(y=torch.tensor([size], dtype=torch.float64))
    for part, (train, val) in {"training": (graphs, rings()), "validation": (rings(), graphs)}.items():
        with pytest.raises(Diverged, match=f"not to blame: the target of {part} graph 7 is"):
            fit(train, val)
