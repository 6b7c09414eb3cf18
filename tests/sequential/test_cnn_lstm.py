"""CNN-LSTM: convolution and pooling against torch's own, and what the network can do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas_system.sequential.cnn_lstm import CNNLSTMForecaster, pooled
from nas_system.sequential.layers.causal_convolution import CausalConv
from nas_system.space import RunConfig, SeriesShape
from nas_system.space.families import CNNLSTMConfig

torch.set_num_threads(1)


def test_the_convolution_is_torchs_with_zeros_on_the_left() -> None:
    torch.manual_seed(0)
    conv = CausalConv(3, 5, kernel_size=4)
    x = torch.randn(2, 9, 3)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), conv.weight, conv.bias).mT
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_pooling_is_torchs_maximum_with_groups_counted_from_the_end(size: int) -> None:
    x = torch.rand(2, 9, 3, generator=torch.Generator().manual_seed(0))
    expected = F.max_pool1d(x.mT.flip(-1), size, ceil_mode=True).flip(-1).mT
    assert torch.equal(pooled(x, size), expected)


@pytest.mark.parametrize("pool", [1, 4])
def test_the_forecast_depends_on_every_step(pool: int) -> None:
    torch.manual_seed(0)
    shape = SeriesShape(seq_len=15, pred_len=2, n_inputs=1, target_columns=(0,), n_marks=0)
    config = CNNLSTMConfig(pool=pool, linear_path=False, normalization="none", dropout=0.0)
    x = torch.randn(64, 15, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(CNNLSTMForecaster(config, shape)(x).sum(), x)
    assert (gradient.abs().sum(dim=(0, 2)) > 0).all()


def test_a_bump_is_recognised_wherever_it_stands() -> None:
    """Up or down decides the forecast, the place does not: no linear map can tell."""
    torch.manual_seed(0)
    places = torch.arange(2, 18).repeat(2)
    heights = torch.tensor([1.0, -1.0]).repeat_interleave(16)
    x = torch.zeros(32, 20, 1)
    x[torch.arange(32), places, 0] = heights
    x[torch.arange(32), places + 1, 0] = -heights
    shape = SeriesShape(seq_len=20, pred_len=1, n_inputs=1, target_columns=(0,), n_marks=0)
    config = CNNLSTMConfig(normalization="none", linear_path=False, dropout=0.0, hidden_size=8, channels=8)
    model = CNNLSTMForecaster(config, shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(x)[:, 0, 0] - heights).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.mark.parametrize("time_features", [True, False])
def test_targets_that_are_no_inputs_are_forecast(time_features: bool) -> None:
    shape = SeriesShape(8, 3, n_inputs=4, target_columns=(), n_marks=4 if time_features else 0, n_outputs=2)
    model = CNNLSTMForecaster(CNNLSTMConfig(linear_path=False, time_features=time_features), shape)
    marks = (torch.rand(5, 8, 4), torch.rand(5, 3, 4)) if time_features else (None, None)
    assert model(torch.randn(5, 8, 4), *marks).shape == (5, 3, 2)


def test_a_pool_longer_than_the_look_back_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.pool=9 is longer than data\.seq_len=8"):
        RunConfig.model_validate({"model": {"family": "cnn_lstm", "pool": 9}, "data": {"seq_len": 8}})
