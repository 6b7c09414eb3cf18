"""iTransformer: columns are tokens, in no order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.sequential.itransformer import ITransformerForecaster
from nas_system.sequential.layers.encoder import EncoderLayer
from nas_system.space import SeriesShape
from nas_system.space.families import ITransformerConfig

torch.set_num_threads(1)

CONFIG = ITransformerConfig(d_model=8, n_heads=2, d_ff=16, dropout=0.0)
SHAPE = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(3, 1), n_marks=2)


def build(config: ITransformerConfig = CONFIG, shape: SeriesShape = SHAPE) -> ITransformerForecaster:
    torch.manual_seed(0)
    return ITransformerForecaster(config, shape).eval()


def random_windows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 20, 4, generator=generator)
    marks = torch.rand(3, 25, 2, generator=generator) - 0.5
    return x, marks[:, :20], marks[:, 20:]


def test_the_order_of_the_columns_does_not_matter() -> None:
    x, *marks = random_windows()
    order = [2, 3, 0, 1]  # the targets 3 and 1 stand at 1 and 3 now
    shuffled = build(shape=SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(1, 3), n_marks=2))
    torch.testing.assert_close(shuffled(x[..., order], *marks), build()(x, *marks), atol=1e-5, rtol=1e-5)


def test_every_column_and_every_time_feature_is_read() -> None:
    inputs = random_windows()
    for part in inputs[:2]:
        part.requires_grad_()
    out = build()(*inputs)
    for target in range(2):
        gradients = torch.autograd.grad(out[..., target].square().sum(), inputs[:2], retain_graph=True)
        for gradient in gradients:
            assert (gradient.abs().sum(dim=(0, 1)) > 0).all()


def test_without_time_features_the_clock_is_not_read() -> None:
    x, x_mark, y_mark = random_windows()
    model = build(CONFIG.model_copy(update={"time_features": False}))
    assert torch.equal(model(x, x_mark, y_mark), model(x))
    assert not torch.equal(build()(x, x_mark, y_mark), build()(x, x_mark + 0.1, y_mark))


def test_each_target_is_forecast_from_its_own_token() -> None:
    """With attention silenced, a target depends on its own column alone."""
    model = build(CONFIG.model_copy(update={"linear_path": False}))
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer) and layer.attention is not None
        torch.nn.init.zeros_(layer.attention.out_projection.weight)
    inputs = random_windows()
    inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(model(*inputs)[..., 0].square().sum(), inputs[0])
    assert gradient[..., 3].abs().sum() > 0
    assert gradient[..., :3].abs().sum() == 0


@pytest.mark.parametrize("linear_path", [True, False])
def test_targets_that_are_no_inputs_are_refused(linear_path: bool) -> None:
    shape = SeriesShape(seq_len=20, pred_len=5, n_inputs=4, target_columns=(), n_marks=2, n_outputs=1)
    with pytest.raises(ConfigError, match=r"'itransformer' .* not among the inputs; choose another family"):
        build(CONFIG.model_copy(update={"linear_path": linear_path}), shape)
