"""The accuracy of a model's forecasts in the units of the data, added up in a pass that is made anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_system.data.baselines.scoring import scales_of
from nas_system.data.loading import OpenTask
from nas_system.data.measures.accuracy import Accuracy, RunningAccuracy

if TYPE_CHECKING:
    from torch import Tensor


class AccuracyMeter:
    """A `Meter` of scaled forecasts, (B, pred_len, targets), that adds no metric to the objective's."""

    def __init__(self, data: OpenTask) -> None:
        scaler = data.scaler.of_columns(data.series.column_indices(data.task.targets))
        self._running = RunningAccuracy(data.task.pred_len, scales_of(data), scaler)

    def add(self, output: Tensor, target: Tensor) -> None:
        self._running.add(output.float().cpu().numpy(), target.float().cpu().numpy())

    def compute(self) -> dict[str, float]:
        return {}

    def accuracy(self) -> Accuracy | None:
        """Return the accuracy of all that was added; None for no window and for numbers too large."""
        return self._running.accuracy()
