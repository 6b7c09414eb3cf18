"""Makes a zoo: draws tasks and networks, trains the networks, describes the tasks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.netformer.weights.tokens import stack_tokens, tokens_from_network
from nas_system.netformer.weights.zoo.generator import draw_layers, networks_from_layers
from nas_system.netformer.weights.zoo.regression_tasks import Tasks, draw_inputs, draw_tasks
from nas_system.netformer.weights.zoo.tiny_trainer import answers, train_layers
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig
from nas_system.netformer.weights.zoo.zoo_files import Zoo

PROBES = 64
"""Inputs at which networks are compared with each other."""


def build_zoo(config: ZooConfig, *, cache_dir: Path | None = None) -> Zoo:
    """The zoo of a configuration, the same every time. `cache_dir` is that of `get_meta_features`."""
    generator = torch.Generator().manual_seed(config.seed)
    tasks = draw_tasks(config.tasks, config.rows, config.inputs, config.noise, generator)
    probes = draw_inputs((PROBES, config.inputs), generator)
    # First the tasks: a missing package is to be found before the networks are trained, not after.
    meta = _describe(tasks, config, cache_dir)
    task = torch.arange(config.networks) % config.tasks
    x, y, split = tasks.x[task], tasks.y[task], config.train_rows
    untrained = draw_layers(config, generator)
    layers = train_layers(untrained, x[:, :split], y[:, :split], config.steps, config.lr)
    error = (answers(layers, x) - y).square()
    networks = networks_from_layers(layers)
    tokens = stack_tokens([tokens_from_network(network) for network in networks], config.max_tokens)
    return Zoo(
        config=config,
        tokens=tokens,
        task=task,
        train_mse=error[:, :split].mean(1),
        val_mse=error[:, split:].mean(1),
        meta=meta,
        probes=probes,
    )


def _describe(tasks: Tasks, config: ZooConfig, cache_dir: Path | None) -> Tensor:
    """Meta-features of every task's training rows, NaN where unknown; (tasks, values)."""
    if not config.meta_features:
        return torch.zeros(len(tasks.x), 0)
    from nas_system.netformer.meta_features import get_meta_features

    rows = []
    for x, y in zip(tasks.x, tasks.y, strict=True):
        part = slice(config.train_rows)
        try:
            found = get_meta_features(x[part].numpy(), y[part].numpy(), cache_dir=cache_dir)
        except ConfigError as error:
            raise ConfigError(f"{error}; or make the zoo with --no-meta-features") from None
        values = torch.from_numpy(found.values)
        rows.append(torch.where(torch.from_numpy(found.known), values, torch.nan))
    return torch.stack(rows).float()
