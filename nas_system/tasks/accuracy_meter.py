"""The accuracy of a model's forecasts in the units of the data, added up in a pass that is made anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas_system.data.baselines.scoring import scales_of
from nas_system.data.measures.accuracy import Accuracy, RunningAccuracy
from nas_system.data.open_task import OpenTask
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.splits import SplitName
from nas_system.space.accuracy import mean_over_series

if TYPE_CHECKING:
    from torch import Tensor

    from nas_system.tasks.kind import Problem
    from nas_system.training.engine import Engine


class _OneSeries:
    """The accuracy of scaled forecasts of one series, of which `windows` are still to come."""

    def __init__(self, data: OpenTask, part: SplitName) -> None:
        scaler = data.scaler.of_columns(data.series.column_indices(data.task.targets))
        self.name = data.series.name
        self.windows = max(0, len(data.split.target_rows(part)) - data.task.pred_len + 1)
        self.running = RunningAccuracy(data.task.pred_len, scales_of(data), scaler)
        self._squares, self._added = 0.0, 0

    def add(self, output: Tensor, target: Tensor) -> None:
        self._squares += float((output - target).double().square().mean(dim=(1, 2)).sum())
        self._added += len(output)
        self.running.add(output.float().cpu().numpy(), target.float().cpu().numpy())

    @property
    def mse(self) -> float:
        """The mean squared error on scaled values."""
        return self._squares / max(self._added, 1)


class AccuracyMeter:
    """A `Meter` of scaled forecasts, (B, pred_len, targets), that adds no metric to the objective's.

    The windows of several series come one series after the other, as `build_windows` has them.
    """

    def __init__(self, data: OpenData, part: SplitName) -> None:
        self._all = [_OneSeries(member, part) for member in data.members]
        self._to_come = [series for series in self._all if series.windows]
        self._is_one = not isinstance(data, OpenPanel)

    def add(self, output: Tensor, target: Tensor) -> None:
        while len(output) and self._to_come:
            series = self._to_come[0]
            count = min(len(output), series.windows)
            series.add(output[:count], target[:count])
            series.windows -= count
            output, target = output[count:], target[count:]
            if not series.windows:
                del self._to_come[0]

    def compute(self) -> dict[str, float]:
        return {}

    def accuracy(self) -> Accuracy | None:
        """Return the accuracy of all that was added, of several series with that of each; None for no window
        and for numbers too large."""
        found = [(series, series.running.accuracy()) for series in self._all]
        if self._is_one:
            return found[0][1]
        return mean_over_series(
            {series.name: (series.mse, accuracy) for series, accuracy in found if accuracy is not None}
        )


def evaluate_test(
    engine: Engine, problem: Problem, batch_size: int
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Return the metrics on the test part, and the accuracy on the validation and the test part, by part, as
    files have it; empty where the task has none.

    The validation part is passed over for its accuracy alone: its metrics are those of the best epoch.
    """
    meters = {"val": problem.accuracy_meter("val"), "test": problem.accuracy_meter("test")}
    if meters["val"] is not None:
        engine.evaluate(problem.batches("val", batch_size), meters["val"])
    metrics = engine.evaluate(problem.batches("test", batch_size), meters["test"])
    found = {part: meter.accuracy() for part, meter in meters.items() if meter is not None}
    return metrics, {part: accuracy.to_json() for part, accuracy in found.items() if accuracy is not None}
