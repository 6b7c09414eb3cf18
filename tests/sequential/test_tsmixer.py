"""TSMixer against numpy, and with targets that are no inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.tsmixer import MixingBlock, TSMixerForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import TSMixerConfig

torch.set_num_threads(1)

CONFIG = TSMixerConfig(num_layers=2, d_ff=6, dropout=0.0)
SHAPE = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(3, 1), n_marks=2)


def build(config: TSMixerConfig = CONFIG, shape: SeriesShape = SHAPE) -> TSMixerForecaster:
    torch.manual_seed(0)
    return TSMixerForecaster(config, shape).eval()


def random_windows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 20, 4, generator=generator)
    marks = torch.rand(3, 25, 2, generator=generator) - 0.5
    return x, marks[:, :20], marks[:, 20:]


def numpy_norm(window: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    normal = (window - window.mean()) / np.sqrt(window.var() + norm.eps)
    return normal * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def numpy_linear(x: np.ndarray, linear: nn.Linear) -> np.ndarray:
    return x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()


def test_a_block_mixes_steps_then_columns() -> None:
    torch.manual_seed(0)
    block = MixingBlock(seq_len=9, n_columns=3, d_ff=5, dropout=0.0)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 9, 3)
    out = block(x).detach().numpy()
    for window, mixed in zip(x.numpy(), out, strict=True):
        steps = numpy_linear(numpy_norm(window, block.norm1).T, block.time).T
        expected = window + np.maximum(steps, 0)
        hidden = np.maximum(numpy_linear(numpy_norm(expected, block.norm2), block.columns1), 0)
        expected = expected + numpy_linear(hidden, block.columns2)
        np.testing.assert_allclose(mixed, expected, atol=1e-4)


def test_targets_come_in_the_order_of_the_task() -> None:
    swapped = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(1, 3), n_marks=2)
    inputs = random_windows()
    torch.testing.assert_close(build()(*inputs), build(shape=swapped)(*inputs)[..., [1, 0]])


def test_targets_that_are_no_inputs_are_read_off_all_columns() -> None:
    shape = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(), n_marks=2, n_outputs=3)
    model = build(CONFIG.model_copy(update={"linear_path": False}), shape)
    inputs = random_windows()
    inputs[0].requires_grad_()
    out = model(*inputs)
    assert out.shape == (3, 5, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert inputs[0].grad is not None
    assert (inputs[0].grad.abs().sum(dim=(0, 1)) > 0).all()
    with pytest.raises(ConfigError, match="not among the inputs; turn them off"):
        build(CONFIG, shape)


def test_one_by_one_a_target_sees_its_own_past_and_the_clock() -> None:
    model = build(CONFIG.model_copy(update={"channel_independence": True}))
    inputs = random_windows()
    for part in inputs[:2]:
        part.requires_grad_()
    x_gradient, mark_gradient = torch.autograd.grad(model(*inputs)[..., 0].square().sum(), inputs[:2])
    assert x_gradient[..., 3].abs().sum() > 0
    assert x_gradient[..., :3].abs().sum() == 0
    assert mark_gradient.abs().sum() > 0


def test_without_time_features_the_clock_is_not_read() -> None:
    x, x_mark, y_mark = random_windows()
    model = build(CONFIG.model_copy(update={"time_features": False}))
    assert torch.equal(model(x, x_mark, y_mark), model(x))
    assert not torch.equal(build()(x, x_mark, y_mark), build()(x, x_mark + 0.1 * x[..., :2], y_mark))
