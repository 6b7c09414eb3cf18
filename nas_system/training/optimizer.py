"""Optimizers by name, and gradient accumulation for hand-written loops."""

from __future__ import annotations

import torch
from torch import nn

from nas_system.space.run_config import TrainingConfig

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def build_optimizer(
    model: nn.Module, config: TrainingConfig, device: torch.device, *, capturable: bool = False
) -> torch.optim.Optimizer:
    """Build the optimizer of a training configuration, fused: one kernel for all parameters.

    `capturable` (adam and adamw on CUDA) keeps step count and learning rate on the device, for
    `Engine(cuda_graph=True)`. Raises ValueError for sgd, which has no such form.
    """
    fused = device.type in ("cpu", "cuda")
    if config.optimizer == "sgd":
        if capturable:
            raise ValueError("sgd cannot be captured in a CUDA graph; use adam or adamw")
        return torch.optim.SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    lr = torch.tensor(config.lr, device=device) if capturable else config.lr
    return OPTIMIZERS[config.optimizer](
        model.parameters(), lr=lr, weight_decay=config.weight_decay, fused=fused, capturable=capturable
    )


def get_optimizer(
    model: nn.Module,
    optimizer_type: str = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    *,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Return adam, adamw or sgd over the trainable parameters, fused where the device can.

    Vectors and scalars (biases, gains of norms) are not decayed: pulling them to zero does not
    simplify the function. `momentum` is for sgd, `betas` are for the others.
    Raises ValueError for an unknown name or a model with nothing to train.
    """
    if optimizer_type not in OPTIMIZERS:
        choices = ", ".join(OPTIMIZERS)
        raise ValueError(f"optimizer_type={optimizer_type!r} is not known; choose from: {choices}")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient")
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in trainable)
    if optimizer_type == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=fused)
    return OPTIMIZERS[optimizer_type](groups, lr=lr, betas=betas, fused=fused)


class GradientAccumulator:
    """Large batches in a hand-written loop: call `step` after every backward pass, `flush` after the last.

    The gradient of a step is the mean over the batches that were really added up, so the losses
    need no scaling and a last incomplete group is not made smaller than it is.
    """

    def __init__(self, accumulation_steps: int = 1) -> None:
        if accumulation_steps < 1:
            raise ValueError(f"accumulation_steps={accumulation_steps}: at least one batch is needed")
        self.accumulation_steps = accumulation_steps
        self.pending = 0
        """Backward passes since the last optimizer step."""

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Count one backward pass; with the last of a group step the optimizer and return True."""
        self.pending += 1
        return self.pending >= self.accumulation_steps and self.flush(optimizer)

    def flush(self, optimizer: torch.optim.Optimizer) -> bool:
        """Step with what has been added up so far, if anything, and clear the gradients."""
        if not self.pending:
            return False
        if self.pending > 1:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.div_(self.pending)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.pending = 0
        return True
