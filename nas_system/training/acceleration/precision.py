"""Number formats of a training: fp32 throughout, or half-precision matrix products with fp32 weights.

`bf16` has the range of fp32 and needs nothing else. `fp16` has not: small gradients would become
zero, so the loss is scaled up before the backward pass and the gradients down after it
(Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740). Weights, losses and
metrics are fp32 in every case.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from nas_system.errors import ConfigError
from nas_system.training.checkpoint import StateDict

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *HALF_TYPES)


class Precision:
    """Context of the forward pass, and a gradient scaler if one is needed."""

    def __init__(self, name: str, device: torch.device) -> None:
        """Raises ConfigError for an unknown name, and for fp16 on a CPU."""
        if name not in PRECISIONS:
            raise ConfigError(f"precision {name!r} is not known; choose from: {', '.join(PRECISIONS)}")
        if name == "fp16" and device.type != "cuda":
            raise ConfigError(f"precision fp16 needs a CUDA device, not {device}; use bf16 or fp32")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context in which the model runs; the loss is computed outside."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, HALF_TYPES[self.name])

    def full(self, output: Any) -> Any:
        """Return a half-precision output as fp32, for losses and metrics; anything else as it is."""
        is_half = self.name != "fp32" and getattr(output, "dtype", None) in HALF_TYPES.values()
        return output.float() if is_half else output

    def state_dict(self) -> StateDict:
        return self.scaler.state_dict() if self.scaler else {}

    def load_state_dict(self, state: StateDict) -> None:
        # Empty: the checkpoint comes from a training without a scaler.
        if self.scaler and state:
            self.scaler.load_state_dict(state)


def best_half_precision(device: torch.device) -> str:
    """Return the half precision for a request of "mixed": bf16 unless the GPU has none."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return "bf16"
