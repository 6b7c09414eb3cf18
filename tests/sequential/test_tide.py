"""TiDE: a step of the forecast and its own time features, what is read, and how targets share a window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.tide import ResidualBlock, TiDEForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import TiDEConfig

torch.set_num_threads(1)

CONFIG = TiDEConfig(hidden_size=16, layer_norm=True, dropout=0.0)
SHAPE = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(3, 1), n_marks=2)


def build(config: TiDEConfig = CONFIG, shape: SeriesShape = SHAPE) -> TiDEForecaster:
    torch.manual_seed(0)
    return TiDEForecaster(config, shape).eval()


def random_windows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 20, 4, generator=generator)
    marks = torch.rand(3, 25, 2, generator=generator) - 0.5
    return x, marks[:, :20], marks[:, 20:]


def numpy_linear(x: np.ndarray, linear: nn.Linear) -> np.ndarray:
    return x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()


@pytest.mark.parametrize("norm", [True, False])
def test_a_block_adds_a_hidden_layer_to_a_linear_shortcut(norm: bool) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(6, 9, 5, dropout=0.0, norm=norm)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, 6)
    hidden = np.maximum(numpy_linear(x.numpy(), block.hidden), 0)
    expected = numpy_linear(hidden, block.output) + numpy_linear(x.numpy(), block.shortcut)
    if norm:
        assert isinstance(block.norm, nn.LayerNorm)
        mean, deviation = expected.mean(-1, keepdims=True), expected.std(-1, keepdims=True)
        expected = (expected - mean) / deviation
        expected = expected * block.norm.weight.detach().numpy() + block.norm.bias.detach().numpy()
    np.testing.assert_allclose(block(x).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_temporal_decoder_gives_a_steps_time_features_to_that_step_alone() -> None:
    """With an encoder that is deaf to the window, a mark of the horizon moves its own step only."""
    model = build()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    inputs = random_windows()
    inputs[2].requires_grad_()
    out = model(*inputs)
    for step in range(5):
        (gradient,) = torch.autograd.grad(out[:, step].square().sum(), inputs[2], retain_graph=True)
        assert (gradient[:, step].abs().sum(-1) > 0).all()
        others = [other for other in range(5) if other != step]
        assert gradient[:, others].abs().sum() == 0


def test_the_encoder_reads_every_step_of_the_past_and_the_clock_of_past_and_future() -> None:
    model = build(CONFIG.model_copy(update={"linear_path": False, "normalization": "none"}))
    inputs = random_windows()
    for part in inputs:
        part.requires_grad_()
    first_step = model(*inputs)[:, 0].square().sum()
    for gradient in torch.autograd.grad(first_step, inputs):
        assert (gradient.abs().sum(dim=0) > 0).all()


def test_one_by_one_a_target_sees_its_own_past_and_the_clock() -> None:
    model = build(CONFIG.model_copy(update={"channel_independence": True}))
    inputs = random_windows()
    for part in inputs:
        part.requires_grad_()
    x_gradient, *of_marks = torch.autograd.grad(model(*inputs)[..., 0].square().sum(), inputs)
    assert x_gradient[..., 3].abs().sum() > 0
    assert x_gradient[..., :3].abs().sum() == 0
    assert all(gradient.abs().sum() > 0 for gradient in of_marks)


def test_without_time_features_the_clock_is_not_read() -> None:
    x, x_mark, y_mark = random_windows()
    model = build(CONFIG.model_copy(update={"time_features": False}))
    assert torch.equal(model(x, x_mark, y_mark), model(x))


def test_targets_that_are_no_inputs_are_forecast_from_the_other_columns() -> None:
    shape = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(), n_marks=2, n_outputs=3)
    model = build(CONFIG.model_copy(update={"linear_path": False}), shape)
    out = model(*random_windows())
    assert out.shape == (3, 5, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(ConfigError, match="not among the inputs; turn them off"):
        build(CONFIG, shape)
