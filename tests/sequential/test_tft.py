"""The temporal fusion Transformer: what we take from pytorch-forecasting, and what we keep out."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from python_server import run_python
from torch import Tensor

from nas_system.sequential.tft import TFTForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import TFTConfig

torch.set_num_threads(1)

SHAPE = SeriesShape(seq_len=12, pred_len=4, n_inputs=3, target_columns=(2, 0))
SMALL = TFTConfig(hidden_size=8, n_heads=2, dropout=0.1)

needs_package = pytest.mark.skipif(
    find_spec("pytorch_forecasting") is None, reason="needs pytorch-forecasting (extra tft)"
)


def build(config: TFTConfig = SMALL, shape: SeriesShape = SHAPE) -> TFTForecaster:
    torch.manual_seed(0)
    return TFTForecaster(config, shape)


def random_windows(shape: SeriesShape = SHAPE, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, shape.seq_len, shape.n_inputs, generator=generator),
        torch.rand(batch, shape.seq_len, shape.n_marks, generator=generator) - 0.5,
        torch.rand(batch, shape.pred_len, shape.n_marks, generator=generator) - 0.5,
    )


def output_of(code: str, project_root: Path) -> str:
    done = run_python(["-c", code], cwd=project_root)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# --- the package -----------------------------------------------------------------------------


def test_the_package_is_loaded_by_the_first_model_and_its_absence_explained(project_root: Path) -> None:
    said = output_of(
        "import sys\n"
        "from nas_system.errors import ConfigError\n"
        "from nas_system.model import build_model\n"
        "assert not {'pytorch_forecasting', 'lightning', 'pandas'} & set(sys.modules)\n"
        "sys.modules['pytorch_forecasting'] = None  # as if it were not installed\n"
        "try:\n"
        "    build_model({'model': {'family': 'tft'}})\n"
        "except ConfigError as error:\n"
        "    print(error)\n",
        project_root,
    )
    assert "pip install 'nas-agent[tft]'" in said


@needs_package
def test_nothing_is_printed_when_a_model_is_built_and_used(project_root: Path) -> None:
    said = output_of(
        "import torch\n"
        "from nas_system.model import build_model\n"
        "model = build_model({'model': {'family': 'tft'}, 'data': {'features': 'S', 'seq_len': 48}})\n"
        "model(torch.zeros(2, 48, 1), torch.zeros(2, 48, 4), torch.zeros(2, 24, 4)).sum().backward()\n",
        project_root,
    )
    assert said == ""


@needs_package
def test_a_used_model_can_be_pickled() -> None:
    model = build().eval()
    before = model(*random_windows())
    assert torch.equal(pickle.loads(pickle.dumps(model))(*random_windows()), before)


@needs_package
def test_the_network_follows_the_model_to_another_device() -> None:
    model = build()
    assert model.to("meta").network.device == torch.device("meta")
    assert model.double().network.dtype == torch.float64


@needs_package
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_mask_of_the_attention_holds_in_every_precision(dtype: torch.dtype) -> None:
    attention = build().eval().network.multihead_attn
    steps = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 5, 5, dtype=torch.bool).triu(1)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        out, weights = attention(steps, steps, steps, mask)
    assert out.isfinite().all()
    assert weights.transpose(1, 2).triu(1).abs().sum() == 0
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(2, 5, 2), atol=0.02, rtol=0)


# --- what goes in ----------------------------------------------------------------------------


@needs_package
def test_the_future_of_the_inputs_is_never_read() -> None:
    model = build().eval()
    batch = model._as_batch(*model.network_inputs(*random_windows()))
    before = model.network(batch)["prediction"]
    batch["decoder_cont"] = batch["decoder_cont"].clone()
    batch["decoder_cont"][..., : SHAPE.n_inputs] = 1e6
    assert torch.equal(model.network(batch)["prediction"], before)
    batch["decoder_cont"][..., SHAPE.n_inputs] += 1  # a time mark, known beforehand
    assert not torch.equal(model.network(batch)["prediction"], before)


@needs_package
@pytest.mark.parametrize("part", [0, 1, 2], ids=["inputs", "marks of the past", "marks of the horizon"])
def test_every_input_column_and_mark_moves_the_forecast(part: int) -> None:
    model = build(SMALL.model_copy(update={"linear_path": False})).eval()
    windows = random_windows()
    before = model(*windows)
    for column in range(windows[part].shape[-1]):
        changed = [piece.clone() for piece in windows]
        changed[part][:, 2, column] += 1
        assert not torch.equal(model(*changed), before), column


@needs_package
def test_it_knows_the_place_of_a_step_without_time_marks() -> None:
    shape = SeriesShape(seq_len=12, pred_len=4, n_inputs=1, target_columns=(0,), n_marks=0)
    model = build(SMALL.model_copy(update={"linear_path": False}), shape).eval()
    forecast = model(torch.zeros(2, 12, 1), None, None)
    assert forecast.shape == (2, 4, 1)
    assert len(forecast[0].unique()) == 4


@needs_package
def test_targets_may_be_no_inputs() -> None:
    shape = SeriesShape(seq_len=12, pred_len=1, n_inputs=3, target_columns=(), n_outputs=5)
    config = SMALL.model_copy(update={"linear_path": False, "normalization": "none"})
    assert build(config, shape)(*random_windows(shape)).shape == (3, 1, 5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"model\.hidden_size=6 is not divisible by model\.n_heads=4"):
        TFTConfig(hidden_size=6, n_heads=4)


@needs_package
def test_every_parameter_counts() -> None:
    """In double precision rounding cannot pass for a gradient."""
    model = build(SMALL.model_copy(update={"dropout": 0.0})).double()
    model(*(part.double() for part in random_windows())).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


# --- attention -------------------------------------------------------------------------------


@needs_package
def test_a_step_of_the_forecast_attends_to_the_past_and_to_earlier_steps_alone() -> None:
    (weights,) = build().eval().attention_weights(*random_windows()).values()
    assert weights.shape == (3, 4, 12 + 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4))
    own = weights[:, :, 12:]
    assert own.triu().abs().sum() == 0
    assert (own[:, 1:].sum(-1) > 0).all()
    assert (weights[:, :, :12] > 0).all()


@needs_package
def test_the_attention_shown_is_the_mean_of_the_heads_that_made_the_forecast() -> None:
    model, windows = build().eval(), random_windows()
    seen: list[Tensor] = []
    handle = model.network.multihead_attn.register_forward_hook(lambda *call: seen.append(call[2][1]))
    model(*windows)
    handle.remove()
    (weights,) = model.attention_weights(*windows).values()
    heads = seen[0].unbind(dim=2)
    assert len(heads) == SMALL.n_heads
    assert not torch.equal(*heads)
    torch.testing.assert_close(weights, sum(heads) / len(heads))
