"""The name of a device means the same at every door that takes one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nas_system.errors import ConfigError
from nas_system.graphs.encodings import add_encodings
from nas_system.toolkit.models import GRUModel
from nas_system.toolkit.pytorch_trainer import PytorchTrainer
from nas_system.toolkit.sequence_datasets import SequenceDataset
from nas_system.training import Trainer, get_device, get_optimizer

ROWS = np.zeros((20, 1))


def trainer(device):
    model = nn.Linear(1, 1)
    return Trainer(model, get_optimizer(model), device=device).engine.device


DOORS = {
    "get_device": get_device,
    "Trainer": trainer,
    "PytorchTrainer": lambda device: PytorchTrainer(nn.Linear, [1, 1], device=device).device,
    "a table model": lambda device: GRUModel(1, 4, 1, 4, device=device).device,
    "SequenceDataset": lambda device: SequenceDataset(ROWS, ROWS, 4, device=device)[0]["X"].device,
    "add_encodings": lambda device: add_encodings([], ["role"], device=device) or get_device(device),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_device_is_named_alike_everywhere(door):
    assert door("cpu") == door("CPU") == door(torch.device("cpu")) == torch.device("cpu")
    assert door("auto") == door(None) == get_device()
    for name in ("gpu", "cuda", "GPU", "gpu:0", "cuda:0"):
        if torch.cuda.is_available():
            assert door(name) == torch.device("cuda:0")
        else:
            with pytest.raises(
                ConfigError, match=f"device '{name}' was asked for, .* 0 CUDA devices; use cpu"
            ):
                door(name)
    with pytest.raises(ConfigError, match="device 'cuda:99' was asked for"):
        door("cuda:99")
    for name in ("mps", "gpu1", "tpu"):
        with pytest.raises(ConfigError, match=f"device '{name}' is not .*; use auto, cpu or cuda:N"):
            door(name)
