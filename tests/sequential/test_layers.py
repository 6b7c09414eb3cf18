"""The shared layers against numpy and torch's own convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nas_system.sequential.layers.convolution import CircularConv, PointwiseConv
from nas_system.sequential.layers.embedding import CalendarEmbedding, sinusoids
from nas_system.sequential.layers.informer_core import DistilLayer
from nas_system.sequential.layers.normalization import InstanceNormalization
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families import Normalization

torch.set_num_threads(1)


def random_window(channels: int = 3, length: int = 12) -> torch.Tensor:
    return 5 * torch.randn(4, length, channels, generator=torch.Generator().manual_seed(0)) + 2


@pytest.mark.parametrize("kind", ["none", "last", "mean", "revin"])
def test_normalised_windows_equal_numpys(kind: Normalization) -> None:
    x = random_window()
    out, _ = InstanceNormalization(kind, 3).normalise(x)
    a = x.numpy()
    expected = {
        "none": a,
        "last": a - a[:, -1:],
        "mean": a - a.mean(1, keepdims=True),
        "revin": (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5),
    }[kind]
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "last", "mean", "revin"])
def test_restoring_undoes_normalising_column_by_column(kind: Normalization) -> None:
    x = random_window()
    normalization = InstanceNormalization(kind, 3)
    if kind == "revin":
        nn.init.uniform_(normalization.affine["weight"], 0.5, 2.0)
        nn.init.normal_(normalization.affine["bias"])
    normal, statistics = normalization.normalise(x)
    torch.testing.assert_close(normalization.restore(normal, statistics), x, atol=1e-4, rtol=1e-4)
    columns = torch.tensor([2, 0])
    some = normalization.restore(normal[:, :5, [2, 0]], statistics, columns)
    torch.testing.assert_close(some, x[:, :5, [2, 0]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["last", "mean", "revin"])
def test_normalised_windows_forget_the_level(kind: Normalization) -> None:
    x = random_window()
    normalization = InstanceNormalization(kind, 3)
    torch.testing.assert_close(
        normalization.normalise(x + 7)[0], normalization.normalise(x)[0], atol=1e-4, rtol=1e-4
    )


def test_a_constant_window_normalises_to_zero() -> None:
    out, statistics = InstanceNormalization("revin", 3).normalise(torch.full((2, 8, 3), 4.0))
    assert out.abs().max() == 0
    assert InstanceNormalization("revin", 3).restore(out, statistics).sub(4).abs().max() < 1e-6


def test_time_linear_starts_as_the_mean_of_the_window() -> None:
    x = random_window()
    for n_maps in (None, 3):
        out = TimeLinear(12, 5, n_maps)(x)
        torch.testing.assert_close(out, x.mean(1, keepdim=True).expand(-1, 5, -1))


def test_individual_maps_work_on_their_own_channel() -> None:
    x = random_window()
    linear = TimeLinear(12, 5, 3)
    nn.init.normal_(linear.weight)
    nn.init.normal_(linear.bias)
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    expected = np.stack([x.numpy()[:, :, c] @ weight[c].T + bias[c] for c in range(3)], axis=-1)
    np.testing.assert_allclose(linear(x).detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 12])
def test_circular_convolution_equals_torchs(length: int) -> None:
    x = random_window(length=length)
    ours, theirs = CircularConv(3, 6), nn.Conv1d(3, 6, 3, padding=1, padding_mode="circular")
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x.mT).mT, atol=1e-5, rtol=1e-5)


def test_pointwise_convolution_equals_torchs() -> None:
    x = random_window()
    ours, theirs = PointwiseConv(3, 6), nn.Conv1d(3, 6, 1)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x.mT).mT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 11, 12])
@pytest.mark.parametrize("training", [True, False])
def test_distilling_equals_the_papers_order_of_steps(length: int, training: bool) -> None:
    """Convolution, batch norm, ELU, pooling, with torch's own layers in that order."""
    torch.manual_seed(0)
    layer = DistilLayer(3).train(training)
    nn.init.normal_(layer.norm.weight)  # also negative: then large values become small ones
    nn.init.normal_(layer.norm.bias)
    conv = nn.Conv1d(3, 3, 3, padding=1, padding_mode="circular")
    conv.load_state_dict(layer.downConv.state_dict())
    norm = nn.BatchNorm1d(3).train(training)
    norm.load_state_dict(layer.norm.state_dict())
    x = random_window(length=length)
    expected = nn.functional.max_pool1d(nn.functional.elu(norm(conv(x.mT))), 3, 2, 1).mT
    out = layer(x)
    assert out.shape[1] == (length + 1) // 2
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.norm.running_var, norm.running_var)


def test_sinusoids_equal_their_formula() -> None:
    table = sinusoids(50, 8).numpy()
    for position, column in ((0, 0), (3, 1), (49, 6), (49, 7)):
        angle = position / 10_000 ** ((column // 2 * 2) / 8)
        expected = np.sin(angle) if column % 2 == 0 else np.cos(angle)
        assert table[position, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n_marks", [4, 5])
def test_calendar_numbers_pick_their_own_tables(n_marks: int) -> None:
    embedding = CalendarEmbedding(n_marks, 6, learned=True)
    marks = torch.tensor([[[12, 31, 6, 23, 3][:n_marks]]])
    names = ("month", "day", "weekday", "hour", "minute")[:n_marks]
    tables = dict(embedding.named_parameters())
    expected = sum(
        (tables[f"{name}_embed.weight"][marks[0, 0, i]] for i, name in enumerate(names)), torch.zeros(6)
    )
    torch.testing.assert_close(embedding(marks)[0, 0], expected)
