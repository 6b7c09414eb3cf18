"""The temporal convolutional network against its dilated form, and against looking ahead."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.causal_convolution import CausalConv
from nas_system.sequential.tcn import ChannelDropout, ResidualLevel, TCNForecaster
from nas_system.space import RunConfig, SeriesShape
from nas_system.space.families import TCNConfig

torch.set_num_threads(1)


def dilated(x: Tensor, conv: nn.Module, dilation: int) -> Tensor:
    """The paper's convolution on `(B, C, T)`: zeros on the left, dilated taps, every step."""
    assert isinstance(conv, nn.Conv1d)
    padded = F.pad(x, ((conv.weight.shape[2] - 1) * dilation, 0))
    return F.conv1d(padded, conv.weight, conv.bias, dilation=dilation)


def last_state_of_the_paper(model: TCNForecaster, x: Tensor) -> Tensor:
    x = x.mT
    for number, level in enumerate(model.levels):
        assert isinstance(level, ResidualLevel)
        out = dilated(x, level.first, 2**number).relu()
        out = dilated(out, level.second, 2**number).relu()
        shortcut = level.shortcut
        skip = F.conv1d(x, shortcut.weight, shortcut.bias) if isinstance(shortcut, nn.Conv1d) else x
        x = (out + skip).relu()
    return x[..., -1]


@pytest.mark.parametrize("seq_len", [1, 2, 21, 32, 47])
@pytest.mark.parametrize(("num_layers", "kernel_size"), [(1, 2), (4, 3), (3, 5)])
def test_the_last_state_equals_that_of_the_dilated_network(
    seq_len: int, num_layers: int, kernel_size: int
) -> None:
    torch.manual_seed(0)
    shape = SeriesShape(seq_len=seq_len, pred_len=2, n_inputs=3, target_columns=(1,), n_marks=0)
    config = TCNConfig(hidden_size=5, num_layers=num_layers, kernel_size=kernel_size, time_features=False)
    model = TCNForecaster(config, shape).eval()
    x = torch.randn(4, seq_len, 3)
    torch.testing.assert_close(model.levels(x)[:, -1], last_state_of_the_paper(model, x))


@pytest.mark.parametrize("n_steps", [12, 13])
def test_no_step_of_a_level_sees_a_later_one(n_steps: int) -> None:
    torch.manual_seed(0)
    level = ResidualLevel(2, 4, kernel_size=3, dropout=0.0)
    x = torch.randn(3, n_steps, 2, requires_grad=True)
    out = level(x)
    kept = range((n_steps - 1) % 2, n_steps, 2)
    assert out.shape == (3, len(kept), 4)
    for place, step in enumerate(kept):
        (gradient,) = torch.autograd.grad(out[:, place].sum(), x, retain_graph=True)
        assert gradient[:, step].abs().sum() > 0
        assert gradient[:, step + 1 :].abs().sum() == 0


def test_the_forecast_sees_exactly_the_receptive_field() -> None:
    torch.manual_seed(0)
    config = TCNConfig(num_layers=2, kernel_size=2, normalization="none", linear_path=False, dropout=0.0)
    assert config.receptive_field == 7
    model = TCNForecaster(config, SeriesShape(12, 1, n_inputs=1, target_columns=(0,), n_marks=0))
    x = torch.randn(64, 12, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    seen = gradient.abs().sum(dim=(0, 2)) > 0
    assert seen.tolist() == [False] * 5 + [True] * 7


def test_weights_are_a_length_and_a_direction() -> None:
    """Salimans and Kingma 2016: the norm of every filter is a parameter of its own."""
    conv = ResidualLevel(2, 4, kernel_size=3, dropout=0.0).first
    assert isinstance(conv, CausalConv)
    length, direction = (parameter for name, parameter in conv.named_parameters() if "original" in name)
    with torch.no_grad():
        length.mul_(3)
        direction.mul_(7)
    torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), length.flatten())


def test_causal_convolution_with_a_stride_keeps_the_last_step() -> None:
    torch.manual_seed(0)
    every, third = CausalConv(2, 3, kernel_size=4), CausalConv(2, 3, kernel_size=4, stride=3)
    third.load_state_dict(every.state_dict())
    for n_steps in (7, 8, 9):
        x = torch.randn(2, n_steps, 2)
        torch.testing.assert_close(third(x), every(x).flip(1)[:, ::3].flip(1))


def test_dropout_takes_whole_channels() -> None:
    torch.manual_seed(0)
    dropout = ChannelDropout(0.5)
    out = dropout(torch.ones(64, 6, 8))
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert out.unique().tolist() == [0.0, 2.0]
    assert torch.equal(dropout.eval()(out), out)


def test_targets_that_are_no_inputs_are_forecast() -> None:
    shape = SeriesShape(seq_len=8, pred_len=3, n_inputs=4, target_columns=(), n_marks=0, n_outputs=2)
    model = TCNForecaster(TCNConfig(linear_path=False, time_features=False), shape)
    assert model(torch.randn(5, 8, 4), None, None).shape == (5, 3, 2)


def test_a_network_that_does_not_reach_the_oldest_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"see 7 steps, fewer than data\.seq_len=8"):
        RunConfig.model_validate(
            {"model": {"family": "tcn", "num_layers": 2, "kernel_size": 2}, "data": {"seq_len": 8}}
        )
