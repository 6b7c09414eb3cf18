"""Variations of training windows: noise, factors, bent curves, stretched time, dropped channels.

Jitter, scaling, magnitude and time warp: Um et al. 2017, "Data Augmentation of Wearable Sensor Data",
arXiv:1706.00527. Window slicing: Le Guennec, Malinowski, Tavenard 2016, "Data Augmentation for Time
Series Classification using Convolutional Neural Networks". All of them compared: Iwana and Uchida
2021, "An empirical survey of data augmentation for time series classification with neural networks",
PLOS ONE 16(7), arXiv:2007.15951.

Those papers classify; a forecast has a horizon to keep in step with. So what multiplies the past
multiplies its continuation, too; what moves the past in time leaves its last step where it is.
Every function takes whole batches `(B, steps, channels)`, draws from its own generator on their
device and returns new tensors. Values are expected to be scaled: zero is a channel's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from nas_system.data.windows import WindowBatch, WindowLoader
from nas_system.space.run_config import TrainingConfig

Variation = Callable[[Tensor, float, torch.Generator], Tensor]
"""variation(x, strength, generator): `(B, steps, channels)` to the same shape."""

KNOTS = 6
"""Random points of a smooth curve: both ends and four between, as Um et al. do."""

SLOWEST = 0.1
"""Slowest time, as a share of the usual speed: it never stops or runs backwards, however strong the warp."""


def jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add noise of deviation `strength` to every value."""
    return x + strength * _normal(x.shape, x, generator)


def scaling(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiply every channel of a window by one factor around 1, of deviation `strength`."""
    batch, _, channels = x.shape
    return x * (1 + strength * _normal((batch, 1, channels), x, generator))


def magnitude_warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiply every channel by a smooth curve around 1, whose knots have the deviation `strength`."""
    batch, steps, channels = x.shape
    knots = 1 + strength * _normal((batch, channels, KNOTS), x, generator)
    return x * (knots @ _spline_on(steps, x.device, x.dtype)).mT


def time_warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Let a window's time run faster and slower; its first and last step stay where they are.

    The speed is a smooth curve around 1 whose knots have the deviation `strength`, one for all
    channels. Values between two steps lie on the line between them.
    """
    batch, steps, _ = x.shape
    if steps < 2:
        return x.clone()
    knots = 1 + strength * _normal((batch, KNOTS), x, generator)
    speed = (knots @ _spline_on(steps - 1, x.device, x.dtype)).clamp(min=SLOWEST)
    elapsed = torch.nn.functional.pad(speed.cumsum(1), (1, 0))
    return _values_at(x, elapsed / elapsed[:, -1:] * (steps - 1))


def window_slice(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Cut up to the share `strength` off a window's start and stretch the rest to the old length.

    The paper's slices lie anywhere. Ours end with the window, because what is forecast follows there.
    """
    batch, steps, _ = x.shape
    if steps < 2:
        return x.clone()
    cut = strength * torch.rand((batch, 1), generator=generator, device=x.device, dtype=x.dtype)
    kept = (1 - cut).clamp(min=1 / (steps - 1))
    before_end = torch.arange(steps - 1, -1, -1, device=x.device, dtype=x.dtype)
    return _values_at(x, steps - 1 - kept * before_end)


def channel_dropout(
    x: Tensor, strength: float, generator: torch.Generator, *, kept: Sequence[int] = ()
) -> Tensor:
    """Set each channel of a window to zero, its mean, with probability `strength`; never those in `kept`.

    The others keep their values: no factor makes up for what is dropped. Without `kept` at least one
    channel stays in every window, because a window of zeros carries no information.
    """
    batch, _, channels = x.shape
    draws = torch.rand((batch, 1, channels), generator=generator, device=x.device)
    stays = draws >= strength
    if kept:
        stays[..., list(kept)] = True
    else:
        stays |= draws == draws.amax(-1, keepdim=True)
    return x * stays


VARIATIONS: dict[str, Variation] = {
    "jitter": jitter,
    "scaling": scaling,
    "magnitude_warp": magnitude_warp,
    "time_warp": time_warp,
    "window_slice": window_slice,
    "channel_dropout": channel_dropout,
}

CONTINUED = ("scaling", "magnitude_warp")
"""Variations that hold for the horizon as for the past."""


class AugmentedLoader:
    """The batches of a training loader, varied; time marks stay as they are.

    Targets that are among the inputs are multiplied with their past by scaling and magnitude warp,
    and are spared by channel dropout: a forecast from nothing teaches only the mean.
    """

    def __init__(
        self, loader: WindowLoader, name: str, strength: float, target_columns: Sequence[int]
    ) -> None:
        """`loader` must shuffle: its generator also seeds the variation of every pass."""
        if loader.generator is None:
            raise ValueError("only a shuffled training loader is augmented; evaluation sees plain windows")
        self.loader = loader
        self.generator = loader.generator
        self.strength = strength
        self.target_columns = list(target_columns)
        self._vary = VARIATIONS[name]
        if name == "channel_dropout":
            self._vary = partial(channel_dropout, kept=self.target_columns)
        self._continues = name in CONTINUED and bool(self.target_columns)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[WindowBatch]:
        generator = torch.Generator(self.loader.windows.device).manual_seed(self._seed_of_pass())
        for batch in self.loader:
            yield self._varied(batch, generator)

    def _seed_of_pass(self) -> int:
        """Read from a copy of the shuffle's generator: it decides the pass already, an exact resume
        restores it, and windows come in the same order with and without augmentation."""
        copy = torch.Generator()
        copy.set_state(self.generator.get_state())
        return int(torch.randint(2**62, (), generator=copy))

    def _varied(self, batch: WindowBatch, generator: torch.Generator) -> WindowBatch:
        x, target = batch.args[0], batch.target
        steps = x.shape[1]
        if self._continues:
            future = x.new_zeros(len(x), target.shape[1], x.shape[2])
            future[..., self.target_columns] = target
            x = torch.cat([x, future], dim=1)
        x = self._vary(x, self.strength, generator)
        if self._continues:
            x, target = x[:, :steps].contiguous(), x[:, steps:, self.target_columns]
        return WindowBatch((x, *batch.args[1:]), target, batch.weight)


def augmented(
    loader: WindowLoader, training: TrainingConfig, target_columns: Sequence[int]
) -> WindowLoader | AugmentedLoader:
    """Return the training batches of a configuration: with its augmentation, or the loader itself."""
    if training.augmentation == "none":
        return loader
    return AugmentedLoader(loader, training.augmentation, training.augmentation_strength, target_columns)


def natural_spline(steps: int, knots: int = KNOTS) -> Tensor:
    """`(knots, steps)`: values at evenly spaced knots @ this = the natural cubic spline through them.

    Natural: no curvature at both ends.
    """
    unit = torch.eye(knots, dtype=torch.float64)
    inner = torch.zeros(knots, knots, dtype=torch.float64)
    curvature = torch.zeros(knots, knots, dtype=torch.float64)
    inner[0, 0] = inner[-1, -1] = 1
    for knot in range(1, knots - 1):
        inner[knot, knot - 1 : knot + 2] = torch.tensor([1.0, 4.0, 1.0])
        curvature[knot, knot - 1 : knot + 2] = torch.tensor([6.0, -12.0, 6.0])
    second = torch.linalg.solve(inner, curvature)  # second derivatives at the knots, by knot value
    place = torch.linspace(0, knots - 1, steps, dtype=torch.float64)
    left = place.floor().long().clamp(max=knots - 2)
    right_share = (place - left)[:, None]
    left_share = 1 - right_share
    line = left_share * unit[left] + right_share * unit[left + 1]
    bend = (left_share**3 - left_share) * second[left] + (right_share**3 - right_share) * second[left + 1]
    return (line + bend / 6).T.contiguous()


@lru_cache(maxsize=32)
def _spline_on(steps: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return natural_spline(steps).to(device, dtype)


def _normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def _values_at(x: Tensor, places: Tensor) -> Tensor:
    """`x (B, steps, C)` read at `places (B, steps)` between 0 and the last step, linearly between steps."""
    left = places.floor().long().clamp(0, x.shape[1] - 2)
    share = (places - left)[..., None]
    indices = left[..., None].expand(-1, -1, x.shape[2])
    return torch.lerp(x.gather(1, indices), x.gather(1, indices + 1), share)
