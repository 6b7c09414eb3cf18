"""Curves in TensorBoard: `trainer.add_log_hook(TensorBoardHook("logs/tensorboard"))`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from nas_system.training.extras import import_extra


class TensorBoardHook(AbstractContextManager):
    """A log hook that writes every metric as `prefix/name`. Close it, or use it in a `with`."""

    def __init__(self, log_dir: str | Path) -> None:
        """Raises ConfigError if the package tensorboard is missing."""
        import_extra("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(log_dir))

    def __call__(self, metrics: Mapping[str, float], step: int, prefix: str) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def close(self) -> None:
        """Write out what is still in memory."""
        self.writer.close()

    def __exit__(self, *error: object) -> None:
        self.close()
