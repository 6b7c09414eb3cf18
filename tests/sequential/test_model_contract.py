"""What every sequence family promises, checked on every entry of the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.model import MODELS
from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.known_effects import KnownEffects
from nas_system.space import FAMILIES, SeriesShape, families_of

torch.set_num_threads(1)

SMALL: dict[str, dict[str, Any]] = {
    "informer": {"d_model": 16, "n_heads": 2, "d_ff": 16, "label_len": 12, "factor": 2, "dropout": 0.2},
    "linear": {},
    "patchtst": {"patch_len": 8, "stride": 4, "d_model": 8, "n_heads": 2, "d_ff": 16},
    "itransformer": {"d_model": 8, "n_heads": 2, "d_ff": 16, "dropout": 0.2},
    "tsmixer": {"num_layers": 2, "d_ff": 8},
    "nhits": {"hidden_size": 16, "dropout": 0.2},
    "tide": {"hidden_size": 16, "dropout": 0.2},
    "lstm": {"hidden_size": 8, "dropout": 0.2},
    "gru": {"hidden_size": 8, "dropout": 0.2},
    "seq2seq_attention": {"hidden_size": 8, "dropout": 0.2},
    "tcn": {"hidden_size": 8, "num_layers": 3, "dropout": 0.2},
    "cnn_lstm": {"channels": 6, "hidden_size": 8, "dropout": 0.2},
    "tft": {"hidden_size": 8, "n_heads": 2, "dropout": 0.2},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(family, {}) for family in MODELS],
    ("informer", {"normalization": "none", "linear_path": False}),
    ("informer", {"normalization": "revin", "attention": "full"}),
    ("informer", {"normalization": "mean", "mix": False, "distil": False, "d_layers": 2}),
    ("informer", {"embed": "fixed"}),
    ("informer", {"embed": "learned", "activation": "relu"}),
    ("linear", {"normalization": "none"}),
    ("linear", {"normalization": "mean", "decomposition": True, "kernel": 5}),
    ("linear", {"normalization": "revin", "decomposition": True, "individual": True, "kernel": 5}),
    ("patchtst", {"patch_len": 30, "stride": 30, "normalization": "mean", "linear_path": False}),
    ("patchtst", {"stride": 8, "e_layers": 1, "decomposition": True, "normalization": "revin"}),
    ("itransformer", {"time_features": False, "linear_path": False, "normalization": "revin"}),
    ("itransformer", {"e_layers": 1, "decomposition": True, "normalization": "mean"}),
    ("tsmixer", {"time_features": False, "linear_path": False, "normalization": "revin"}),
    ("tsmixer", {"channel_independence": True, "decomposition": True}),
    ("nhits", {"stacks": 1, "blocks": 2, "normalization": "none", "linear_path": False}),
    ("nhits", {"stacks": 4, "pooling": 8, "num_layers": 1, "decomposition": True}),
    ("nhits", {"stacks": 2, "pooling": 1, "normalization": "revin"}),
    ("tide", {"time_features": False, "linear_path": False, "normalization": "revin"}),
    ("tide", {"channel_independence": True, "decomposition": True, "layer_norm": True}),
    ("tide", {"e_layers": 2, "d_layers": 2, "step_width": 1, "layer_norm": True, "normalization": "none"}),
    ("lstm", {"num_layers": 2, "bidirectional": True}),
    ("lstm", {"segment_len": 4, "time_features": False, "decomposition": True}),
    ("lstm", {"channel_independence": True, "linear_path": False, "normalization": "none"}),
    ("gru", {"num_layers": 2, "bidirectional": True, "linear_path": False, "normalization": "revin"}),
    ("gru", {"channel_independence": True, "segment_len": 7, "normalization": "mean"}),
    ("seq2seq_attention", {"attention": "additive", "num_layers": 2}),
    ("seq2seq_attention", {"attention": "additive", "time_features": False, "linear_path": False}),
    ("seq2seq_attention", {"channel_independence": True, "normalization": "revin", "num_layers": 2}),
    ("seq2seq_attention", {"time_features": False, "decomposition": True, "normalization": "mean"}),
    ("tcn", {"time_features": False, "normalization": "none", "kernel_size": 5}),
    ("tcn", {"channel_independence": True, "decomposition": True, "linear_path": False}),
    ("tcn", {"normalization": "revin", "num_layers": 6, "kernel_size": 2}),
    ("cnn_lstm", {"time_features": False, "pool": 1, "num_layers": 2, "normalization": "revin"}),
    ("cnn_lstm", {"channel_independence": True, "decomposition": True, "pool": 4}),
    ("cnn_lstm", {"linear_path": False, "normalization": "mean", "pool": 7}),
    ("tft", {"num_layers": 2, "linear_path": False, "normalization": "revin"}),
    ("tft", {"n_heads": 1, "decomposition": True, "normalization": "none"}),
]
SHAPES = {
    "several targets": SeriesShape(seq_len=30, pred_len=7, n_inputs=5, target_columns=(3, 1)),
    "one step ahead": SeriesShape(seq_len=30, pred_len=1, n_inputs=5, target_columns=(4,)),
    "one channel": SeriesShape(seq_len=30, pred_len=7, n_inputs=1, target_columns=(0,)),
    "known columns": SeriesShape(seq_len=30, pred_len=7, n_inputs=5, target_columns=(3, 1), n_known=2),
}

variants = pytest.mark.parametrize(
    ("family", "changes"), VARIANTS, ids=[f"{family} {changes}" for family, changes in VARIANTS]
)
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def build(family: str, changes: dict[str, Any], shape: SeriesShape, seed: int = 0) -> nn.Module:
    if package := FAMILIES[family].needs_package:
        pytest.importorskip(package)
    torch.manual_seed(seed)
    return MODELS[family](FAMILIES[family](**SMALL.get(family, {}) | changes), read_shape(shape, changes))


def read_shape(shape: SeriesShape, changes: dict[str, Any]) -> SeriesShape:
    """The shape as the data path gives it: no time marks for a family that is told to read none."""
    return shape if changes.get("time_features", True) else replace(shape, n_marks=0)


def random_windows(shape: SeriesShape, changes: dict[str, Any], batch: int = 4) -> list[Tensor]:
    """x, x_mark, y_mark as the data path makes them; marks of no width where it gives None."""
    shape = read_shape(shape, changes)
    generator = torch.Generator().manual_seed(1)

    def marks(length: int) -> Tensor:
        if changes.get("embed", "timeF") == "timeF":
            clock = torch.rand(batch, length, shape.n_marks, generator=generator) - 0.5
        else:
            clock = torch.randint(1, 7, (batch, length, shape.n_marks), generator=generator)
        if not shape.n_known:
            return clock
        return torch.cat([clock, torch.randn(batch, length, shape.n_known, generator=generator)], dim=-1)

    x = torch.randn(batch, shape.seq_len, shape.n_inputs, generator=generator).cumsum(1)
    return [x, marks(shape.seq_len), marks(shape.pred_len)]


def random_effects(model: Any) -> KnownEffects:
    """What the known columns do to the targets of this model, no longer nothing."""
    with torch.no_grad():
        for weight in (model.effects.linear.weight, model.effects.curve.weight):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    return model.effects


def test_every_family_of_the_space_has_a_model() -> None:
    assert set(MODELS) == set(families_of("forecasting"))


@variants
@shapes
def test_forecast_has_one_row_per_step_and_one_column_per_target(
    family: str, changes: dict[str, Any], shape: SeriesShape
) -> None:
    out = build(family, changes, shape)(*random_windows(shape, changes))
    assert out.shape == (4, shape.pred_len, shape.n_targets)
    assert out.isfinite().all()


@variants
@shapes
def test_a_gradient_reaches_every_parameter(family: str, changes: dict[str, Any], shape: SeriesShape) -> None:
    model = build(family, changes, shape)
    if shape.n_known:
        random_effects(model)  # at the start of them no gradient reaches behind the zeros of the last layer
    model(*random_windows(shape, changes)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Adding one number to all scores of a query changes no softmax: this gradient is zero by nature.
        assert "key_projection.bias" in name or parameter.grad.abs().sum() > 0, name


@variants
def test_a_window_does_not_influence_its_neighbours(family: str, changes: dict[str, Any]) -> None:
    shape = SHAPES["several targets"]
    model = build(family, changes, shape).eval()
    inputs = random_windows(shape, changes)
    inputs[0].requires_grad_()
    out = model(*inputs)
    (gradient,) = torch.autograd.grad(out[1].sum(), inputs[0])
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2, 3]].abs().sum() == 0
    alone = model(*(part[1:2] for part in inputs))
    torch.testing.assert_close(alone, out[1:2], atol=1e-5, rtol=1e-5)


@variants
def test_evaluation_is_deterministic_and_leaves_the_random_state_alone(
    family: str, changes: dict[str, Any]
) -> None:
    shape = SHAPES["several targets"]
    model = build(family, changes, shape).eval()
    inputs = random_windows(shape, changes)
    state = torch.get_rng_state()
    first = model(*inputs)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(model(*inputs), first)


@variants
def test_training_follows_the_global_seed(family: str, changes: dict[str, Any]) -> None:
    shape = SHAPES["several targets"]
    inputs = random_windows(shape, changes)
    outputs = []
    for seed in (5, 5, 6):
        model = build(family, changes, shape)
        torch.manual_seed(seed)
        outputs.append(model(*inputs))
    assert torch.equal(outputs[0], outputs[1])
    if family not in ("linear", "ridge"):
        assert not torch.equal(outputs[0], outputs[2])


@variants
def test_state_dict_makes_another_instance_the_same_model(family: str, changes: dict[str, Any]) -> None:
    shape = SHAPES["several targets"]
    trained, fresh = build(family, changes, shape), build(family, changes, shape, seed=1).eval()
    inputs = random_windows(shape, changes)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)
    trained(*inputs).square().mean().backward()
    optimizer.step()
    trained.eval()
    assert not torch.equal(trained(*inputs), fresh(*inputs))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(trained(*inputs), fresh(*inputs))


@pytest.mark.parametrize("family", MODELS)
def test_one_batch_can_be_learned_by_heart(family: str) -> None:
    shape = SeriesShape(seq_len=30, pred_len=3, n_inputs=2, target_columns=(1,))
    changes = {"dropout": 0.0} if "dropout" in FAMILIES[family].model_fields else {}
    model = build(family, changes, shape)
    inputs = random_windows(shape, changes)
    target = inputs[0][:, -1:, 1:] + torch.randn(4, 3, 1, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model(*inputs) - target).square().mean()
        if loss < 0.01:
            break
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@variants
def test_a_constant_series_gives_numbers_and_gradients_that_are_numbers(
    family: str, changes: dict[str, Any]
) -> None:
    shape = SHAPES["several targets"]
    model = build(family, changes, shape)
    inputs = random_windows(shape, changes)
    out = model(torch.full_like(inputs[0], 3.0), *inputs[1:])
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@variants
def test_no_tensor_is_left_on_the_model_by_a_forecast(family: str, changes: dict[str, Any]) -> None:
    shape = SHAPES["several targets"]
    model = build(family, changes, shape)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model(*random_windows(shape, changes))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("name", ["several targets", "known columns"])
@pytest.mark.parametrize("family", MODELS)
def test_bfloat16_autocast_trains(family: str, name: str) -> None:
    shape = SHAPES[name]
    model = build(family, {}, shape)
    exact = build(family, {}, shape).eval()
    if shape.n_known:
        random_effects(model), random_effects(exact)
    inputs = random_windows(shape, {})
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.eval()(*inputs).float()
    torch.testing.assert_close(rough, exact(*inputs), atol=0.25, rtol=0.05)


@variants
def test_effects_of_known_columns_are_taken_off_the_window_and_put_onto_the_forecast(
    family: str, changes: dict[str, Any]
) -> None:
    shape = SHAPES["known columns"]
    model, without = build(family, changes, shape).eval(), build(family, changes, shape).eval()
    effects = random_effects(model)
    x, x_mark, y_mark = random_windows(shape, changes)
    past, future = (effects(mark[..., -shape.n_known :]) for mark in (x_mark, y_mark))
    moved = x.clone()
    moved[..., list(shape.target_columns)] += past
    expected = without(x, x_mark, y_mark) + future
    torch.testing.assert_close(model(moved, x_mark, y_mark), expected, atol=1e-4, rtol=1e-4)
    if hasattr(model, "attention_weights"):
        found, wanted = (
            model.attention_weights(moved, x_mark, y_mark),
            without.attention_weights(x, x_mark, y_mark),
        )
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@variants
def test_the_first_forecast_is_that_without_known_columns(family: str, changes: dict[str, Any]) -> None:
    shape = SHAPES["known columns"]
    model, without = (
        build(family, changes, shape).eval(),
        build(family, changes, replace(shape, n_known=0)).eval(),
    )
    x, x_mark, y_mark = random_windows(shape, changes)
    if isinstance(model, Forecaster) and model.reads_known:
        assert not model.effects(y_mark[..., -shape.n_known :]).any()  # type: ignore[misc]
        return
    missing, unexpected = model.load_state_dict(without.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("effects.") for name in missing)
    clock = read_shape(shape, changes).n_marks
    assert torch.equal(model(x, x_mark, y_mark), without(x, x_mark[..., :clock], y_mark[..., :clock]))


@pytest.mark.parametrize("family", ["tsmixer", "lstm"])
def test_known_columns_need_targets_with_a_past(family: str) -> None:
    shape = SeriesShape(seq_len=30, pred_len=1, n_inputs=2, target_columns=(), n_outputs=3, n_known=2)
    with pytest.raises(ConfigError, match="leave those columns out"):
        build(family, {"linear_path": False}, shape)
