"""Augmentation: what each variation does, what it leaves alone, and that it never looks ahead."""

from __future__ import annotations

import pytest
import torch

from nas_system.data import WindowLoader, WindowSet
from nas_system.data.augmentation import (
    KNOTS,
    VARIATIONS,
    AugmentedLoader,
    augmented,
    channel_dropout,
    jitter,
    magnitude_warp,
    natural_spline,
    scaling,
    time_warp,
    window_slice,
)
from nas_system.space import TrainingConfig

STEPS, HORIZON, CHANNELS = 40, 8, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(batch=64):
    """x[b, t, c] = 1 + t + 100 c: every value tells its time and channel."""
    time = torch.arange(STEPS, dtype=torch.float32)[None, :, None]
    return (1 + time + 100 * torch.arange(CHANNELS)).repeat(batch, 1, 1)


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_variation_varies_keeps_the_shape_and_repeats_itself(name):
    x = torch.randn(16, STEPS, CHANNELS, generator=generator(7))
    before = x.clone()
    first = VARIATIONS[name](x, 0.5, generator(1))
    assert first.shape == x.shape
    assert first.dtype == x.dtype
    assert torch.equal(x, before), "the windows themselves are not touched"
    assert torch.equal(first, VARIATIONS[name](x, 0.5, generator(1)))
    assert not torch.equal(first, VARIATIONS[name](x, 0.5, generator(2)))
    assert not torch.equal(first, x)
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    VARIATIONS[name](x, 0.5, generator(1))
    assert torch.equal(torch.rand(1), drawn), "torch's own random numbers are left alone"


@pytest.mark.parametrize("name", VARIATIONS)
def test_windows_of_a_batch_differ_and_do_not_mix(name):
    x = torch.randn(1, STEPS, CHANNELS, generator=generator(7)).repeat(20, 1, 1)
    varied = VARIATIONS[name](x, 0.5, generator())
    assert len({tuple(window.flatten().tolist()) for window in varied}) > 3
    x[0] = 1e6
    others = VARIATIONS[name](x, 0.5, generator())
    assert torch.equal(others[1:], varied[1:])


@pytest.mark.parametrize("name", VARIATIONS)
def test_the_shortest_window_and_the_greatest_strength_give_finite_numbers(name):
    for steps in (1, 2, 3):
        varied = VARIATIONS[name](torch.ones(50, steps, 1), 1.0, generator())
        assert varied.shape == (50, steps, 1)
        assert varied.isfinite().all()


def test_the_strength_of_jitter_is_the_deviation_of_its_noise():
    noise = jitter(torch.zeros(200, STEPS, CHANNELS), 0.3, generator())
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(noise.mean().item()) < 0.01


def test_scaling_is_one_factor_per_channel_and_window():
    factors = scaling(ramp(500), 0.2, generator()) / ramp(500)
    assert torch.allclose(factors, factors[:, :1], rtol=1e-5)
    assert factors[:, 0].std().item() == pytest.approx(0.2, rel=0.1)
    assert factors[:, 0].mean().item() == pytest.approx(1.0, abs=0.03)


def test_a_magnitude_warp_is_a_smooth_curve_around_one():
    factors = magnitude_warp(torch.ones(500, 101, CHANNELS), 0.2, generator())
    knots = factors[:, :: 100 // (KNOTS - 1)]
    assert knots.std().item() == pytest.approx(0.2, rel=0.1)
    assert factors.mean().item() == pytest.approx(1.0, abs=0.03)
    # A step of a smooth curve is small beside what the curve covers; noise of that size would jump by 0.28.
    assert factors.diff(dim=1).abs().mean().item() < 0.03


def test_the_spline_goes_through_its_knots_keeps_lines_and_has_no_corner():
    basis = natural_spline(501)
    assert torch.allclose(basis[:, ::100], torch.eye(KNOTS, dtype=torch.float64), atol=1e-12)
    line = torch.arange(KNOTS, dtype=torch.float64) @ basis
    assert torch.allclose(line, torch.linspace(0, KNOTS - 1, 501, dtype=torch.float64))
    curvature = basis.diff(n=2, dim=1) / 0.01**2
    assert curvature[:, [0, -1]].abs().max() < 0.2, "natural: no curvature at the ends"
    assert curvature.diff(dim=1).abs().max() < 0.2, "the second derivative has no jump"


def test_a_time_warp_runs_forwards_between_fixed_ends():
    warped = time_warp(ramp(), 0.3, generator())
    times = warped[..., 0] - 1
    assert torch.equal(times[:, -1], torch.full((64,), STEPS - 1.0))
    assert torch.equal(times[:, 0], torch.zeros(64))
    assert (times.diff(dim=1) > 0).all()
    assert (times - torch.arange(STEPS)).abs().max() > 0.5
    assert torch.allclose(warped[..., 1] - 100, warped[..., 0], atol=1e-4), "one clock for all channels"


def test_a_slice_ends_with_the_window_and_begins_at_most_its_share_later():
    times = window_slice(ramp(500), 0.4, generator())[..., 0] - 1
    assert torch.equal(times[:, -1], torch.full((500,), STEPS - 1.0))
    starts = times[:, 0] / (STEPS - 1)
    assert 0 <= starts.min() < 0.02
    assert 0.38 < starts.max() <= 0.4
    steps = times.diff(dim=1)
    assert torch.allclose(steps, steps[:, :1], atol=1e-4), "stretched evenly"


def test_dropped_channels_are_zero_the_others_untouched_and_one_always_stays():
    x = ramp(2000)
    dropped = channel_dropout(x, 0.3, generator())
    gone = (dropped == 0).all(dim=1)
    assert torch.equal(dropped, x * ~gone[:, None])
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not channel_dropout(x, 1.0, generator()).eq(0).all(dim=(1, 2)).any()
    assert torch.equal(channel_dropout(x[..., :1], 1.0, generator()), x[..., :1])
    kept = channel_dropout(x, 1.0, generator(), kept=[1])
    assert torch.equal(kept[..., 1], x[..., 1])
    assert not kept[..., [0, 2]].any()


# --- on windows of a series -----------------------------------------------------------------


def windows(target_columns=(1,), rows=200):
    table = torch.randn(rows, CHANNELS, generator=generator(5)) + 3
    marks = torch.arange(rows, dtype=torch.float32)[:, None]
    starts = range(rows - STEPS - HORIZON + 1)
    return WindowSet(table, marks, starts, STEPS, HORIZON, range(CHANNELS), target_columns)


def loader(name, strength=0.3, seed=0, target_columns=(1,), inputs=(1,)):
    plain = WindowLoader(windows(target_columns), 16, generator=generator(seed))
    return AugmentedLoader(plain, name, strength, inputs)


def pairs(name, **options):
    """Varied and plain batches of one pass, in the same order."""
    varied = loader(name, **options)
    return list(zip(varied, WindowLoader(varied.loader.windows, 16, generator=generator(0)), strict=True))


@pytest.mark.parametrize("name", ["jitter", "time_warp", "window_slice", "channel_dropout"])
def test_what_is_to_be_forecast_stays_as_it_is(name):
    for varied, plain in pairs(name):
        assert torch.equal(varied.target, plain.target)
        assert not torch.equal(varied.args[0], plain.args[0])


@pytest.mark.parametrize("name", VARIATIONS)
def test_time_marks_stay_as_they_are(name):
    for varied, plain in pairs(name):
        assert torch.equal(varied.args[1], plain.args[1])
        assert torch.equal(varied.args[2], plain.args[2])


def test_a_target_is_scaled_by_the_factor_of_its_own_past():
    for varied, plain in pairs("scaling", target_columns=(2, 0), inputs=(2, 0)):
        factors = (varied.args[0] / plain.args[0])[:, -1]
        assert torch.allclose(varied.target, plain.target * factors[:, None, [2, 0]], rtol=1e-4)


def test_the_curve_of_a_magnitude_warp_goes_on_over_the_horizon():
    for varied, plain in pairs("magnitude_warp", strength=0.2):
        past = varied.args[0][..., 1] / plain.args[0][..., 1]
        future = varied.target[..., 0] / plain.target[..., 0]
        curve = torch.cat([past, future], dim=1)
        assert (future - 1).abs().max() > 0.05
        # No jump, no corner where the past ends: differences of the second order stay tiny.
        assert curve.diff(n=2, dim=1)[:, STEPS - 3 : STEPS + 2].abs().max() < 0.03


@pytest.mark.parametrize("name", VARIATIONS)
def test_targets_that_are_no_inputs_are_never_touched(name):
    for varied, plain in pairs(name, inputs=()):
        assert torch.equal(varied.target, plain.target)


def test_channel_dropout_spares_the_targets_past():
    dropped = torch.cat([varied.args[0] for varied, _ in pairs("channel_dropout", strength=0.9)])
    plain = torch.cat([plain.args[0] for _, plain in pairs("channel_dropout", strength=0.9)])
    assert torch.equal(dropped[..., 1], plain[..., 1])
    assert (dropped[..., 0] == 0).all(dim=1).float().mean() > 0.7


@pytest.mark.parametrize("name", VARIATIONS)
def test_no_variation_of_the_past_reads_the_future(name):
    """One window; the rows after it are poisoned: its varied past is the same, bit for bit."""
    pasts = []
    for future in (0.0, 1e9):
        table = torch.randn(STEPS + HORIZON, CHANNELS, generator=generator(5))
        table[STEPS:] = future
        windows = WindowSet(table, None, range(1), STEPS, HORIZON, range(CHANNELS), (1,))
        varied = AugmentedLoader(WindowLoader(windows, 16, generator=generator()), name, 0.99, (1,))
        pasts += [batch.args[0] for batch in varied]
    assert torch.equal(*pasts)
    assert not torch.equal(pasts[0][0], table[:STEPS])


def test_every_pass_varies_anew_and_a_restored_shuffle_brings_its_variation_back():
    zeros = torch.zeros(200, CHANNELS)  # so that a varied window is the noise alone
    silent = WindowSet(zeros, None, range(100), STEPS, HORIZON, range(CHANNELS), (1,))
    varied = AugmentedLoader(WindowLoader(silent, 16, generator=generator()), "jitter", 0.3, (1,))
    state = varied.generator.get_state()
    first, second = ([batch.args[0] for batch in varied] for _ in range(2))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    varied.generator.set_state(state)
    again = [batch.args[0] for batch in varied]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_order_of_the_windows_is_that_of_a_training_without_augmentation():
    for varied, plain in pairs("jitter", strength=0.001):
        assert (varied.args[0] - plain.args[0]).abs().max() < 0.01


def test_a_configuration_without_augmentation_gets_its_own_loader_back():
    plain = WindowLoader(windows(), 16, generator=generator())
    assert augmented(plain, TrainingConfig(), (1,)) is plain
    varied = augmented(plain, TrainingConfig(augmentation="scaling", augmentation_strength=0.5), (1,))
    assert isinstance(varied, AugmentedLoader)
    assert (len(varied), varied.strength) == (len(plain), 0.5)


def test_an_evaluation_loader_is_refused():
    with pytest.raises(ValueError, match="evaluation sees plain windows"):
        AugmentedLoader(WindowLoader(windows(), 16), "jitter", 0.1, (1,))


def test_every_augmentation_of_the_search_space_exists():
    from typing import get_args

    choices = get_args(TrainingConfig.model_fields["augmentation"].annotation)
    assert set(choices) == {"none", *VARIATIONS}
