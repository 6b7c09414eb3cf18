"""The model by itself: shapes, independence, noise, divergence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from nas_system.netformer.weights.model.network_batches import MetaScaling, NetworkBatches
from nas_system.netformer.weights.model.weights_transformer import ModelConfig, WeightsTransformer, Written
from nas_system.netformer.weights.tokens import TOKEN_TYPES, Tokens
from nas_system.netformer.weights.zoo.zoo_files import Zoo

META = 6


@pytest.fixture
def model(small_zoo: Zoo) -> WeightsTransformer:
    torch.manual_seed(0)
    config = small_zoo.config
    return WeightsTransformer(
        ModelConfig(
            config.max_vertices,
            config.max_tokens,
            META,
            d_model=16,
            heads=2,
            layers=2,
            latent_tokens=3,
            latent_size=4,
        )
    ).eval()


def inputs_of(zoo: Zoo, rows: list[int]) -> tuple[Tokens, Tensor]:
    generator = torch.Generator().manual_seed(rows[0])
    return zoo.tokens.rows(torch.tensor(rows)), torch.randn(len(rows), META, generator=generator)


def test_every_place_gets_scores_a_weight_and_the_divergence(
    model: WeightsTransformer, small_zoo: Zoo
) -> None:
    tokens, meta = inputs_of(small_zoo, [0, 5, 9])
    packed = model(*tokens, meta)
    written = Written.from_packed(packed, small_zoo.config.max_vertices)
    shape = tokens.weight.shape
    assert written.kind.shape == (*shape, len(TOKEN_TYPES))
    assert written.number.shape == written.parent.shape == (*shape, small_zoo.config.max_vertices)
    assert written.weight.shape == shape
    assert written.divergence.shape == (3,)


def test_the_divergence_is_that_from_the_standard_normal_distribution(
    model: WeightsTransformer, small_zoo: Zoo
) -> None:
    tokens, meta = inputs_of(small_zoo, [0, 5, 9])
    mean, log_variance = model.encode(*tokens, meta)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum((1, 2))
    written = Written.from_packed(model(*tokens, meta), small_zoo.config.max_vertices)
    torch.testing.assert_close(written.divergence, expected)


def test_latent_tokens_are_drawn_in_training_only(model: WeightsTransformer, small_zoo: Zoo) -> None:
    tokens, meta = inputs_of(small_zoo, [0, 5, 9])
    assert torch.equal(model(*tokens, meta), model(*tokens, meta))
    model.train()
    assert not torch.equal(model(*tokens, meta), model(*tokens, meta))


def test_networks_in_a_batch_and_filling_do_not_touch_each_other(
    model: WeightsTransformer, small_zoo: Zoo
) -> None:
    order = small_zoo.tokens.lengths.argsort()
    short, long = int(order[0]), int(order[-1])
    tokens = small_zoo.tokens.rows(torch.tensor([short, long]))
    meta = torch.randn(2, META)
    alone = small_zoo.tokens.rows(torch.tensor([short]))
    length = alone.weight.shape[1]
    assert length < tokens.weight.shape[1]
    torch.testing.assert_close(
        model(*alone, meta[:1])[0], model(*tokens, meta)[0, :length], atol=1e-5, rtol=1e-4
    )


def test_the_decoder_does_not_see_what_it_has_to_write(model: WeightsTransformer, small_zoo: Zoo) -> None:
    tokens, _ = inputs_of(small_zoo, [0, 5, 9])
    latent = torch.randn(3, 3, 4)
    _, before = model.write_structure(latent, tokens.structure)
    changed = tokens.structure.clone()
    changed[:, 6, 2] = (changed[:, 6, 2] + 1) % 3
    _, after = model.write_structure(latent, changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7], after[:, 7])


def test_meta_features_weights_and_structure_reach_the_latent_tokens(
    model: WeightsTransformer, small_zoo: Zoo
) -> None:
    tokens, meta = inputs_of(small_zoo, [0, 5, 9])
    mean, log_variance = model.encode(*tokens, meta)
    for changed in (
        (tokens.structure, tokens.weight, meta + 1 + meta.square()),
        (tokens.structure, tokens.weight * 1.5, meta),
        (tokens.structure.flip(0), tokens.weight, meta),
    ):
        other_mean, other_variance = model.encode(*changed)
        assert not torch.allclose(mean, other_mean)
        assert not torch.allclose(log_variance, other_variance)


def test_every_parameter_has_a_gradient(model: WeightsTransformer, small_zoo: Zoo) -> None:
    tokens, meta = inputs_of(small_zoo, list(range(40)))
    model.train()
    loss = model(*tokens, meta).square().mean()
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    assert [
        name
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is None or not gradient.any()
    ] == []


# --- batches --------------------------------------------------------------------------------


def test_a_pass_shows_every_network_once_with_its_own_tokens_and_meta_features(small_zoo: Zoo) -> None:
    meta = torch.arange(200.0)[:, None]
    positions = small_zoo.part("train")
    batches = NetworkBatches(small_zoo.tokens, meta, positions, 32, torch.Generator().manual_seed(0))
    first, second = list(batches), list(batches)
    assert len(first) == len(batches) == 5
    seen = torch.cat([chosen for _, chosen in first])
    assert seen.sort().values.tolist() == positions.tolist()
    assert seen.tolist() != torch.cat([chosen for _, chosen in second]).tolist()
    for (structure, weight, described), chosen in first:
        assert torch.equal(described[:, 0].long(), chosen)
        length = weight.shape[1]
        assert torch.equal(structure, small_zoo.tokens.structure[chosen, :length])
        assert int(small_zoo.tokens.lengths[chosen].max()) == length


def test_without_a_generator_the_order_is_always_the_same(small_zoo: Zoo) -> None:
    batches = NetworkBatches(small_zoo.tokens, torch.zeros(200, 0), small_zoo.part("val"), 8)
    orders = [torch.cat([chosen for _, chosen in batches]).tolist() for _ in range(2)]
    assert orders[0] == orders[1]


def test_meta_features_are_scaled_by_the_training_tasks_and_unknown_ones_are_marked() -> None:
    nan = float("nan")
    scaling = MetaScaling.of(torch.tensor([[1.0, 5.0, nan, 10.0], [3.0, 5.0, nan, nan]]))
    scaled = scaling(torch.tensor([[2.0, 5.0, 1.0, 10.0], [4.0, 99.0, nan, nan], [1e9, 5.0, nan, nan]]))
    assert scaled.tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [2, 0, 0, 0, 1, 1, 0, 0],
        [5, 0, 0, 0, 1, 1, 0, 0],
    ]
