"""The accuracy of a model's forecasts in the units of the data, added up in a pass that is made anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas_system.data.baselines.scoring import scales_of
from nas_system.data.loading import OpenTask
from nas_system.data.measures.accuracy import Accuracy, RunningAccuracy

if TYPE_CHECKING:
    from torch import Tensor

    from nas_system.tasks.kind import Problem
    from nas_system.training.engine import Engine


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


def evaluate_test(
    engine: Engine, problem: Problem, batch_size: int
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Return the metrics on the test part, and the accuracy on the validation and the test part, by part, as
    files have it; empty where the task has none.

    The validation part is passed over for its accuracy alone: its metrics are those of the best epoch.
    """
    meters = {"val": problem.accuracy_meter(), "test": problem.accuracy_meter()}
    if meters["val"] is not None:
        engine.evaluate(problem.batches("val", batch_size), meters["val"])
    metrics = engine.evaluate(problem.batches("test", batch_size), meters["test"])
    found = {part: meter.accuracy() for part, meter in meters.items() if meter is not None}
    return metrics, {part: accuracy.to_json() for part, accuracy in found.items() if accuracy is not None}
