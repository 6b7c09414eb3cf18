"""Attention against slow loops, and the mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nas_system.sequential.layers import attention
from nas_system.sequential.layers.attention import (
    AttentionLayer,
    FullAttention,
    ProbSparseAttention,
    attend,
    causal_bias,
)
from nas_system.sequential.layers.dropout import Dropout

torch.set_num_threads(1)

B, H, L = 2, 3, 20
masks = pytest.mark.parametrize("masked", [False, True], ids=["encoder", "decoder"])


def random_heads(width: int, length: int = L) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, B, H, length, width, generator=generator)
    return q, k, v


def one_query(q: Tensor, k: Tensor, v: Tensor, n_seen: int) -> Tensor:
    """Attention of a single query (width,) on its first `n_seen` keys."""
    scores = torch.stack([torch.dot(q, k[j]) / math.sqrt(len(q)) for j in range(n_seen)])
    weights = torch.exp(scores - scores.max())
    weights = weights / weights.sum()
    return sum((weights[j] * v[j] for j in range(n_seen)), torch.zeros(len(q)))


def slow_probsparse(q: Tensor, k: Tensor, v: Tensor, sample: Tensor, n_kept: int, masked: bool) -> Tensor:
    """Algorithm 1 of the paper for one head, `(length, width)`, one query after the other."""
    length = len(q)
    sparsity = []
    for i in range(length):
        scores = [float(torch.dot(q[i], k[j])) for j in sample[i]]
        sparsity.append(max(scores) - sum(scores) / length)
    kept = sorted(range(length), key=lambda i: -sparsity[i])[:n_kept]
    out = [v[: i + 1].sum(0) if masked else v.mean(0) for i in range(length)]
    for i in kept:
        out[i] = one_query(q[i], k, v, i + 1 if masked else length)
    return torch.stack(out)


@masks
@pytest.mark.parametrize("width", [5, 24], ids=["narrow heads", "wide heads"])
@pytest.mark.parametrize("factor", [1, 3, 9], ids=["few", "some", "all queries"])
def test_probsparse_equals_the_papers_algorithm_step_by_step(masked: bool, width: int, factor: int) -> None:
    q, k, v = random_heads(width)
    module = ProbSparseAttention(L, factor=factor, masked=masked).eval()
    n_kept = min(factor * 3, L)  # ceil(ln 20) = 3
    sample = torch.randint(L, (L, n_kept), generator=torch.Generator().manual_seed(4))
    out = module(q, k, v, sample)
    for b in range(B):
        for h in range(H):
            expected = slow_probsparse(q[b, h], k[b, h], v[b, h], sample, n_kept, masked)
            torch.testing.assert_close(out[b, h], expected, atol=1e-5, rtol=1e-5)


def test_a_batch_too_large_to_rank_at_once_gives_the_same_as_its_windows_alone() -> None:
    n_windows = attention.SCORES_AT_ONCE // (H * L * L) + 3
    q, k, v = torch.randn(3, n_windows, H, L, 5, generator=torch.Generator().manual_seed(0))
    module = ProbSparseAttention(L, factor=2, masked=True).eval()
    together = module(q, k, v)
    for i in (0, n_windows // 2, n_windows - 1):
        one = slice(i, i + 1)
        torch.testing.assert_close(together[one], module(q[one], k[one], v[one]), atol=1e-5, rtol=1e-5)


def test_attention_too_large_to_hold_gives_the_same_as_in_parts() -> None:
    length = 4100
    assert length**2 > attention.MOST_SCORES > length**2 // 2
    q, k, v = torch.randn(3, 1, 1, length, 4, generator=torch.Generator().manual_seed(0))
    parts = [attend(half, k, v, None) for half in q.split(length // 2, dim=2)]
    torch.testing.assert_close(attend(q, k, v, None), torch.cat(parts, dim=2), atol=1e-5, rtol=1e-5)


@masks
@pytest.mark.parametrize("width", [5, 24])
def test_full_attention_equals_a_loop_over_queries(masked: bool, width: int) -> None:
    q, k, v = random_heads(width)
    out = FullAttention(masked=masked, dropout=0.0)(q, k, v)
    for i in (0, 7, L - 1):
        expected = one_query(q[1, 2, i], k[1, 2], v[1, 2], i + 1 if masked else L)
        torch.testing.assert_close(out[1, 2, i], expected, atol=1e-5, rtol=1e-5)


@masks
@pytest.mark.parametrize("width", [5, 24])
def test_our_products_equal_torchs_kernel_in_value_and_gradient(masked: bool, width: int) -> None:
    q, k, v = (part.requires_grad_() for part in random_heads(width))
    bias = causal_bias(L) if masked else None
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    ours = attend(q, k, v, bias)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(7))
    wanted = torch.autograd.grad((theirs * weight).sum(), (q, k, v))
    for mine, other in zip(torch.autograd.grad((ours * weight).sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["full", "prob"])
def test_decoder_self_attention_has_no_gradient_ahead(kind: str) -> None:
    torch.manual_seed(0)
    inner = (
        FullAttention(masked=True, dropout=0.0)
        if kind == "full"
        else ProbSparseAttention(L, factor=2, masked=True)
    )
    layer = AttentionLayer(inner, d_model=12, n_heads=3).eval()
    x = torch.randn(1, L, 12, requires_grad=True)
    out = layer(x, x)
    for step in (0, 6, L - 2):
        (gradient,) = torch.autograd.grad(out[0, step].sum(), x, retain_graph=True)
        assert gradient[0, step + 1 :].abs().sum() == 0
        assert gradient[0, : step + 1].abs().sum() > 0


def test_encoder_self_attention_looks_both_ways() -> None:
    torch.manual_seed(0)
    layer = AttentionLayer(ProbSparseAttention(L, factor=2, masked=False), d_model=12, n_heads=3).eval()
    x = torch.randn(1, L, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x, x)[0, 3].sum(), x)
    assert (gradient[0].abs().sum(-1) > 0).all()


def test_mix_reads_heads_and_steps_interleaved() -> None:
    torch.manual_seed(0)
    plain = AttentionLayer(FullAttention(masked=False, dropout=0.0), d_model=12, n_heads=3)
    mixed = AttentionLayer(FullAttention(masked=False, dropout=0.0), d_model=12, n_heads=3, mix=True)
    mixed.load_state_dict(plain.state_dict())
    for layer in (plain, mixed):
        torch.nn.init.eye_(layer.out_projection.weight)
        torch.nn.init.zeros_(layer.out_projection.bias)
    x = torch.randn(2, L, 12)
    heads = plain(x, x).detach().numpy().reshape(2, L, 3, 4)
    expected = heads.transpose(0, 2, 1, 3).reshape(2, L, 12)
    torch.testing.assert_close(mixed(x, x).detach(), torch.from_numpy(expected.copy()))


def test_asking_for_the_last_steps_gives_the_end_of_all_steps() -> None:
    torch.manual_seed(0)
    inner = ProbSparseAttention(L, factor=2, masked=True)
    layer = AttentionLayer(inner, d_model=12, n_heads=3, mix=True).eval()
    x = torch.randn(2, L, 12)
    torch.testing.assert_close(layer(x, x, n_last=4), layer(x, x)[:, -4:])


def test_no_gradient_flows_through_the_choice_of_queries() -> None:
    q, k, v = (part.requires_grad_() for part in random_heads(5))
    module = ProbSparseAttention(L, factor=2, masked=False).eval()
    (gradient,) = torch.autograd.grad(module(q, k, v).sum(), q)
    kept = (gradient.abs().sum(-1) > 0).sum(-1)
    assert (kept == 6).all()  # 2 * ceil(ln 20): the queries left out have no gradient at all


def test_keys_are_sampled_anew_in_training_and_fixed_in_evaluation() -> None:
    q, k, v = random_heads(5)
    module = ProbSparseAttention(L, factor=1, masked=False)
    torch.manual_seed(0)
    assert not torch.equal(module(q, k, v), module(q, k, v))
    module.eval()
    assert torch.equal(module(q, k, v), module(q, k, v))
    assert torch.equal(module(q, k, v), ProbSparseAttention(L, factor=1, masked=False).eval()(q, k, v))
    assert not module.state_dict()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_dropout_keeps_its_share_and_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(400_001)
    out = Dropout(rate)(x)
    kept = out != 0
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=3e-3)
    torch.testing.assert_close(out[kept], torch.full((int(kept.sum()),), 1 / (1 - rate)), rtol=1e-2, atol=0)
    assert out.mean().item() == pytest.approx(1.0, abs=0.15 if rate == 0.999 else 0.01)


def test_dropout_gives_every_element_its_own_draw() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(4, 25_000)) != 0).double()
    neighbours = torch.corrcoef(torch.stack([kept[:, :-1].flatten(), kept[:, 1:].flatten()]))[0, 1]
    rows = torch.corrcoef(kept)
    assert neighbours.abs() < 0.02
    assert (rows - torch.eye(4)).abs().max() < 0.03


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero() -> None:
    x = torch.randn(3, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
