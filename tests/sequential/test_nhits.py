"""N-HiTS: pooling and interpolation against numpy, and blocks that read what the others left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.sequential.nhits import Block, NHiTSForecaster, group_maxima, interpolation
from nas_system.space import SeriesShape
from nas_system.space.families import NHiTSConfig

torch.set_num_threads(1)

CONFIG = NHiTSConfig(stacks=3, blocks=2, pooling=3, hidden_size=8, dropout=0.0)
SHAPE = SeriesShape(seq_len=20, pred_len=10, n_inputs=3, target_columns=(2, 0), n_marks=0)


def build(config: NHiTSConfig = CONFIG, shape: SeriesShape = SHAPE) -> NHiTSForecaster:
    torch.manual_seed(0)
    return NHiTSForecaster(config, shape).eval()


def blocks_of(model: NHiTSForecaster) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


@pytest.mark.parametrize(("n_knots", "length"), [(2, 10), (4, 10), (3, 24), (10, 10), (1, 7), (1, 1)])
def test_knots_are_joined_by_straight_lines(n_knots: int, length: int) -> None:
    values = torch.randn(3, n_knots, generator=torch.Generator().manual_seed(0))
    joined = values @ interpolation(n_knots, length)
    for row, expected in zip(joined.numpy(), values.numpy(), strict=True):
        places = np.linspace(0, n_knots - 1, length)
        np.testing.assert_allclose(row, np.interp(places, np.arange(n_knots), expected), atol=1e-6)


def test_a_line_needs_two_knots_and_a_line_is_kept_by_any_number_of_them() -> None:
    for n_knots in (2, 3, 5, 11):
        line = torch.linspace(-1, 3, n_knots)
        torch.testing.assert_close(line @ interpolation(n_knots, 31), torch.linspace(-1, 3, 31))


@pytest.mark.parametrize(("length", "size"), [(12, 4), (13, 4), (7, 7), (5, 1), (9, 8)])
def test_a_group_is_read_by_its_maximum_and_the_last_one_is_full(length: int, size: int) -> None:
    x = -1 - torch.rand(2, length, generator=torch.Generator().manual_seed(0))  # below any zero padding
    first = length % size or size
    starts = [0, *range(first, length, size)]
    expected = [x[:, start:end].amax(-1) for start, end in zip(starts, [*starts[1:], length], strict=True)]
    assert torch.equal(group_maxima(x, size), torch.stack(expected, dim=-1))


def test_stacks_go_from_coarse_to_fine() -> None:
    blocks = blocks_of(build())
    assert [block.size for block in blocks] == [9, 9, 3, 3, 1, 1]
    assert [block.forecast.knots.out_features for block in blocks] == [2, 2, 4, 4, 10, 10]
    backcasts = [block.backcast.knots.out_features for block in blocks if block.backcast is not None]
    assert backcasts == [3, 3, 7, 7, 20]
    wide = blocks_of(build(CONFIG.model_copy(update={"pooling": 24, "blocks": 1})))
    assert [block.size for block in wide] == [20, 20, 1], "no group is longer than the window"


def test_every_block_reads_what_the_blocks_before_it_left_unexplained() -> None:
    model = build(CONFIG.model_copy(update={"normalization": "none", "linear_path": False}))
    x = torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(1))
    rest = x[..., [2, 0]].mT
    parts: list[Tensor] = []
    for block in blocks_of(model):
        hidden = block.perceptron(group_maxima(rest, block.size))
        parts.append(block.forecast(hidden))
        if block.backcast is not None:
            rest = rest - block.backcast(hidden)
    torch.testing.assert_close(model(x), torch.stack(parts).sum(dim=0).mT)


def test_what_a_block_explains_is_gone_for_the_next_one() -> None:
    """The first block is made to explain all: its backcast is its input."""
    config = CONFIG.model_copy(
        update={
            "stacks": 1,
            "num_layers": 1,
            "hidden_size": 40,
            "normalization": "none",
            "linear_path": False,
        }
    )
    model = build(config)
    first, second = blocks_of(model)
    linear, knots = first.perceptron[0], first.backcast
    assert isinstance(linear, torch.nn.Linear) and knots is not None
    with torch.no_grad():
        # relu(x) - relu(-x) = x
        linear.weight.copy_(torch.cat([torch.eye(20), -torch.eye(20)]))
        knots.knots.weight.copy_(torch.cat([torch.eye(20), -torch.eye(20)], dim=1))
        for bias in (linear.bias, knots.knots.bias):
            bias.zero_()
        x = torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(1))
        window = x[..., [2, 0]].mT
        backcast, part = first(window)
        torch.testing.assert_close(backcast, window)
        torch.testing.assert_close(model(x) - part.mT, second(torch.zeros_like(window))[1].mT)


def test_targets_share_one_network_and_never_meet() -> None:
    alone = build(CONFIG, SeriesShape(seq_len=20, pred_len=10, n_inputs=1, target_columns=(0,), n_marks=0))
    together = build()
    alone.load_state_dict(together.state_dict())
    x = torch.randn(4, 20, 3, generator=torch.Generator().manual_seed(1))
    for target, column in enumerate((2, 0)):
        one = alone(x[..., column : column + 1])[..., 0]
        torch.testing.assert_close(one, together(x)[..., target])


def test_targets_that_are_no_inputs_are_refused() -> None:
    shape = SeriesShape(seq_len=20, pred_len=10, n_inputs=3, target_columns=(), n_marks=0, n_outputs=2)
    with pytest.raises(ConfigError, match="not among the inputs"):
        build(CONFIG.model_copy(update={"linear_path": False}), shape)
