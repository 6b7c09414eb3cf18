"""The sequence-to-sequence forecaster: both attentions, the decoder's memory, the weights it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_system.sequential.layers.state_attention import AdditiveScore, DotScore
from nas_system.sequential.seq2seq_attention import Seq2SeqAttentionForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import Seq2SeqAttentionConfig

torch.set_num_threads(1)

SHAPE = SeriesShape(seq_len=10, pred_len=4, n_inputs=3, target_columns=(2, 0))
attentions = pytest.mark.parametrize("attention", ["additive", "dot"])


def random_forecaster(shape: SeriesShape = SHAPE, **fields: Any) -> Seq2SeqAttentionForecaster:
    torch.manual_seed(0)
    return Seq2SeqAttentionForecaster(
        Seq2SeqAttentionConfig.model_validate({"hidden_size": 6} | fields), shape
    ).eval()


def random_windows(shape: SeriesShape = SHAPE, batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = [(shape.seq_len, shape.n_inputs), (shape.seq_len, shape.n_marks), (shape.pred_len, shape.n_marks)]
    return [torch.randn(batch, *size, generator=generator) for size in sizes]


def test_the_dot_score_is_luongs_over_the_root_of_the_width() -> None:
    query, states = torch.randn(2, 9), torch.randn(2, 5, 9)
    score = DotScore(9)
    expected = np.einsum("bh,blh->bl", query.numpy(), states.numpy()) / 3
    np.testing.assert_allclose(score(query, score.keys(states)).numpy(), expected, atol=1e-5)


def test_the_additive_score_is_bahdanaus() -> None:
    torch.manual_seed(0)
    score = AdditiveScore(9)
    query, states = torch.randn(2, 9), torch.randn(2, 5, 9)
    w, b = score.of_query.weight.detach().numpy(), score.of_query.bias.detach().numpy()
    u, v = score.of_state.weight.detach().numpy(), score.energy.weight[0].detach().numpy()
    expected = np.tanh((query.numpy() @ w.T + b)[:, None] + states.numpy() @ u.T) @ v
    np.testing.assert_allclose(score(query, score.keys(states)).detach().numpy(), expected, atol=1e-5)


@attentions
@pytest.mark.parametrize("time_features", [True, False])
def test_weights_are_one_distribution_over_the_look_back_per_step(
    attention: str, time_features: bool
) -> None:
    shape = SHAPE if time_features else SeriesShape(10, 4, n_inputs=3, target_columns=(2, 0), n_marks=0)
    model = random_forecaster(shape, attention=attention, time_features=time_features)
    windows = random_windows(shape)
    inputs = windows if time_features else [windows[0], None, None]
    before = set(vars(model))
    ((name, weights),) = model.attention_weights(*inputs).items()
    assert name == "decoder to encoder"
    assert weights.shape == (3, 4, 10)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4))
    assert not torch.equal(weights[:, 0], weights[:, 1])
    assert not weights.requires_grad
    assert set(vars(model)) == before


def test_weights_are_those_of_the_forecast() -> None:
    """Everything else switched off, the forecast is the context: the weighted mean of the states."""
    model = random_forecaster(linear_path=False, normalization="last")
    windows = random_windows()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
        model.output.weight[0, 6] = 1.0  # the first state's share in the context
        forecast = model(*windows)[..., 0] - windows[0][:, -1:, 2]
        normal = windows[0] - windows[0][:, -1:]
        states, _ = model.encoder(torch.cat([normal, windows[1]], dim=-1))
        expected = model.attention_weights(*windows)["decoder to encoder"] @ states[..., :1]
    torch.testing.assert_close(forecast, expected[..., 0])


def test_weights_do_not_depend_on_the_level_that_the_frame_takes_away() -> None:
    model = random_forecaster(normalization="last")
    x, *marks = random_windows()
    first = model.attention_weights(x, *marks)["decoder to encoder"]
    torch.testing.assert_close(model.attention_weights(x + 50.0, *marks)["decoder to encoder"], first)


def test_channels_one_by_one_give_one_map_per_target_in_the_order_of_the_targets() -> None:
    model = random_forecaster(channel_independence=True)
    x, *marks = random_windows()
    weights = model.attention_weights(x, *marks)["decoder to encoder"]
    assert weights.shape == (6, 4, 10)
    changed = x.clone()
    changed[1, :5, 0] += 1.0  # the second target of the second window: row 1 * 2 + 1
    moved = model.attention_weights(changed, *marks)["decoder to encoder"]
    differs = (moved - weights).abs().amax(dim=(1, 2)) > 1e-6
    assert differs.tolist() == [False, False, False, True, False, False]


@attentions
def test_a_step_reads_the_clock_of_the_steps_up_to_it_and_its_own_past_output(attention: str) -> None:
    model = random_forecaster(attention=attention, num_layers=2)
    x, x_mark, y_mark = random_windows()
    y_mark.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, x_mark, y_mark)[:, 2].sum(), y_mark)
    assert (gradient.abs().sum(dim=(0, 2)) > 0).tolist() == [True, True, True, False]


def test_the_decoder_is_fed_its_own_output() -> None:
    """A decoder whose only way on is its last output: without it, all steps would be alike."""
    shape = SeriesShape(seq_len=6, pred_len=3, n_inputs=1, target_columns=(0,), n_marks=0)
    model = random_forecaster(shape, time_features=False, linear_path=False)
    cell = model.decoder[0]
    assert isinstance(cell, nn.GRUCell)
    with torch.no_grad():
        cell.weight_hh.zero_()
        cell.weight_ih[:, 1:].zero_()  # neither context nor clock
        cell.bias_hh.zero_()
        cell.bias_ih.zero_()
        cell.bias_ih[6:12] = -50.0  # update gate shut: nothing of the old state stays
        model.output.weight[:, 6:].zero_()
    x = random_windows(shape)[0]
    out = model(x, None, None)
    previous, expected = torch.zeros(3, 1), []
    for _ in range(3):
        state = torch.tanh(previous @ cell.weight_ih[12:, :1].T)
        previous = nn.functional.linear(state, model.output.weight[:, :6], model.output.bias)
        expected.append(previous)
    torch.testing.assert_close(out - x[:, -1:], torch.stack(expected, dim=1))
    assert not torch.allclose(out[:, 1], out[:, 2])


@attentions
def test_targets_that_are_no_inputs_are_forecast(attention: str) -> None:
    shape = SeriesShape(seq_len=8, pred_len=3, n_inputs=4, target_columns=(), n_marks=0, n_outputs=2)
    model = random_forecaster(shape, attention=attention, linear_path=False, time_features=False)
    assert model(torch.randn(5, 8, 4), None, None).shape == (5, 3, 2)


@attentions
def test_a_value_that_stands_at_a_marked_place_is_learned_to_be_copied(attention: str) -> None:
    """The task that attention is for: which past step counts differs from window to window."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(64, 8, 2, generator=generator)
    place = torch.randint(0, 8, (64,), generator=generator)
    x[..., 1] = torch.nn.functional.one_hot(place, 8) * 2.0 - 1.0
    truth = x[torch.arange(64), place, 0][:, None, None]
    shape = SeriesShape(seq_len=8, pred_len=1, n_inputs=2, target_columns=(0,), n_marks=0)
    model = random_forecaster(
        shape, attention=attention, normalization="none", linear_path=False, hidden_size=16, dropout=0.0
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        loss = (model(x) - truth).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
