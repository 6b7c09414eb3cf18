"""Accuracy of forecasts in the units of the data, as people compare it: MASE, sMAPE, RMSE and MAE.

What is kept of them in metrics.json and task_facts.json; `nas_system.data.measures.accuracy` computes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Self

PARTS = ("val", "test", "hold_out")
MOST_STEPS = 10_000
"""The longest horizon of a task."""
LARGEST_SMAPE = 200.0
MOST_SERIES = 2_000
"""Of one file whose scores are kept one by one: of more the mean alone is."""


@dataclass(frozen=True)
class SeriesScore:
    """The errors on one of several series."""

    mse: float
    """On its scaled values, as the score that a search compares."""
    mase: float | None


@dataclass(frozen=True)
class Accuracy:
    """The error of forecasts over the windows of a part, each figure the mean of the targets' own."""

    mase: float | None
    """Mean absolute error over that of the seasonal naive forecast on the training rows; None where a target
    has no such error to compare with."""
    smape: float
    """In percent, from 0 to 200."""
    rmse: float
    """In the units of the data, as are all below."""
    mae: float
    per_step_mae: tuple[float, ...] = ()
    """Of every step of the horizon; empty where that was not kept."""
    per_step_rmse: tuple[float, ...] = ()
    by_series: Mapping[str, SeriesScore] = field(default_factory=dict)
    """By the name of the series, where there are several: the figures above are the means of theirs."""

    def totals(self) -> dict[str, float | None]:
        """Return the figures over the whole horizon."""
        return {"mase": self.mase, "smape": self.smape, "rmse": self.rmse, "mae": self.mae}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            **self.totals(),
            "per_step": {"mae": list(self.per_step_mae), "rmse": list(self.per_step_rmse)},
            **(
                {"by_series": {name: [one.mse, one.mase] for name, one in self.by_series.items()}}
                if self.by_series
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """Read what `to_json` returned, from a file that anybody may have edited; None for anything else."""
        if not isinstance(value, Mapping):
            return None
        smape, rmse, mae = (_error(value.get(name)) for name in ("smape", "rmse", "mae"))
        per_step = value.get("per_step") or {}
        if smape is None or smape > LARGEST_SMAPE or rmse is None or mae is None:
            return None
        if not isinstance(per_step, Mapping):
            return None
        steps = _errors(per_step.get("mae")), _errors(per_step.get("rmse"))
        if steps[0] is None or steps[1] is None or len(steps[0]) != len(steps[1]):
            return None
        by_series = _by_series(value.get("by_series"))
        return cls(_error(value.get("mase")), smape, rmse, mae, steps[0], steps[1], by_series)


def accuracies_from(value: object) -> dict[str, Accuracy]:
    """Read `{"val": ..., "test": ...}` from a file that anybody may have edited, leaving out nonsense."""
    parts = value if isinstance(value, Mapping) else {}
    found = {part: Accuracy.from_json(parts.get(part)) for part in PARTS}
    return {part: accuracy for part, accuracy in found.items() if accuracy is not None}


def mean_over_series(found: Mapping[str, tuple[float, Accuracy]]) -> Accuracy | None:
    """Return the mean of what was found on several series, by name: the error on scaled values, and the rest.

    Every series counts the same, and MASE is the mean of those that have one. None without any series.
    """
    if not found:
        return None
    each = [accuracy for _, accuracy in found.values()]
    known = [accuracy.mase for accuracy in each if accuracy.mase is not None]
    scores = {name: SeriesScore(_shortened(mse), accuracy.mase) for name, (mse, accuracy) in found.items()}
    return Accuracy(
        fmean(known) if known else None,
        fmean(accuracy.smape for accuracy in each),
        fmean(accuracy.rmse for accuracy in each),
        fmean(accuracy.mae for accuracy in each),
        _mean_steps([accuracy.per_step_mae for accuracy in each]),
        _mean_steps([accuracy.per_step_rmse for accuracy in each]),
        scores if len(scores) <= MOST_SERIES else {},
    )


def _mean_steps(steps: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(_shortened(fmean(errors)) for errors in zip(*steps, strict=True))


def _shortened(value: float) -> float:
    return float(f"{value:.6g}")


def _by_series(values: object) -> dict[str, SeriesScore]:
    """Read the scores of several series; nothing where one of them is none."""
    if not isinstance(values, Mapping) or len(values) > MOST_SERIES:
        return {}
    found = {}
    for name, pair in values.items():
        mse = _error(pair[0]) if isinstance(pair, list) and len(pair) == 2 else None
        if mse is None:
            return {}
        found[str(name)] = SeriesScore(mse, _error(pair[1]))
    return found


def _errors(values: object) -> tuple[float, ...] | None:
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) > MOST_STEPS:
        return None
    known = tuple(error for value in values if (error := _error(value)) is not None)
    return known if len(known) == len(values) else None


def _error(value: object) -> float | None:
    """Return a finite number that is not negative; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is converted: an int of 400 digits has no float.
    return float(value) if 0 <= value < 1e300 and math.isfinite(value) else None
