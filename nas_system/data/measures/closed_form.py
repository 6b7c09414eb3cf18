"""Linear forecasts in closed form, all sensible ones at once: what look-back and normalisation suit a series.

One matrix of moments of the windows, of their inputs and targets together, holds all that is needed: a
normalisation is a linear map of a window, a shorter look-back a part of the matrix, and the error of any
linear forecast on the validation windows follows from their own moments. So no window is looked at twice, and
a combination costs the solution of one linear system.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.time_features import continuous

if TYPE_CHECKING:
    from nas_system.data.open_task import OpenTask
    from nas_system.data.panel import OpenData

Array = NDArray[np.float64]
Normalization = Literal["none", "last", "mean", "seasonal"]

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties per window, on scaled data: from hardly any to one that leaves the normalisation alone."""
LOOK_BACKS = (12, 18, 24, 36, 48, 72, 96, 168, 192, 336, 512, 720, 1024)
SEASONS_IN_LOOK_BACK = (1, 2, 3, 4)
WAVES = 6
"""Cosines per time feature: half a wave and its multiples, enough for every day of a week."""
SLOW_FEATURES = 2
"""Time features left out, day of the month and of the year: a short series holds each of them once."""
WORK = 2e11
"""Floating-point operations of the moments, and as many of the linear systems, that a search may take: some
ten seconds on a slow core. Counted and not timed, so that every machine tries the same combinations."""
LATE = 0.5
"""Share of the training windows of the longest look-back, the last ones: they score what earlier ones fit."""
FEW = 50
"""Validation windows without a target in common, below which the training's last windows count as well. (The
series of `loss` have up to 26 of them. ETTh1 has 119, and its validation alone chooses better: .0489.)"""
REFINED = 3
"""Best pairs of look-back and normalisation that are tried with a map per target and with the calendar."""
FREE = 1e-9
"""Penalty of the constant, which goes free."""
TINY = sys.float_info.min
MOST_MAPS = 16
"""Targets up to which a map each is tried: their moments are kept apart."""
CHUNK = 1_024
"""Windows handled at a time."""


@dataclass(frozen=True)
class ClosedForm:
    """A linear forecast in closed form, and its mean squared error on the validation windows, scaled data."""

    seq_len: int
    normalization: Normalization
    season: int | None
    """Steps, where the normalisation is seasonal."""
    strength: float
    individual: bool
    """One map per target."""
    time_features: bool
    """With cosines of the time features of the first forecast step."""
    val_mse: float
    earlier_mse: float
    """Of the same fitted on the earlier training windows, on the last ones; the validation error again where
    it is that of many windows."""

    @property
    def loss(self) -> float:
        """What combinations are ordered by: the logarithms of both errors, the validation's twice.

        A short series has few validation windows, and the lowest error of hundreds of combinations there is
        partly luck. The test error over that of the baseline which is best on validation is .772 in this
        order and .777 by the validation error alone, as the geometric mean over 72 generated series, and .721
        and .832 over the 11 of `benchmarks/short_series.py` that settings are chosen on.
        """
        return 2 * math.log(max(self.val_mse, TINY)) + math.log(max(self.earlier_mse, TINY))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def search_closed_form(
    data: OpenData, seasons: Sequence[int] = (), work: float = WORK
) -> tuple[ClosedForm, ...]:
    """Fit all combinations on the training windows and return them by their `loss`, best first.

    Look-backs from 12 to 1,024 steps as far as half of the training rows allow, multiples of `seasons` among
    them; empty for a series too short for any. The longest ones are left out where they would take more than
    `work`, and so is what is tried last: maps per target.
    """
    origins = data.origins()
    shortest, first = (
        min(member.split.train_end for member in origin.members) for origin in (data, origins[0])
    )
    # At the earliest origin it leaves two windows to train on.
    most = min((shortest - data.task.pred_len) // 2, first - data.task.pred_len - 1)
    look_backs = _affordable(
        _look_backs(min(max(LOOK_BACKS), most), seasons), origins, len(seasons) + 3, work
    )
    if not look_backs:
        return ()
    windows = [
        _AllMoments(tuple(_Moments.of(member, look_backs[-1]) for member in origin.members))
        for origin in origins
    ]
    found: list[ClosedForm] = []
    for seq_len in look_backs:
        parts = [each.at(seq_len) for each in windows]
        for normalization, season in _normalizations(seq_len, seasons):
            form = ClosedForm(seq_len, normalization, season, 0.0, False, False, math.inf, math.inf)
            found += _tried(form, parts)
    last = windows[-1]
    for best in _best_pairs(found):
        parts = [each.at(best.seq_len) for each in windows]
        maps = last.n_targets * len(windows)
        apart = last.individual and 2 * REFINED * maps * _solutions(best.seq_len, data.task.pred_len) < work
        for individual in (False, True) if apart else (False,):
            for calendar in (False, True) if last.n_waves else (False,):
                if individual or calendar:
                    form = replace(best, individual=individual, time_features=calendar)
                    found += _tried(form, parts)
    return _ranked(found)


def clock_waves(features: NDArray[Any]) -> Array:
    """Return cosines (rows, WAVES * n) of the first n of n + SLOW_FEATURES continuous time features."""
    clock = features[:, : max(features.shape[1] - SLOW_FEATURES, 0), None].astype(np.float64)
    return np.cos(math.pi * (clock + 0.5) * np.arange(1, WAVES + 1)).reshape(len(features), -1)


def _ranked(found: Sequence[ClosedForm]) -> tuple[ClosedForm, ...]:
    sound = [form for form in found if math.isfinite(form.val_mse) and math.isfinite(form.earlier_mse)]
    return tuple(sorted(sound, key=lambda form: form.loss))


def _best_pairs(found: Sequence[ClosedForm]) -> list[ClosedForm]:
    pairs = {(form.seq_len, form.normalization, form.season): form for form in reversed(_ranked(found))}
    return sorted(pairs.values(), key=lambda form: form.loss)[:REFINED]


def _affordable(
    look_backs: list[int], origins: Sequence[OpenData], normalizations: int, work: float
) -> list[int]:
    """Return the look-backs up to the first that would take too much, at least the shortest one."""
    data = origins[-1]
    splits = [member.split for origin in origins for member in origin.members]
    rows = sum(split.val_end + split.train_end for split in splits)
    cells = rows * len(data.members[0].series.column_indices(data.task.targets))
    kept, solved = list[int](), 0.0
    for look_back in look_backs:
        moments = cells * (look_back + data.task.pred_len) ** 2
        solved += len(origins) * normalizations * _solutions(look_back, data.task.pred_len)
        if kept and max(moments, solved) > work:
            break
        kept.append(look_back)
    return kept


def _solutions(look_back: int, pred_len: int) -> float:
    """Return the operations of one normalisation at every strength: a solution and two products each."""
    return len(STRENGTHS) * (2 / 3 * look_back**3 + 6 * look_back**2 * pred_len)


def _look_backs(longest: int, seasons: Sequence[int]) -> list[int]:
    wanted = {*LOOK_BACKS, *(count * season for season in seasons for count in SEASONS_IN_LOOK_BACK), longest}
    least = min(LOOK_BACKS[0], longest)
    return sorted(length for length in wanted if 2 <= least <= length <= longest)


def _normalizations(seq_len: int, seasons: Sequence[int]) -> list[tuple[Normalization, int | None]]:
    seasonal: list[tuple[Normalization, int | None]] = [
        ("seasonal", season) for season in seasons if 2 <= season <= seq_len
    ]
    return [("none", None), ("last", None), ("mean", None), *seasonal]


@dataclass(frozen=True)
class _Part:
    """Moments of windows [look-back, horizon, waves, 1] of a part of the data."""

    moments: Array
    """(maps, D, D), of one target each or of all together."""
    windows: int
    """Of one target."""

    def __add__(self, other: _Part) -> _Part:
        return _Part(self.moments + other.moments, self.windows + other.windows)


@dataclass(frozen=True)
class _Parts:
    """What is fitted on and what is scored, at one look-back."""

    early: _Part
    """The first training windows."""
    between: _Part
    """Those that overlap the early ones' targets with their own."""
    late: _Part
    val: _Part
    seq_len: int
    pred_len: int
    n_targets: int

    def joined(self, other: _Parts) -> _Parts:
        """Return the parts with the windows of another series added."""
        return replace(
            self,
            early=self.early + other.early,
            between=self.between + other.between,
            late=self.late + other.late,
            val=self.val + other.val,
        )


@dataclass(frozen=True)
class _Moments:
    """Moments at the longest look-back, and the series to add the windows that only shorter ones have."""

    table: Array
    """(rows, targets), scaled."""
    waves: Array
    """(rows, n_waves)"""
    full: _Parts

    @classmethod
    def of(cls, data: OpenTask, longest: int) -> _Moments:
        targets = list(data.series.column_indices(data.task.targets))
        table = data.scaler.transform(data.series.values)[:, targets]
        waves = clock_waves(continuous(data.series.dates, data.series.freq))
        pred_len, split = data.task.pred_len, data.split
        train, val = (split.window_starts(part, longest, pred_len) for part in ("train", "val"))
        last = train[len(train) - int(LATE * len(train)) :]
        # The early windows' targets end before those of the last ones begin, where enough are left then.
        gap = pred_len - 1 if len(train) - len(last) > 2 * pred_len else 0
        cut = last.start - gap
        parts = (range(train.start, cut), range(cut, last.start), last, val)
        early, between, late, scored = (_moments_of(table, waves, part, longest, pred_len) for part in parts)
        return cls(table, waves, _Parts(early, between, late, scored, longest, pred_len, len(targets)))

    @property
    def individual(self) -> bool:
        """Whether the targets' moments are kept apart."""
        return len(self.full.val.moments) > 1

    @property
    def n_waves(self) -> int:
        return self.waves.shape[1]

    def at(self, seq_len: int) -> _Parts:
        """Return the parts at a shorter look-back, which has more windows: those that begin later."""
        full = self.full
        first = full.seq_len - seq_len
        early, between, late, val = (
            replace(part, moments=part.moments[:, first:, first:])
            for part in (full.early, full.between, full.late, full.val)
        )
        if first:
            early += _moments_of(self.table, self.waves, range(first), seq_len, full.pred_len)
        return replace(full, early=early, between=between, late=late, val=val, seq_len=seq_len)


@dataclass(frozen=True)
class _AllMoments:
    """The moments of one or several series, whose windows count alike."""

    each: tuple[_Moments, ...]

    @property
    def individual(self) -> bool:
        return self.each[0].individual

    @property
    def n_waves(self) -> int:
        return self.each[0].n_waves

    @property
    def n_targets(self) -> int:
        return self.each[0].full.n_targets

    def at(self, seq_len: int) -> _Parts:
        """Return the parts of all series at a look-back."""
        first, *others = (each.at(seq_len) for each in self.each)
        return reduce(_Parts.joined, others, first)


def _moments_of(table: Array, waves: Array, starts: range, seq_len: int, pred_len: int) -> _Part:
    size = seq_len + pred_len + waves.shape[1] + 1
    apart = table.shape[1] <= MOST_MAPS
    moments = np.zeros((table.shape[1] if apart else 1, size, size))
    for number, column in enumerate(np.ascontiguousarray(table.T)):
        windows = sliding_window_view(column, seq_len + pred_len)
        for first in range(starts.start, starts.stop, CHUNK):
            rows = slice(first, min(first + CHUNK, starts.stop))
            clock = waves[rows.start + seq_len : rows.stop + seq_len]
            chunk = np.hstack([windows[rows], clock, np.ones((len(clock), 1))])
            moments[number if apart else 0] += chunk.T @ chunk
    return _Part(moments, len(starts))


def _tried(form: ClosedForm, origins: Sequence[_Parts]) -> list[ClosedForm]:
    """Return the form at every strength, with its errors on the late and on the validation windows.

    The latter is the mean over the rolling origins, the former that of the last one.
    """
    last = origins[-1]
    if not last.val.windows:
        return []
    at_each = [_errors(form, parts, parts.early + parts.between + parts.late, parts.val) for parts in origins]
    errors = sum(at_each[1:], at_each[0]) / len(at_each)
    few = sum(parts.val.windows for parts in origins) < FEW * last.pred_len
    earlier = _errors(form, last, last.early, last.late) if few else errors
    return [
        replace(form, strength=strength, val_mse=float(val_mse), earlier_mse=float(earlier_mse))
        for strength, val_mse, earlier_mse in zip(STRENGTHS, errors, earlier, strict=True)
    ]


def _errors(form: ClosedForm, parts: _Parts, fitted: _Part, scored: _Part) -> Array:
    """Return the mean squared error (strengths,) on a part, fitted on another."""
    maps = range(len(fitted.moments))
    groups = [[number] for number in maps] if form.individual else [list(maps)]
    inputs, outputs = _places(form, parts)
    squares = np.zeros(len(STRENGTHS))
    for group in groups:
        train, test = (
            _normalised(part.moments[group].sum(axis=0), form, parts.pred_len) for part in (fitted, scored)
        )
        gram, moment = train[np.ix_(inputs, inputs)], train[np.ix_(inputs, outputs)]
        test_gram, test_moment = test[np.ix_(inputs, inputs)], test[np.ix_(inputs, outputs)]
        windows = fitted.windows * (parts.n_targets if len(groups) == 1 else 1)
        for number, strength in enumerate(STRENGTHS):
            penalty = np.full(len(inputs), strength * windows)
            penalty[-1] = FREE * windows
            try:
                weights = np.linalg.solve(gram + np.diag(penalty), moment)
            except np.linalg.LinAlgError:
                squares[number] = math.inf
                continue
            explained = 2 * np.vdot(weights, test_moment) - np.vdot(weights, test_gram @ weights)
            squares[number] += max(np.trace(test[np.ix_(outputs, outputs)]) - explained, 0.0)
    return squares / (scored.windows * parts.pred_len * parts.n_targets)


def _places(form: ClosedForm, parts: _Parts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where inputs (look-back, waves, constant) and outputs stand among the moments."""
    ends, constant = form.seq_len + parts.pred_len, parts.val.moments.shape[-1] - 1
    clock = range(ends, constant) if form.time_features else ()
    return np.array([*range(form.seq_len), *clock, constant]), np.arange(form.seq_len, ends)


def _normalised(moments: Array, form: ClosedForm, pred_len: int) -> Array:
    """Return the moments of the normalised windows: the normalisation is applied to rows and to columns."""
    return _normalised_rows(_normalised_rows(moments, form, pred_len).T, form, pred_len)


def _normalised_rows(moments: Array, form: ClosedForm, pred_len: int) -> Array:
    seq_len, result = form.seq_len, moments.copy()
    past = moments[:seq_len]
    if form.normalization == "seasonal":
        assert form.season is not None
        result[: form.season] = 0.0
        result[form.season : seq_len] -= past[: seq_len - form.season]
        centre = past[seq_len - form.season + np.arange(pred_len) % form.season]
    else:
        centre = {"none": np.zeros(1), "last": past[-1], "mean": past.mean(axis=0)}[form.normalization]
        result[:seq_len] -= centre
    result[seq_len : seq_len + pred_len] -= centre
    return result
