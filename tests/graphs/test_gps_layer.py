"""The GPS layer against PyTorch Geometric's, and what padding and odd batches must not do."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_system.graphs.global_attention import GlobalAttention, attend, attention_bias
from nas_system.graphs.gps_layer import GPSLayer
from nas_system.graphs.message_passing import GINE
from nas_system.graphs.padding import PaddedLayout

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.graphs.pyg import import_pyg

WIDTH, HEADS = 12, 3


def path_batch(*sizes: int) -> Any:
    """Paths of these sizes, with bonds in both directions."""
    pyg = import_pyg()
    graphs = []
    for n in sizes:
        bonds = list(pairwise(range(n)))
        edge_index = torch.tensor(bonds + [(j, i) for i, j in bonds], dtype=torch.long).reshape(-1, 2).T
        graphs.append(pyg.Data(edge_index=edge_index, num_nodes=n))
    return pyg.Batch.from_data_list(graphs)


def inputs(batch: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch.num_nodes, WIDTH, generator=generator),
        torch.randn(batch.num_edges, WIDTH, generator=generator),
    )


def build_layer(**options: Any) -> GPSLayer:
    torch.manual_seed(1)
    return GPSLayer(WIDTH, HEADS, **options)


def run(layer: GPSLayer, batch: Any, x: Tensor, bonds: Tensor | None, bias: Tensor | None = None) -> Tensor:
    layout = PaddedLayout.of(batch)
    return layer(x, batch.edge_index, bonds, layout, attention_bias(layout, bias))


def as_pyg_layer(layer: GPSLayer) -> nn.Module:
    """PyTorch Geometric's layer with the weights of ours."""
    layers = import_pyg("torch_geometric.nn")
    theirs = layers.GPSConv(WIDTH, layers.GINEConv(layer.message_passing.mlp), heads=HEADS)
    theirs.attn.in_proj_weight = layer.attention.projection.weight
    theirs.attn.in_proj_bias = layer.attention.projection.bias
    theirs.attn.out_proj = layer.attention.output
    theirs.mlp = layer.feed_forward
    for ours, name in ((layer.local_norm, "norm1"), (layer.global_norm, "norm2"), (layer.norm, "norm3")):
        getattr(theirs, name).module.load_state_dict(ours.state_dict())
    return theirs


@pytest.mark.parametrize("training", [True, False])
def test_without_a_bias_it_computes_what_pytorch_geometric_computes(training: bool) -> None:
    batch = path_batch(5, 1, 9, 3)
    x, bonds = inputs(batch)
    layer = build_layer()
    theirs = as_pyg_layer(layer).train(training)
    ours = run(layer.train(training), batch, x, bonds)
    expected = theirs(x, batch.edge_index, batch.batch, edge_attr=bonds)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_its_gradients_are_those_of_pytorch_geometric() -> None:
    batch = path_batch(5, 2, 9)
    layer = build_layer()
    theirs = as_pyg_layer(layer)
    gradients = []
    for forward in (
        lambda x, bonds: run(layer, batch, x, bonds),
        lambda x, bonds: theirs(x, batch.edge_index, batch.batch, edge_attr=bonds),
    ):
        x, bonds = (value.requires_grad_() for value in inputs(batch))
        gradients.append(torch.autograd.grad(forward(x, bonds).tanh().sum(), [x, bonds]))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_messages_go_from_source_to_target_with_their_bond() -> None:
    layer = GINE(2)
    layer.mlp = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    x = torch.tensor([[1.0, -5.0], [10.0, 10.0], [0.0, 0.0]])
    edge_index = torch.tensor([[0, 0], [1, 2]])
    bonds = torch.tensor([[1.0, 1.0], [-3.0, 7.0]])
    expected = [[1.0, -5.0], [10.0 + 2.0, 10.0], [0.0, 2.0]]
    assert layer(x, edge_index, bonds).tolist() == expected
    assert layer(x, edge_index, None).tolist() == [[1.0, -5.0], [11.0, 10.0], [1.0, 0.0]]


def test_the_bias_is_added_to_the_scores_of_its_head() -> None:
    batch = path_batch(4, 2)
    layout, (x, _) = PaddedLayout.of(batch), inputs(batch)
    attention = GlobalAttention(WIDTH, HEADS)
    plain = attention.weights(x, layout, attention_bias(layout))
    bias = torch.zeros(2, HEADS, 4, 4)
    bias[0, 1, 2, 3] = math.log(5.0)
    biased = attention.weights(x, layout, attention_bias(layout, bias))
    # exp(score + log 5) counts five times; the others of the row share what is left.
    row = plain[0, 1, 2].clone()
    row[3] *= 5
    torch.testing.assert_close(biased[0, 1, 2], row / row.sum())
    biased[0, 1, 2] = plain[0, 1, 2]
    torch.testing.assert_close(biased, plain)


def test_attention_is_that_of_torch_also_with_a_bias_that_is_learned() -> None:
    q, k, v = torch.randn(3, 2, HEADS, 5, 4).unbind()
    answers = []
    for function in (attend, lambda q, k, v, bias: nn.functional.scaled_dot_product_attention(q, k, v, bias)):
        bias = torch.randn(2, HEADS, 5, 5, generator=torch.Generator().manual_seed(3)).requires_grad_()
        out = function(q, k, v, bias)
        answers.append((out, *torch.autograd.grad(out.tanh().sum(), [bias])))
    for mine, torchs in zip(*answers, strict=True):
        torch.testing.assert_close(mine, torchs)


def test_a_graph_does_not_notice_the_graphs_beside_it() -> None:
    alone, batch = path_batch(4), path_batch(2, 4, 11)
    x, bonds = inputs(batch)
    layer = build_layer(norm="layer")  # in training, too; batch norm joins the graphs there on purpose
    part = run(layer, alone, x[2:6], bonds[2:8])
    torch.testing.assert_close(run(layer, batch, x, bonds)[2:6], part, atol=1e-6, rtol=1e-5)
    layer = build_layer().eval()
    part = run(layer, alone, x[2:6], bonds[2:8])
    torch.testing.assert_close(run(layer, batch, x, bonds)[2:6], part, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (3, 0, 2), (0, 1)], ids=str)
def test_single_nodes_and_empty_graphs_give_finite_numbers_and_gradients(sizes: tuple[int, ...]) -> None:
    batch = path_batch(*sizes)
    x, bonds = inputs(batch)
    x.requires_grad_()
    layer = build_layer()
    out = run(layer, batch, x, bonds)
    out.square().sum().backward()
    assert out.shape == x.shape
    assert out.isfinite().all()
    layout = PaddedLayout.of(batch)
    weights = layer.attention.weights(x, layout, attention_bias(layout))
    assert weights.sum().item() == pytest.approx(HEADS * sum(sizes), rel=1e-5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_batch_norm_counts_only_batches_that_have_a_variance() -> None:
    layer = build_layer()
    single = path_batch(1)
    run(layer, single, *inputs(single))
    assert torch.equal(layer.norm.running_mean, torch.zeros(WIDTH))  # pyright: ignore[reportArgumentType]
    pair = path_batch(2)
    run(layer, pair, *inputs(pair))
    assert not torch.equal(layer.norm.running_mean, torch.zeros(WIDTH))  # pyright: ignore[reportArgumentType]


def test_padding_and_back_keeps_every_node_in_its_place() -> None:
    layout = PaddedLayout.of(path_batch(2, 0, 3))
    nodes = torch.arange(1.0, 6.0)[:, None]
    block = layout.pad(nodes)
    assert block[..., 0].tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert layout.mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert torch.equal(layout.unpad(block), nodes)
    assert layout.sum(nodes)[:, 0].tolist() == [3, 0, 12]
    assert layout.mean(nodes)[:, 0].tolist() == [1.5, 0, 4]


def test_pairs_are_padded_row_by_row() -> None:
    layout = PaddedLayout.of(path_batch(2, 0, 3))
    block = layout.pad_pairs(torch.arange(1.0, 14.0)[:, None])[..., 0]
    assert block[0].tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]
    assert block[1].tolist() == [[0] * 3] * 3
    assert block[2].tolist() == [[5, 6, 7], [8, 9, 10], [11, 12, 13]]
    assert layout.n_pairs == 13


def test_a_single_graph_is_a_batch_of_one() -> None:
    graph = path_batch(4).get_example(0)
    layout = PaddedLayout.of(graph)
    assert (layout.n_graphs, layout.longest, layout.place.tolist()) == (1, 4, [0, 1, 2, 3])


def test_dropout_acts_in_training_only() -> None:
    batch = path_batch(5, 4)
    layer = build_layer(dropout=0.5)
    assert not torch.equal(run(layer, batch, *inputs(batch)), run(layer, batch, *inputs(batch)))
    layer.eval()
    assert torch.equal(run(layer, batch, *inputs(batch)), run(layer, batch, *inputs(batch)))
