"""LSTM and GRU: equations, direction, segments, and what the frame lets through."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from nas_system.sequential.gru import GRUForecaster
from nas_system.sequential.layers.recurrent import Cell, LastState, segments
from nas_system.sequential.lstm import LSTMForecaster
from nas_system.space import RunConfig, SeriesShape
from nas_system.space.families import GRUConfig, LSTMConfig

torch.set_num_threads(1)

FAMILIES = [(LSTMForecaster, LSTMConfig), (GRUForecaster, GRUConfig)]
families = pytest.mark.parametrize(("forecaster", "config"), FAMILIES, ids=["lstm", "gru"])


def lstm_by_the_book(rnn: nn.LSTM, x: Tensor) -> Tensor:
    """The equations of Gers et al. 2000, one step after the other; torch stacks i, f, g, o."""
    of_input, of_state, input_bias, state_bias = rnn.parameters()
    hidden = memory = x.new_zeros(len(x), rnn.hidden_size)
    for step in x.unbind(1):
        gates = step @ of_input.T + input_bias + hidden @ of_state.T + state_bias
        into, keep, new, out = gates.chunk(4, dim=1)
        memory = keep.sigmoid() * memory + into.sigmoid() * new.tanh()
        hidden = out.sigmoid() * memory.tanh()
    return hidden


def gru_by_the_book(rnn: nn.GRU, x: Tensor) -> Tensor:
    """The equations of Cho et al. 2014 with the reset after the product; torch stacks r, z, n."""
    of_input, of_state, input_bias, state_bias = rnn.parameters()
    hidden = x.new_zeros(len(x), rnn.hidden_size)
    for step in x.unbind(1):
        read = (step @ of_input.T + input_bias).chunk(3, dim=1)
        kept = (hidden @ of_state.T + state_bias).chunk(3, dim=1)
        reset, update = ((read[i] + kept[i]).sigmoid() for i in (0, 1))
        new = (read[2] + reset * kept[2]).tanh()
        hidden = (1 - update) * new + update * hidden
    return hidden


@pytest.mark.parametrize(("cell", "by_the_book"), [("lstm", lstm_by_the_book), ("gru", gru_by_the_book)])
def test_the_last_state_is_what_the_equations_say(cell: Cell, by_the_book) -> None:
    torch.manual_seed(0)
    reader = LastState(cell, n_inputs=3, hidden_size=5)
    x = torch.randn(4, 11, 3)
    torch.testing.assert_close(reader(x), by_the_book(reader.rnn, x))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_in_both_directions_each_state_has_read_the_whole_look_back(cell: Cell) -> None:
    torch.manual_seed(0)
    reader = LastState(cell, n_inputs=2, hidden_size=3, num_layers=2, bidirectional=True)
    x = torch.randn(1, 9, 2, requires_grad=True)
    state = reader(x)
    assert state.shape == (1, 6)
    top, _ = reader.rnn(x)
    assert torch.equal(state, torch.cat([top[:, -1, :3], top[:, 0, 3:]], dim=1))
    for part in (state[:, :3], state[:, 3:]):
        (gradient,) = torch.autograd.grad(part.sum(), x, retain_graph=True)
        assert (gradient.abs().sum(dim=(0, 2)) > 0).all()


def test_segments_keep_the_order_of_steps_and_end_with_the_last() -> None:
    x = torch.arange(1.0, 15.0).reshape(1, 7, 2)
    expected = [[0.0, 0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0], [11.0, 12.0, 13.0, 14.0]]
    assert segments(x, 2).tolist() == [expected]
    assert torch.equal(segments(x, 1), x)


@families
def test_one_layer_with_dropout_raises_no_warning(forecaster, config) -> None:
    shape = SeriesShape(seq_len=8, pred_len=2, n_inputs=1, target_columns=(0,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecaster(config(num_layers=1, dropout=0.5), shape)


@families
@pytest.mark.parametrize("time_features", [True, False])
def test_targets_that_are_no_inputs_are_forecast(forecaster, config, time_features: bool) -> None:
    shape = SeriesShape(8, 3, n_inputs=4, target_columns=(), n_marks=4 if time_features else 0, n_outputs=2)
    model = forecaster(config(linear_path=False, time_features=time_features), shape).eval()
    marks = (torch.rand(5, 8, 4), torch.rand(5, 3, 4)) if time_features else (None, None)
    out = model(torch.randn(5, 8, 4), *marks)
    assert out.shape == (5, 3, 2)


@families
def test_the_network_learns_a_series_that_no_linear_map_can(forecaster, config) -> None:
    """The sign of a product of two past values: only what is not linear can know it."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 6, 1, generator=generator)
    truth = (x[:, -1:] * x[:, -3:-2]).sign()
    torch.manual_seed(0)
    shape = SeriesShape(seq_len=6, pred_len=1, n_inputs=1, target_columns=(0,), n_marks=0)
    model = forecaster(config(normalization="none", dropout=0.0, time_features=False), shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model(x) - truth).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("family", ["lstm", "gru"])
def test_a_segment_longer_than_the_look_back_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match=r"model\.segment_len=24 is longer than data\.seq_len=12"):
        RunConfig.model_validate({"model": {"family": family, "segment_len": 24}, "data": {"seq_len": 12}})
