"""The token encoder against torch's own, and what it leaves out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_system.sequential.layers.encoder import EncoderLayer, TokenEncoder

torch.set_num_threads(1)

norm_first = pytest.mark.parametrize("norm_first", [False, True], ids=["norm after", "norm first"])


def torchs_layer(ours: EncoderLayer, norm_first: bool) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    assert ours.attention is not None
    projections = (
        ours.attention.query_projection,
        ours.attention.key_projection,
        ours.attention.value_projection,
    )
    state = {
        "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
        "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
        "self_attn.out_proj.weight": ours.attention.out_projection.weight,
        "self_attn.out_proj.bias": ours.attention.out_projection.bias,
    }
    for name in ("norm1", "norm2", "linear1", "linear2"):
        state |= {f"{name}.{key}": value for key, value in getattr(ours, name).state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


def random_encoder(n_tokens: int, *, norm_first: bool) -> TokenEncoder:
    torch.manual_seed(0)
    encoder = TokenEncoder(
        n_tokens, d_model=12, n_heads=3, n_layers=2, d_ff=20, dropout=0.1, norm_first=norm_first
    )
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


@norm_first
def test_a_layer_equals_torchs_in_value_and_gradient(norm_first: bool) -> None:
    encoder = random_encoder(7, norm_first=norm_first)
    ours = encoder.layers[0]
    assert isinstance(ours, EncoderLayer)
    theirs = torchs_layer(ours, norm_first)
    x = torch.randn(4, 7, 12, requires_grad=True)
    weight = torch.randn(4, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    (mine,) = torch.autograd.grad((ours(x) * weight).sum(), x)
    (wanted,) = torch.autograd.grad((theirs(x) * weight).sum(), x)
    torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-4)


@norm_first
def test_wanted_tokens_are_those_of_the_whole_result(norm_first: bool) -> None:
    encoder = random_encoder(7, norm_first=norm_first)
    x = torch.randn(4, 7, 12)
    wanted = torch.tensor([5, 0])
    torch.testing.assert_close(encoder(x, wanted), encoder(x)[:, [5, 0]], atol=1e-5, rtol=1e-5)


@norm_first
def test_a_token_alone_has_no_attention_to_train(norm_first: bool) -> None:
    names = [name for name, _ in random_encoder(1, norm_first=norm_first).named_parameters()]
    assert names
    assert not [name for name in names if "attention" in name or "norm1" in name]
    assert any("attention" in name for name, _ in random_encoder(2, norm_first=norm_first).named_parameters())
