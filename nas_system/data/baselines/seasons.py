"""The periods that seasonal baselines use: the obvious one of the step, and those that the data show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from nas_system.data.baselines.method import Array
from nas_system.data.measures.seasons import find_seasons
from nas_system.data.time_features import unit_of

if TYPE_CHECKING:
    from nas_system.data.panel import OpenData

SEASON = {"s": 86_400, "min": 1_440, "h": 24, "D": 7, "W": 52, "MS": 12}
"""Steps in the most obvious period, for a step of one unit: the day, the week or the year."""

MOST_SERIES = 16
"""Of one file in which seasons are looked for."""


def season_of(freq: str) -> int:
    """Return steps in the obvious period: 24 for `h`, 96 for `15min`; 1 if the step does not divide it."""
    unit = unit_of(freq)
    count = int(freq.removesuffix(unit) or 1)
    return SEASON[unit] // count if SEASON[unit] % count == 0 else 1


def shared_seasons(train: Array, freq: str) -> tuple[int, ...]:
    """Return the periods found in `train`, (rows, targets): that with the largest sum of strengths first."""
    return _strongest(train.T, freq)


def seasons_of(data: OpenData) -> tuple[int, ...]:
    """Return the periods found in the training rows of the targets, as `shared_seasons`; of many series in
    those of some, evenly spread."""
    members = data.members
    chosen = np.unique(np.linspace(0, len(members) - 1, MOST_SERIES).round().astype(int))
    found = []
    for member in (members[index] for index in chosen):
        columns = list(member.series.column_indices(data.task.targets))
        found.extend(member.series.values[: member.split.train_end, columns].T)
    return _strongest(found, members[0].series.freq)


def _strongest(columns: Iterable[Array], freq: str) -> tuple[int, ...]:
    strength: defaultdict[int, float] = defaultdict(float)
    for column in columns:
        for season in find_seasons(column, freq):
            strength[season.period] += season.strength
    return tuple(sorted(strength, key=lambda period: (-strength[period], period)))


def tried_seasons(train: Array, freq: str) -> tuple[int, ...]:
    """Return the periods for a model that tests them itself: those found, then the obvious one."""
    found = (*shared_seasons(train, freq), season_of(freq))
    return tuple(season for season in dict.fromkeys(found) if season > 1)
