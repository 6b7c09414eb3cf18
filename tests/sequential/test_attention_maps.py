"""Attention weights of the families, and their means over the windows of a part."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_hourly
from torch import Tensor, nn

from nas_system.data import WindowSet
from nas_system.model import MODELS
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.sequential.informer import Informer
from nas_system.sequential.layers.attention import AttentionLayer, FullAttention
from nas_system.space import FAMILIES, ForecastingTask, SeriesShape, family_default
from nas_system.space.families import InformerConfig
from nas_system.tasks.attention_maps import AT_ONCE, MOST_WINDOWS, attention_maps, evenly_spread
from nas_system.training_job import JobOptions, run_training

torch.set_num_threads(1)

SHAPE = SeriesShape(seq_len=24, pred_len=6, n_inputs=3, target_columns=(2,))
SMALL = InformerConfig(d_model=16, n_heads=2, d_ff=16, label_len=8, e_layers=3, d_layers=2, factor=1)
WITH_ATTENTION = [family for family, model in MODELS.items() if hasattr(model, "attention_weights")]


def random_windows(batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, SHAPE.seq_len, SHAPE.n_inputs, generator=generator),
        torch.rand(batch, SHAPE.seq_len, 4, generator=generator) - 0.5,
        torch.rand(batch, SHAPE.pred_len, 4, generator=generator) - 0.5,
    )


def informer(**changes: Any) -> Informer:
    torch.manual_seed(0)
    return Informer(SMALL.model_copy(update=changes), SHAPE).eval()


# --- weights of a model ----------------------------------------------------------------------


def test_the_families_that_attend_over_time_show_it() -> None:
    assert {"informer", "tft", "seq2seq_attention"} <= set(WITH_ATTENTION)


@pytest.mark.parametrize("family", WITH_ATTENTION)
def test_weights_are_shares_per_forecast_step_and_leave_nothing_behind(family: str) -> None:
    config = FAMILIES[family]()
    if config.needs_package:
        pytest.importorskip(config.needs_package)
    if family == "informer":
        config = SMALL
    torch.manual_seed(0)
    model = MODELS[family](config, SHAPE).eval()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    maps = model.attention_weights(*random_windows())  # pyright: ignore[reportCallIssue]
    assert maps
    for weights in maps.values():
        assert weights.shape[:2] == (4, SHAPE.pred_len)
        assert not weights.requires_grad
        assert weights.min() >= 0
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, SHAPE.pred_len))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


def test_full_attention_shows_the_weights_it_uses() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 9, 5, generator=generator)
    for masked in (False, True):
        attention = FullAttention(masked=masked, dropout=0.3).eval()
        torch.testing.assert_close(attention.weights(q, k) @ v, attention(q, k, v))


def test_a_layer_with_one_head_shows_the_weights_it_uses() -> None:
    torch.manual_seed(0)
    layer = AttentionLayer(FullAttention(masked=False, dropout=0.0), 8, 1)
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    attended = layer.weights(x, memory) @ layer.value_projection(memory)
    torch.testing.assert_close(layer.out_projection(attended), layer(x, memory))


def test_the_informer_shows_its_last_decoder_layer_as_the_forecast_used_it() -> None:
    """Against a slow softmax of the queries and keys that went into that layer."""
    model, windows = informer(), random_windows()
    cross = model.core.decoder.layers[-1].cross_attention
    seen: list[tuple[Tensor, Tensor]] = []
    handle = cross.register_forward_hook(lambda *call: seen.append(call[1][:2]))
    with torch.no_grad():
        model(*windows)
        handle.remove()
        x, memory = seen[0]
        q, k = cross.query_projection(x).numpy(), cross.key_projection(memory).numpy()
    expected = np.zeros((4, SHAPE.pred_len, k.shape[1]))
    for head in (slice(0, 8), slice(8, 16)):
        scores = np.exp(np.einsum("bqe,bke->bqk", q[..., head], k[..., head]) / math.sqrt(8))
        expected += scores / scores.sum(-1, keepdims=True) / 2
    shown = model.attention_weights(*windows)["decoder to encoder"]
    np.testing.assert_allclose(shown.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("distil", "keys"), [(True, 6), (False, 24)])
def test_every_distilling_of_the_informer_halves_the_keys(distil: bool, keys: int) -> None:
    weights = informer(distil=distil).attention_weights(*random_windows())["decoder to encoder"]
    assert weights.shape == (4, SHAPE.pred_len, keys)


def test_an_informer_with_another_core_has_nothing_to_show() -> None:
    assert Informer(SMALL, SHAPE, core=nn.Identity()).attention_weights(*random_windows()) == {}


# --- maps over a part ------------------------------------------------------------------------


class Pointing(nn.Module):
    """Forecast step 0 attends to the key that the window's first value names, step 1 to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def attention_weights(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> dict[str, Tensor]:
        self.modes.append(self.training)
        first = x[:, 0, 0].long() % 5
        return {"pointing": torch.nn.functional.one_hot(torch.stack([first, (first + 1) % 5], 1), 5).float()}


def counting_windows(count: int) -> WindowSet:
    """Window i starts with the value i."""
    table = torch.arange(count + 7.0)[:, None]
    return WindowSet(table, None, range(count), seq_len=5, pred_len=2, input_columns=[0], target_columns=[0])


@pytest.mark.parametrize("count", [1, AT_ONCE, 3 * AT_ONCE + 1, 1000])
def test_a_map_is_the_mean_over_evenly_spread_windows(count: int) -> None:
    (found,) = attention_maps(Pointing(), counting_windows(count))
    chosen = np.round(np.linspace(0, count - 1, min(count, MOST_WINDOWS))).astype(int)
    share = np.bincount(chosen % 5, minlength=5) / len(chosen)
    assert found.n_windows == len(chosen)
    np.testing.assert_allclose(found.mean, [share, np.roll(share, 1)], atol=1e-9)
    assert found.example_window == count // 2
    assert found.example.argmax(axis=1).tolist() == [count // 2 % 5, (count // 2 + 1) % 5]


@pytest.mark.parametrize("training", [True, False])
def test_maps_are_of_evaluation_and_the_model_keeps_its_mode(training: bool) -> None:
    model = Pointing().train(training)
    attention_maps(model, counting_windows(9))
    assert set(model.modes) == {False}
    assert model.training is training


def test_a_model_without_attention_has_no_maps() -> None:
    assert attention_maps(nn.Identity(), counting_windows(9)) == []
    assert attention_maps(Informer(SMALL, SHAPE, core=nn.Identity()), counting_windows(9)) == []


def test_a_training_of_a_family_with_attention_leaves_its_picture(tmp_path: Path) -> None:
    path = write_hourly(tmp_path / "series.csv", 400, load=lambda hour: hour % 24 + hour % 7)
    base = family_default("informer")
    config = base.model_copy(
        update={
            "task": ForecastingTask(dataset=str(path), targets=("load",), pred_len=4),
            "model": SMALL,
            "data": base.data.model_copy(update={"features": "S", "seq_len": 24}),
            "training": base.training.model_copy(update={"max_epochs": 1, "max_steps": None}),
        }
    )
    options = JobOptions(
        tag="trial",
        device="cpu",
        threads=1,
        time_limit_s=None,
        resume=False,
        facts=None,
        data_dir=None,
        stop=lambda: None,
    )
    run_training(config, RunPaths(tmp_path), options)
    assert RunPaths(tmp_path).attention.read_bytes().startswith(b"\x89PNG")


def test_evenly_spread_has_both_ends() -> None:
    assert evenly_spread(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spread(3, 4).tolist() == [0, 1, 2]
