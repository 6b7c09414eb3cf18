"""The graph transformer: what may not matter does not, what shall matter does, what is missing is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from python_server import run_python
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.graphs import get_model
from nas_system.graphs.encodings import NODE_ENCODINGS, PAIR_ENCODINGS, add_encodings, attribute_of

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.graphs.pyg import import_pyg

NODE, PAIR = tuple(NODE_ENCODINGS), tuple(PAIR_ENCODINGS)
ATOMS, BONDS = 9, 4


def ring_with_tail(ring: int, tail: int, seed: int = 0) -> Any:
    """A ring of atoms with a chain on it, types drawn at random; pairs to score are all of its bonds."""
    generator = torch.Generator().manual_seed(seed)
    bonds = [(i, (i + 1) % ring) for i in range(ring)]
    bonds += [(i, i + 1) for i in range(ring - 1, ring + tail - 1)]
    one_way = torch.tensor(bonds).T
    types = torch.randint(0, BONDS, (len(bonds),), generator=generator)
    return import_pyg().Data(
        x=torch.randint(0, ATOMS, (ring + tail, 1), generator=generator),
        edge_index=torch.cat([one_way, one_way.flip(0)], dim=1),
        edge_attr=types.repeat(2),
        edge_label_index=one_way,
        y=torch.tensor([float(ring)]),
    )


def encoded(*shapes: tuple[int, int]) -> list[Any]:
    graphs = [ring_with_tail(*shape, seed=number) for number, shape in enumerate(shapes)]
    return add_encodings(graphs, [*NODE, *PAIR])


def joined(graphs: list[Any]) -> Any:
    return import_pyg().Batch.from_data_list(graphs)


def build(num_classes: int = 1, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    options = {"encodings": NODE, "relative": PAIR} | options
    return get_model("graph_transformer", ATOMS, num_classes, 24, 2, **options)


def permuted(graph: Any, order: Tensor) -> Any:
    """The same graph with node `order[i]` at place i; encodings move with their nodes and pairs."""
    new = graph.clone()
    place = order.argsort()
    n = graph.num_nodes
    new.x, new.edge_index = graph.x[order], place[graph.edge_index]
    new.edge_label_index = place[graph.edge_label_index]
    for name in NODE:
        new[attribute_of(name)] = graph[attribute_of(name)][order]
    for name in PAIR:
        pairs = graph[attribute_of(name)].reshape(n, n, -1)
        new[attribute_of(name)] = pairs[order][:, order].reshape(n * n, -1)
    shuffled = torch.randperm(graph.num_edges)
    new.edge_index, new.edge_attr = new.edge_index[:, shuffled], graph.edge_attr[shuffled]
    return new


@pytest.mark.parametrize("options", [{}, {"pooling": "sum"}, {"norm": "layer"}, {"level": "edge"}], ids=str)
@torch.no_grad()
def test_the_order_of_nodes_and_bonds_does_not_matter(options: dict[str, Any]) -> None:
    graphs = encoded((5, 4), (8, 0), (3, 7))
    model = build(**options).eval()
    shuffled = [permuted(graph, torch.randperm(graph.num_nodes)) for graph in graphs]
    difference = model(joined(graphs)) - model(joined(shuffled))
    assert difference.abs().max() < 1e-4


@torch.no_grad()
def test_answers_do_not_depend_on_the_batch() -> None:
    graphs = encoded((5, 4), (8, 0), (3, 7))
    model = build().eval()
    together = model(joined(graphs))
    for number, graph in enumerate(graphs):
        torch.testing.assert_close(model(joined([graph]))[0], together[number], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(graph)[0], together[number], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", ["graph", "edge"])
def test_every_parameter_gets_a_gradient(level: str) -> None:
    batch = joined(encoded((5, 4), (8, 0), (3, 7), (6, 6)))
    model = build(level=level, dropout=0.1)
    model(batch).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", [*NODE, *PAIR, "edge_attr", "x"])
@torch.no_grad()
def test_all_that_the_graphs_bring_is_read(name: str) -> None:
    graphs = encoded((5, 4), (8, 0))
    model = build().eval()
    before = model(joined(graphs))
    attribute = attribute_of(name) if name in (*NODE, *PAIR) else name
    # Of the second graph only; a shift of all pairs alike would rightly change nothing.
    values = graphs[1][attribute]
    graphs[1][attribute] = values.roll(1, 0) if name in ("edge_attr", "x") else values.flip(0) * 2 + values**2
    after = model(joined(graphs))
    assert (after[1] - before[1]).abs().max() > 1e-6
    torch.testing.assert_close(after[0], before[0])


@torch.no_grad()
def test_signs_of_laplacian_eigenvectors_are_drawn_per_graph_and_only_in_training() -> None:
    graphs = encoded((5, 4), (8, 0))
    batch = joined(graphs)
    width = graphs[0].pe_laplacian.shape[1]

    def signs(model: nn.Module) -> Tensor:
        """What the eigenvectors are multiplied by on their way to the projection, (N, k)."""
        seen = []
        handle = model.nodes.scale.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, :width]))  # pyright: ignore
        model(batch)
        handle.remove()
        return torch.where(batch.pe_laplacian == 0, 0.0, seen[0] / batch.pe_laplacian)

    options: dict[str, Any] = {"encodings": ("laplacian", "role"), "relative": ()}
    drawn = [
        signs(build(generator=torch.Generator().manual_seed(seed), **options).train()) for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    for one in drawn:
        assert set(one.unique().tolist()) == {-1.0, 0.0, 1.0}
        first, second = one.split([graph.num_nodes for graph in graphs])
        for part in (first, second):
            assert all(len(set(column[column != 0].tolist())) <= 1 for column in part.T)
        assert not torch.equal(first.sum(0).sign(), second.sum(0).sign())
    assert (signs(build(**options).eval()) >= 0).all()
    # Without a generator of its own the model follows torch's, which a checkpoint restores.
    model = build(**options).train()
    torch.manual_seed(3)
    first = signs(model)
    torch.manual_seed(3)
    assert torch.equal(signs(model), first)


def test_attention_maps_are_shares_of_the_graph_and_leave_nothing_behind() -> None:
    graphs = encoded((5, 4), (8, 0))
    model = build(heads=4, dropout=0.5).train()
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    maps = model.attention_maps(joined(graphs))  # pyright: ignore[reportCallIssue]
    assert list(maps) == ["layer 1", "layer 2"]
    for weights in maps.values():
        assert weights.shape == (2, 4, 9, 9)
        torch.testing.assert_close(weights[0].sum(-1), torch.ones(4, 9))
        torch.testing.assert_close(weights[1, :, :8, :8].sum(-1), torch.ones(4, 8))
        assert not weights[1, :, 8].any()
        assert not weights[1, :, :, 8].any()
        assert not weights.requires_grad
    assert model.training
    assert torch.equal(random_state, torch.get_rng_state())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    alone = model.attention_maps(graphs[1])["layer 2"]  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(alone[0], maps["layer 2"][1, :, :8, :8], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_score_of_two_nodes_does_not_depend_on_their_order() -> None:
    graph = encoded((6, 3))[0]
    model = build(num_classes=2, level="edge").eval()
    scores = model(graph)
    assert scores.shape == (9, 2)
    graph.edge_label_index = graph.edge_label_index.flip(0)
    torch.testing.assert_close(model(graph), scores)
    assert scores[:, 0].std() > 0


def test_weights_go_into_another_model_and_give_its_answers() -> None:
    batch = joined(encoded((5, 4), (8, 0)))
    model = build(num_classes=3)
    model(batch)  # moves the running figures of the batch norms
    other = build(num_classes=3)
    torch.manual_seed(5)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), other.eval()(batch))


def test_graphs_without_types_of_bonds_and_with_several_columns_of_atoms() -> None:
    graph = ring_with_tail(6, 2)
    graph.edge_attr = None
    graph.x = torch.cat([graph.x, graph.x % 3], dim=1)
    model = get_model("graph_transformer", (ATOMS, 3), 2, 16, 1, num_edge_types=0)
    assert model(graph).shape == (1, 2)
    graph.x = graph.x[:, 0]
    assert get_model("graph_transformer", ATOMS, 2, 16, 1, num_edge_types=0)(graph).shape == (1, 2)


def without(attribute: str) -> Any:
    graph = encoded((5, 2))[0]
    del graph[attribute]
    return graph


def with_values(attribute: str, values: Any) -> Any:
    graph = encoded((5, 2))[0]
    graph[attribute] = values(graph[attribute])
    return graph


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (lambda: without("pe_random_walk"), r"no pe_random_walk.*add_encodings\(graphs, \['random_walk'\]\)"),
        (lambda: without("pair_resistance"), r"no pair_resistance.*\(graphs, \['resistance'\]\)"),
        (lambda: without("edge_attr"), "no edge_attr.*num_edge_types=0"),
        (lambda: with_values("pe_role", lambda v: v[:, :2]), "pe_role has 2 columns, but .* built for"),
        (lambda: with_values("pair_resistance", lambda v: v[:-1]), "pair_resistance has 48 rows.*needs 49"),
        (lambda: with_values("pe_role", lambda v: v[:-1]), "pe_role has 6 rows, .* needs 7"),
        (lambda: with_values("x", lambda v: v + 5), "x has types from 5 to .*for 9 types, counted from 0"),
        (lambda: with_values("edge_attr", lambda v: v + 0.5), "edge_attr is torch.float32.*whole numbers"),
        (lambda: with_values("x", lambda v: v.repeat(1, 2)), "with 2 columns.*in 1"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_missing_or_does_not_fit_is_named(graph: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build()(graph())


def test_pairs_to_score_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="no edge_label_index"):
        build(level="edge")(without("edge_label_index"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "gcn"}, "there is no graph model 'gcn'; choose from: graph_transformer"),
        ({"encodings": ("randomwalk",)}, "encodings: there is no 'randomwalk'; choose from: laplacian"),
        ({"relative": ("random_walk",)}, "relative: there is no 'random_walk'; choose from: shortest_path"),
        ({"level": "node"}, "level: there is no 'node'; choose from: graph, edge"),
        ({"pooling": "max"}, "choose from: mean, sum"),
        ({"norm": "none"}, "choose from: batch, layer"),
        ({"heads": 5}, "hidden_dim is a multiple of heads"),
        ({"num_layers": 0}, "all are at least 1"),
        ({"depth": 3}, "'graph_transformer': .*depth"),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_built_says_why(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        get_model(**{"num_features": ATOMS, "hidden_dim": 24, "num_layers": 1} | options)


def test_building_a_model_loads_no_pytorch_geometric() -> None:
    code = (
        "import sys\n"
        "from nas_system.graphs import get_model\n"
        "get_model(num_features=9, hidden_dim=8, encodings=['role'], relative=['resistance'])\n"
        "print([name for name in sys.modules if name.startswith('torch_geometric')])\n"
    )
    done = run_python(["-c", code])
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
