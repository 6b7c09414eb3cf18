"""Curves in TensorBoard: `trainer.add_log_hook(TensorBoardHook("logs/tensorboard"))`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from nas_system.training.extras import import_extra


class TensorBoardHook:
    """A log hook that writes every figure as `prefix/name`. Close it, or use it in a `with`."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
