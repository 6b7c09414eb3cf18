"""The scores of several series as one: errors are means over all windows, accuracy that over the series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from nas_system.data.measures.conformal import shift_warning
from nas_system.space.accuracy import Accuracy, mean_over_series

Scores = Mapping[str, Any]


def mean_scores(found: Mapping[str, Scores], levels: Sequence[int]) -> dict[str, Any]:
    """Return what `final_scores` says of several series, by their names, in the same form.

    Intervals count as much as the windows they are around; recent coverage is the mean over the series.
    """
    return {
        **{kind: _mean_of_parts(found, kind) for kind in ("as_searched", "refitted")},
        "intervals": _mean_intervals(found, levels),
    }


def _mean_of_parts(found: Mapping[str, Scores], kind: str) -> dict[str, Any]:
    parts = dict.fromkeys(part for scores in found.values() for part in scores[kind])
    return {
        part: _mean_of({name: scores[kind][part] for name, scores in found.items() if part in scores[kind]})
        for part in parts
    }


def _mean_of(scores: Mapping[str, Scores]) -> dict[str, Any]:
    windows = [one["windows"] for one in scores.values()]
    each = {name: (one["mse"], Accuracy.from_json(one.get("accuracy"))) for name, one in scores.items()}
    known = {name: (mse, accuracy) for name, (mse, accuracy) in each.items() if accuracy is not None}
    accuracy = mean_over_series(known)
    return {
        **{error: fmean([one[error] for one in scores.values()], windows) for error in ("mse", "mae")},
        "windows": sum(windows),
        **({} if accuracy is None else {"accuracy": accuracy.to_json()}),
    }


def _mean_intervals(found: Mapping[str, Scores], levels: Sequence[int]) -> dict[str, Any]:
    mean: dict[str, Any] = {"levels": list(levels)}
    for part in ("test", "hold_out"):
        weighed = [
            (scores["intervals"][part], scores["as_searched"][part]["windows"])
            for scores in found.values()
            if part in scores["intervals"]
        ]
        if weighed:
            mean[part] = {str(level): one for level in levels if (one := _mean_level(weighed, str(level)))}
    recent = [_recent(found.values(), str(level)) for level in levels]
    mean["recent"] = {
        str(level): {"coverage": share}
        for level, share in zip(levels, recent, strict=True)
        if share is not None
    }
    warning = shift_warning(levels, recent)
    return mean | ({"warning": warning} if warning else {})


def _mean_level(weighed: Sequence[tuple[Scores, int]], level: str) -> dict[str, float]:
    known = [(part[level], windows) for part, windows in weighed if level in part]
    return {
        name: fmean([one[name] for one, _ in known], [windows for _, windows in known])
        for name in (known[0][0] if known else ())
    }


def _recent(scores: Iterable[Scores], level: str) -> float | None:
    known = [recent[level]["coverage"] for one in scores if level in (recent := one["intervals"]["recent"])]
    return fmean(known) if known else None
