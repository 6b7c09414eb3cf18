"""Attention maps of a finished training: which steps of the past its forecasts looked at.

A family takes part by a method `attention_weights(x, x_mark, y_mark)`: names to `(B, queries, keys)`,
queries the steps of the horizon, rows that sum to one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_system.data.windows import WindowSet
from nas_system.visualization import AttentionMap

MOST_WINDOWS = 256
"""Most windows in a mean, evenly spread over the part."""
AT_ONCE = 64
"""Windows computed at a time: 64 maps of 720 x 720 are 133 MB."""


def attention_maps(model: nn.Module, windows: WindowSet) -> list[AttentionMap]:
    """Return the model's maps over these windows, none if it has no attention. Restores its mode.

    With several maps per window (channel independence makes one per target) the mean runs over all,
    and the example is the first of its window.
    """
    weights_of = getattr(model, "attention_weights", None)
    if weights_of is None or not len(windows):
        return []
    was_training = model.training
    model.eval()
    try:
        chosen = evenly_spread(len(windows), MOST_WINDOWS).to(windows.device)
        means: dict[str, Tensor] = {}
        for indices in chosen.split(AT_ONCE):
            for name, weights in weights_of(*windows.batch(indices).args).items():
                share = weights.double().mean(dim=0) * (len(indices) / len(chosen))
                means[name] = means.get(name, torch.zeros_like(share)) + share
        example = len(windows) // 2
        examples = weights_of(*windows.batch(torch.tensor([example], device=windows.device)).args)
    finally:
        model.train(was_training)
    return [
        AttentionMap(
            name=name,
            mean=mean.cpu().numpy(),
            n_windows=len(chosen),
            example=examples[name][0].cpu().numpy(),
            example_window=example,
        )
        for name, mean in means.items()
    ]


def evenly_spread(count: int, most: int) -> Tensor:
    """Return at most `most` evenly spread indices below `count`, with the first and the last."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()
