"""Encodings against numpy and networkx, one graph at a time, and what all of them promise."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nas_system.errors import ConfigError
from nas_system.graphs import get_dataset
from nas_system.graphs.datasets.dataset import build_graph
from nas_system.graphs.encodings import (
    NODE_ENCODINGS,
    PAIR_ENCODINGS,
    add_encodings,
    attribute_of,
    build_encoding,
    dense_graphs,
    encoding_size,
)
from nas_system.graphs.encodings.registry import Encoding
from nas_system.graphs.pyg import import_pyg

GRAPHS: dict[str, nx.Graph] = {
    "one node": nx.empty_graph(1),
    "two nodes": nx.path_graph(2),
    "no edges": nx.empty_graph(4),
    "path": nx.path_graph(6),
    "ring": nx.cycle_graph(6),
    "triangle with tail": nx.lollipop_graph(3, 4),
    "complete": nx.complete_graph(5),
    "two components": nx.disjoint_union(nx.cycle_graph(5), nx.path_graph(3)),
    "isolated node last": nx.disjoint_union(nx.star_graph(3), nx.empty_graph(1)),
    "isolated node first": nx.disjoint_union(nx.empty_graph(1), nx.star_graph(3)),
    "equal components": nx.disjoint_union(nx.path_graph(4), nx.path_graph(4)),
    "karate club": nx.Graph(nx.karate_club_graph().edges),
    "long path": nx.path_graph(30),
    "by chance": nx.gnp_random_graph(17, 0.2, seed=3),
    "by chance, sparse": nx.gnp_random_graph(25, 0.06, seed=4),
}
ALL = (*NODE_ENCODINGS, *PAIR_ENCODINGS)


def graph_of(graph: nx.Graph, order: Sequence[int] | None = None):
    """A `Data` of a networkx graph, its node i renumbered to `order[i]`."""
    nodes = graph.number_of_nodes()
    order = range(nodes) if order is None else order
    number = dict(zip(sorted(graph.nodes), order, strict=True))
    pairs = torch.tensor([(number[i], number[j]) for i, j in graph.edges], dtype=torch.long).reshape(-1, 2)
    return build_graph(
        torch.zeros(nodes, 1, dtype=torch.long), pairs, torch.zeros(len(pairs), dtype=torch.long)
    )


def encode(encoding: Encoding, graph: nx.Graph, order: Sequence[int] | None = None) -> Tensor:
    """Of one graph alone, without padding."""
    return encoding(dense_graphs([graph_of(graph, order)]))[0]


def adjacency(graph: nx.Graph) -> np.ndarray:
    return nx.to_numpy_array(graph, nodelist=sorted(graph.nodes), weight=None)


def normalised_laplacian(graph: nx.Graph) -> np.ndarray:
    a = adjacency(graph)
    degree = a.sum(0)
    with np.errstate(divide="ignore"):
        scale = np.where(degree > 0, degree**-0.5, 0.0)
    return np.diag((degree > 0).astype(float)) - scale[:, None] * a * scale


# --- each against something independent -------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_laplacian_vectors_are_the_smoothest_non_trivial_ones(name: str) -> None:
    graph, k = GRAPHS[name], 16
    laplacian = normalised_laplacian(graph)
    expected = np.linalg.eigvalsh(laplacian)
    expected = expected[expected > 1e-8][:k]
    found = encode(build_encoding("laplacian", {"k": k}), graph).numpy()
    assert found.shape == (len(laplacian), k)
    vectors, rest = found[:, : len(expected)], found[:, len(expected) :]
    np.testing.assert_allclose(laplacian @ vectors, vectors * expected, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(expected)), atol=1e-9)
    assert not rest.any(), "a graph with fewer eigenvectors is filled up with zeros"


@pytest.mark.parametrize("name", GRAPHS)
def test_the_greatest_entry_of_a_laplacian_vector_is_positive_unless_it_has_a_rival(name: str) -> None:
    values = np.linalg.eigvalsh(normalised_laplacian(GRAPHS[name]))
    values = values[values > 1e-8]
    alone = [place for place, value in enumerate(values[:16]) if (abs(values - value) < 1e-6).sum() == 1]
    for vector in encode(build_encoding("laplacian"), GRAPHS[name]).T[alone]:
        heaviest = vector.abs() > vector.abs().max() - 1e-6
        assert vector[heaviest][0] > 0


@pytest.mark.parametrize("name", GRAPHS)
def test_random_walks_return_as_often_as_powers_of_the_transition_matrix_say(name: str) -> None:
    a = adjacency(GRAPHS[name])
    transition = a / np.maximum(a.sum(1, keepdims=True), 1)
    for steps in ((1, 2, 4, 8, 16, 32), (3, 1, 7), (5,)):
        expected = [np.diag(np.linalg.matrix_power(transition, step)) for step in steps]
        found = encode(build_encoding("random_walk", {"steps": steps}), GRAPHS[name])
        np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-12)


def test_a_random_walk_sees_how_long_a_ring_is() -> None:
    for size in range(3, 9):
        # On a ring, left and right steps must cancel or go all the way round.
        ways = sum(comb(8, right) for right in range(9) if (2 * right - 8) % size == 0)
        found = encode(build_encoding("random_walk", {"steps": (8,)}), nx.cycle_graph(size))
        np.testing.assert_allclose(found, ways / 2**8)


@pytest.mark.parametrize("name", GRAPHS)
def test_heat_is_the_matrix_exponential(name: str) -> None:
    laplacian = torch.from_numpy(normalised_laplacian(GRAPHS[name]))
    signature, diffusion = NODE_ENCODINGS["heat_kernel"](), PAIR_ENCODINGS["diffusion"]()
    for encoding in (signature, diffusion):
        assert encoding.times[0] == pytest.approx(0.1)
        assert encoding.times[-1] == pytest.approx(10)
    found = encode(signature, GRAPHS[name])
    for column, t in zip(found.T, signature.times, strict=True):
        assert torch.allclose(column, torch.matrix_exp(-t * laplacian).diagonal(), atol=1e-9)
    found = encode(diffusion, GRAPHS[name])
    for place, t in enumerate(diffusion.times):
        assert torch.allclose(found[..., place], torch.matrix_exp(-t * laplacian), atol=1e-9)


@pytest.mark.parametrize("name", GRAPHS)
def test_roles_are_those_of_networkx(name: str) -> None:
    graph = GRAPHS[name]
    columns = (dict(graph.degree), nx.clustering(graph), nx.core_number(graph))
    expected = [[column[node] for column in columns] for node in sorted(graph.nodes)]
    np.testing.assert_allclose(encode(build_encoding("role"), graph), expected, atol=1e-12)


@pytest.mark.parametrize("max_distance", [1, 3, 8, 40])
@pytest.mark.parametrize("name", GRAPHS)
def test_distances_are_those_of_networkx(name: str, max_distance: int) -> None:
    graph = GRAPHS[name]
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    nodes = sorted(graph.nodes)
    unreachable = max_distance + 1
    expected = [
        [min(lengths[i][j], max_distance) if j in lengths[i] else unreachable for j in nodes] for i in nodes
    ]
    found = encode(build_encoding("shortest_path", {"max_distance": max_distance}), graph)
    assert found.shape[-1] == max_distance + 2
    assert torch.equal(found.sum(-1), torch.ones(found.shape[:2]))
    assert found.argmax(-1).tolist() == expected


@pytest.mark.parametrize("name", GRAPHS)
def test_resistance_is_that_of_the_pseudo_inverse(name: str) -> None:
    graph = GRAPHS[name]
    found = encode(build_encoding("resistance"), graph)
    together = np.zeros(found.shape[:2])
    for component in nx.connected_components(graph):
        nodes = sorted(component)
        a = adjacency(graph.subgraph(nodes))
        inverse = np.linalg.pinv(np.diag(a.sum(0)) - a, hermitian=True)
        potential = np.diag(inverse)
        rows = np.ix_(nodes, nodes)
        together[rows] = 1
        expected = potential[:, None] + potential - 2 * inverse
        np.testing.assert_allclose(found[..., 0].numpy()[rows], expected, atol=1e-9)
    np.testing.assert_array_equal(found[..., 1], 1 - together)
    assert not found[..., 0].numpy()[together == 0].any(), "no way at all is said by the other channel"


def test_resistances_in_series_and_in_parallel() -> None:
    path = encode(build_encoding("resistance"), nx.path_graph(30))[..., 0]
    steps = torch.arange(30.0, dtype=torch.float64)
    assert torch.allclose(path, (steps - steps[:, None]).abs(), atol=1e-9)
    ring = encode(build_encoding("resistance"), nx.cycle_graph(7))[0, :, 0]
    assert torch.allclose(ring, steps[:7] * (7 - steps[:7]) / 7, atol=1e-9)


# --- what every encoding promises -------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_neither_padding_nor_company_changes_an_encoding(name: str) -> None:
    graphs = [graph_of(graph) for graph in GRAPHS.values()]
    encoding = build_encoding(name)
    together = encoding(dense_graphs(graphs))
    real = dense_graphs(graphs).mask if name in NODE_ENCODINGS else dense_graphs(graphs).pair_mask
    assert together.shape == (*real.shape, encoding.size)
    assert not together[~real].any(), "padding is zero"
    assert together.isfinite().all()
    for graph, padded in zip(graphs, together, strict=True):
        n = graph.num_nodes
        alone = encoding(dense_graphs([graph]))[0]
        assert torch.allclose(padded[:n] if name in NODE_ENCODINGS else padded[:n, :n], alone, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ALL if name != "laplacian"])
@pytest.mark.parametrize("shape", GRAPHS)
def test_renumbered_nodes_keep_their_encoding(name: str, shape: str) -> None:
    order = np.random.default_rng(0).permutation(GRAPHS[shape].number_of_nodes())
    encoding = build_encoding(name)
    plain, renumbered = encode(encoding, GRAPHS[shape]), encode(encoding, GRAPHS[shape], order)
    moved = renumbered[order] if name in NODE_ENCODINGS else renumbered[order][:, order]
    assert torch.allclose(moved, plain, atol=1e-9)


def test_renumbered_nodes_keep_their_laplacian_vectors_where_no_symmetry_forbids_it() -> None:
    tried = 0
    for seed in range(12):
        graph = nx.gnp_random_graph(14, 0.35, seed=seed)
        values, vectors = np.linalg.eigh(normalised_laplacian(graph))
        sizes = np.sort(np.abs(vectors[:, 1:]), axis=0)
        if np.diff(values).min() < 1e-4 or (sizes[-1] - sizes[-2]).min() < 1e-4 or values[1] < 1e-4:
            continue
        tried += 1
        order = np.random.default_rng(seed).permutation(14)
        encoding = build_encoding("laplacian")
        assert torch.allclose(encode(encoding, graph, order)[order], encode(encoding, graph), atol=1e-9)
    assert tried >= 3


def test_components_of_one_graph_are_encoded_as_graphs_of_their_own() -> None:
    ring, path = nx.cycle_graph(5), nx.path_graph(4)
    both = nx.disjoint_union(ring, path)
    for name in ("random_walk", "heat_kernel", "role"):
        alone = torch.cat([encode(build_encoding(name), part) for part in (ring, path)])
        assert torch.allclose(encode(build_encoding(name), both), alone, atol=1e-9)
    assert not encode(build_encoding("diffusion"), both)[:5, 5:].any()


def test_the_order_and_the_number_of_edges_do_not_matter() -> None:
    graph = graph_of(GRAPHS["karate club"])
    odd = build_graph(graph.x, graph.edge_index.flip(1).t(), graph.edge_attr)  # every edge four times
    loops = torch.arange(5).repeat(2, 1)
    odd.edge_index = torch.cat((odd.edge_index, loops), dim=1)
    one_way = graph_of(GRAPHS["karate club"])
    one_way.edge_index = one_way.edge_index[:, : one_way.num_edges // 2]
    for name in ALL:
        expected = build_encoding(name)(dense_graphs([graph]))
        for same in (odd, one_way):
            assert torch.equal(build_encoding(name)(dense_graphs([same])), expected), name


# --- in a data set ------------------------------------------------------------------------------


def test_encodings_are_stored_so_that_a_loader_can_join_graphs() -> None:
    graphs = [graph_of(graph) for graph in GRAPHS.values()]
    encoded = add_encodings(graphs, ALL, batch_size=4)
    for graph, plain in zip(encoded, graphs, strict=True):
        n = graph.num_nodes
        for name in ALL:
            rows = n if name in NODE_ENCODINGS else n * n
            value = graph[attribute_of(name)]
            assert value.shape == (rows, encoding_size(name))
            assert value.dtype == torch.float32
            alone = build_encoding(name)(dense_graphs([plain]))[0].reshape(rows, -1)
            assert torch.allclose(value, alone.float(), atol=1e-6)
            assert attribute_of(name) not in plain, "the graphs given stay as they are"
    assert attribute_of("laplacian") == "pe_laplacian"
    assert attribute_of("resistance") == "pair_resistance"
    loader = import_pyg("torch_geometric.loader").DataLoader
    batch = next(iter(loader(encoded, batch_size=len(encoded))))
    for name in ALL:
        expected = torch.cat([graph[attribute_of(name)] for graph in encoded])
        assert torch.equal(batch[attribute_of(name)], expected)


def test_an_encoding_holds_only_its_own_memory() -> None:
    (small, _) = add_encodings([graph_of(nx.path_graph(3)), graph_of(nx.path_graph(40))], ALL)
    for name in ALL:
        value = small[attribute_of(name)]
        assert value.untyped_storage().nbytes() == 4 * value.numel()


def test_options_reach_the_encoding_and_are_checked() -> None:
    graphs = [graph_of(nx.path_graph(5))]
    options = {"laplacian": {"k": 3}, "random_walk": {"steps": (2, 6)}}
    (graph,) = add_encodings(graphs, ["laplacian", "random_walk"], options)
    assert graph.pe_laplacian.shape == (5, 3)
    assert graph.pe_random_walk.shape == (5, 2)
    assert add_encodings(graphs, [])[0].keys() == graphs[0].keys()
    with pytest.raises(ConfigError, match="there is no encoding 'laplace'; choose from: laplacian, random"):
        add_encodings(graphs, ["laplace"])
    with pytest.raises(ConfigError, match=r"'laplacian'.*dimensions"):
        add_encodings(graphs, ["laplacian"], {"laplacian": {"dimensions": 3}})
    with pytest.raises(ConfigError, match="not asked for: role"):
        add_encodings(graphs, ["laplacian"], {"role": {}})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("laplacian", {"k": 0}),
        ("random_walk", {"steps": ()}),
        ("random_walk", {"steps": (0, 2)}),
        ("heat_kernel", {"times": (-1.0,)}),
        ("diffusion", {"times": ()}),
        ("shortest_path", {"max_distance": 0}),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, options: dict) -> None:
    with pytest.raises(ConfigError, match=f"encoding '{name}': {next(iter(options))}="):
        build_encoding(name, options)


def test_more_eigenvectors_than_nodes_may_be_asked_for_and_signs_do_not_change() -> None:
    # Transforms of PyTorch Geometric raise for the first and draw the second again at every call.
    graphs = get_dataset("zinc_synth", train=40, val=1, test=1).train
    first, again = (add_encodings(graphs, ["laplacian"], {"laplacian": {"k": 50}}) for _ in range(2))
    for graph, same in zip(first, again, strict=True):
        assert torch.equal(graph.pe_laplacian, same.pe_laplacian)
        assert not graph.pe_laplacian[:, graph.num_nodes - 1 :].any()
        assert graph.pe_laplacian[:, graph.num_nodes - 2].any()


class Operators(TorchDispatchMode):
    """Counts the operators that are called."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_batch_takes_a_fraction_of_the_operators_that_its_graphs_take_one_by_one() -> None:
    graphs = get_dataset("zinc_synth", train=32, val=0, test=0).train

    def operators(batch_size: int) -> int:
        with Operators() as counted:
            add_encodings(graphs, ALL, batch_size=batch_size)
        return counted.count

    assert operators(32) < 0.3 * operators(1)
