"""Curves in Weights & Biases: `trainer.add_log_hook(WandbHook(project="graphs"))`.

The environment variable WANDB_MODE=offline keeps everything on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from nas_system.training.extras import import_extra


class WandbHook(AbstractContextManager):
    """A log hook that logs every metric as `prefix/name` to a new run. Close it, or use it in a `with`."""

    def __init__(
        self, project: str, *, log_dir: str | Path | None = None, config: Mapping[str, object] | None = None
    ) -> None:
        """Raises ConfigError if the package wandb is missing."""
        wandb = import_extra("wandb", "wandb")
        self.run = wandb.init(
            project=project, dir=None if log_dir is None else str(log_dir), config=dict(config or {})
        )

    def __call__(self, metrics: Mapping[str, float], step: int, prefix: str) -> None:
        self.run.log({f"{prefix}/{name}": value for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        """End the run, which writes what is still in memory."""
        self.run.finish()

    def __exit__(self, *error: object) -> None:
        self.close()
