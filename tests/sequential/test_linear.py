"""NLinear and DLinear against numpy."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nas_system.sequential.layers.moving_average import moving_average
from nas_system.sequential.linear import LinearForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import LinearConfig

torch.set_num_threads(1)

SHAPE = SeriesShape(seq_len=20, pred_len=4, n_inputs=3, target_columns=(2, 0), n_marks=0)


def random_forecaster(config: LinearConfig) -> tuple[LinearForecaster, torch.Tensor]:
    torch.manual_seed(0)
    model = LinearForecaster(config, SHAPE)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model, torch.randn(5, 20, 3)


def numpy_average(series: np.ndarray, kernel: int) -> np.ndarray:
    half = kernel // 2
    padded = np.concatenate([[series[0]] * half, series, [series[-1]] * half])
    return np.convolve(padded, np.ones(kernel) / kernel, mode="valid")


def test_nlinear_subtracts_the_last_value_and_adds_it_again() -> None:
    model, x = random_forecaster(LinearConfig(normalization="last"))
    weight, bias = model.map.weight.detach().numpy(), model.map.bias.detach().numpy()
    targets = x.numpy()[:, :, [2, 0]]
    last = targets[:, -1:]
    expected = np.einsum("hl,blc->bhc", weight, targets - last) + bias[:, None] + last
    np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-4)


def test_dlinear_maps_average_and_rest_on_their_own() -> None:
    model, x = random_forecaster(LinearConfig(normalization="none", decomposition=True, kernel=7))
    assert model.trend_path is not None
    maps = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in (model.map, model.trend_path)]
    out = model(x).detach().numpy()
    for b in range(5):
        for channel, column in enumerate((2, 0)):
            series = x[b, :, column].numpy()
            trend = numpy_average(series, 7)
            expected = sum(w @ part + c for (w, c), part in zip(maps, (series - trend, trend), strict=True))
            np.testing.assert_allclose(out[b, :, channel], expected, atol=1e-4)


def test_moving_average_may_be_longer_than_the_window() -> None:
    x = torch.randn(1, 6, 1, generator=torch.Generator().manual_seed(0))
    out = moving_average(x, 15)
    np.testing.assert_allclose(out[0, :, 0].numpy(), numpy_average(x[0, :, 0].numpy(), 15), atol=1e-5)


def test_an_untrained_forecaster_repeats_the_mean_of_the_window() -> None:
    x = torch.randn(5, 20, 3, generator=torch.Generator().manual_seed(0))
    mean = x[:, :, [2, 0]].mean(1, keepdim=True).expand(-1, 4, -1)
    for config in (
        LinearConfig(),
        LinearConfig(normalization="none", individual=True),
        LinearConfig(normalization="mean", decomposition=True),
    ):
        torch.testing.assert_close(LinearForecaster(config, SHAPE)(x), mean)


def test_other_columns_than_the_targets_do_not_matter() -> None:
    model, x = random_forecaster(LinearConfig(normalization="revin", decomposition=True))
    changed = x.clone()
    changed[:, :, 1] = 99.0
    assert torch.equal(model(x), model(changed))


def test_individual_maps_are_one_per_target() -> None:
    shared = LinearForecaster(LinearConfig(), SHAPE)
    own = LinearForecaster(LinearConfig(individual=True), SHAPE)
    assert sum(p.numel() for p in shared.parameters()) == 20 * 4 + 4
    assert sum(p.numel() for p in own.parameters()) == 2 * (20 * 4 + 4)


def test_a_linear_series_is_learned_exactly() -> None:
    """Four steps of a straight line follow from the two before: a map without error exists."""
    steps = torch.arange(24.0) / 10
    slopes = torch.linspace(-2, 2, 32)[:, None]
    lines = (slopes * steps)[:, :, None]
    shape = SeriesShape(seq_len=20, pred_len=4, n_inputs=1, target_columns=(0,), n_marks=0)
    model = LinearForecaster(LinearConfig(), shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(lines[:, :20]) - lines[:, 20:]).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-4
