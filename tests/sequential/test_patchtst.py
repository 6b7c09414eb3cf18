"""PatchTST: how a window is cut, and that channels never meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_system.errors import ConfigError
from nas_system.sequential.patchtst import PatchTSTForecaster
from nas_system.space import SeriesShape
from nas_system.space.families import PatchTSTConfig

torch.set_num_threads(1)

CONFIG = PatchTSTConfig(patch_len=8, stride=5, d_model=8, n_heads=2, d_ff=16, dropout=0.0)
SHAPE = SeriesShape(seq_len=31, pred_len=6, n_inputs=3, target_columns=(2, 0), n_marks=0)


def build(config: PatchTSTConfig = CONFIG, shape: SeriesShape = SHAPE) -> PatchTSTForecaster:
    torch.manual_seed(0)
    return PatchTSTForecaster(config, shape)


@pytest.mark.parametrize(("patch_len", "stride"), [(8, 5), (8, 8), (5, 1), (31, 31), (31, 4)])
def test_patches_are_slices_of_the_window_continued_by_its_last_value(patch_len: int, stride: int) -> None:
    model = build(CONFIG.model_copy(update={"patch_len": patch_len, "stride": stride}))
    x = torch.randn(4, 31, 2)
    cut = model.patches(x).numpy()
    series = np.pad(x.numpy(), ((0, 0), (0, stride), (0, 0)), mode="edge")
    starts = range(0, 31 + stride - patch_len + 1, stride)
    assert cut.shape == (4, 2, len(starts), patch_len)
    assert len(starts) == len(model.position)
    for number, start in enumerate(starts):
        np.testing.assert_array_equal(cut[:, :, number], series[:, start : start + patch_len].swapaxes(1, 2))
    assert starts[-1] + patch_len >= 31  # the latest step is read


def test_every_step_moves_the_forecast() -> None:
    model = build(CONFIG.model_copy(update={"normalization": "none", "linear_path": False}))
    x = torch.randn(2, 31, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0].square().sum(), x)
    assert (gradient[0, :, [0, 2]] != 0).all()


@pytest.mark.parametrize("normalization", ["last", "mean"])
def test_channels_share_one_network_and_never_meet(normalization: str) -> None:
    config = CONFIG.model_copy(update={"normalization": normalization, "decomposition": True, "kernel": 5})
    together = build(config)
    alone = build(config, SeriesShape(seq_len=31, pred_len=6, n_inputs=1, target_columns=(0,), n_marks=0))
    alone.load_state_dict(together.state_dict())
    x = torch.randn(4, 31, 3)
    out = together(x)
    for target, column in enumerate((2, 0)):
        torch.testing.assert_close(alone(x[..., column : column + 1])[..., 0], out[..., target])


def test_patches_know_their_place() -> None:
    """In a constant window all patches are equal; what tells them apart is their position alone."""
    model = build(CONFIG.model_copy(update={"normalization": "none", "linear_path": False})).eval()
    x = torch.ones(1, 31, 3)
    before = model(x)
    with torch.no_grad():
        model.position.copy_(model.position.flip(0))
    assert (model(x) - before).abs().max() > 1e-4


def test_a_patch_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"patch_len=32 is longer than data.seq_len=31"):
        build(CONFIG.model_copy(update={"patch_len": 32}))


def test_targets_that_are_no_inputs_are_refused() -> None:
    shape = SeriesShape(seq_len=31, pred_len=6, n_inputs=3, target_columns=(), n_marks=0, n_outputs=2)
    with pytest.raises(ConfigError, match="not among the inputs"):
        build(CONFIG.model_copy(update={"linear_path": False}), shape)
