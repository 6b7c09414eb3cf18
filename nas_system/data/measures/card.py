"""The data card of a series: seasons, trend, zeros and shifts, and what is wrong with a target.

A target that cannot be learned or scored is refused before anything is trained; what only makes
scores hard to read is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.data.measures.seasons import find_seasons
from nas_system.data.open_task import OpenTask
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.splits import SPLIT_NAMES, SplitName, label_of
from nas_system.errors import ConfigError
from nas_system.space.data_card import CARD, DataCard, TargetCard, UnseenCard
from nas_system.space.task_info import UNSEEN

Array = NDArray[np.float64]

MOST_TARGETS = 8
"""Targets that get a card of their own."""

MOST_COVARIATES = 100
"""Columns other than the targets that are looked through for extreme values."""

MOST_WARNINGS = 8

SEEN: tuple[SplitName, ...] = ("train", "val")
"""Parts that a proposer may know of."""

FAR = 100.0
"""Interquartile ranges from the median beyond which a value is extreme."""

MOST_EXTREME = 0.01
"""Share of a part's rows; where more are extreme it is a heavy tail and no mistake."""

INTERMITTENT = 1 - 1 / 1.32
"""Least share of zeros of an intermittent series: a demand in 1.32 rows (Syntetos, Boylan, Croston 2005,
"On the categorization of demand patterns", JORS 56, section 3)."""

REGULAR = 0.3
"""Strength of a season that explains zeros, as nights do for the sun."""

LARGEST_SCALED = 1e15
"""A scaled value beyond this is too large to be squared in 32 bits."""


@dataclass(frozen=True, eq=False)
class Target:
    """One target column with its parts, or a column that is only read."""

    name: str
    values: Array
    """(rows,)"""
    data: OpenTask
    is_read_only: bool = False

    @property
    def label(self) -> str:
        """Name the column as messages do."""
        return f"{'column' if self.is_read_only else 'target'} {self.full_name!r}"

    @property
    def full_name(self) -> str:
        """Name the column and, where there are several, its series."""
        return f"{self.name} of {series}" if (series := self.data.series.name) else self.name

    def rows(self, part: SplitName) -> range:
        return self.data.split.target_rows(part)

    def part(self, part: SplitName) -> Array:
        rows = self.rows(part)
        return self.values[rows.start : rows.stop]

    def is_constant(self, part: SplitName) -> bool:
        values = self.part(part)
        return len(values) > 0 and bool(values.min() == values.max())

    def all_rows(self, part: SplitName) -> str:
        """Say that a part is constant: `target 'y' is 0 in all 300 train rows`."""
        values = self.part(part)
        return f"target {self.full_name!r} is {values[0]:g} in all {len(values):,} {label_of(part)} rows"


@dataclass(frozen=True)
class Finding:
    """Something a person has to know to read the scores, and the part of the data that shows it."""

    part: SplitName
    text: str


def measure_card(data: OpenData) -> dict[str, Any]:
    """Return the data card, and what no proposer may know, by their names in `TaskInfo.measured`.

    Raises ConfigError for targets on which a training or a validation score would mean nothing.
    """
    targets = sound_targets(data)
    cards = [_card_of(target) for target in targets[:MOST_TARGETS]]
    findings = [finding for target in targets for finding in _constant_parts(target)]
    covariates = [column for member in data.members for column in _covariates(member)]
    findings += [finding for column in [*targets, *covariates] for finding in _extreme_values(column)]
    findings += [
        finding
        for target, card in zip(targets, cards, strict=False)
        for finding in _rare_values(target, card)
    ]
    card = DataCard(
        rows=sum(len(member.series) for member in data.members),
        step=data.members[0].series.freq,
        targets=tuple(cards),
        more_targets=len(targets) - len(cards),
        warnings=_texts([finding for finding in findings if finding.part in SEEN]),
    )
    shifts = {target.full_name: _shift(target, "test") for target in targets[:MOST_TARGETS]}
    unseen = UnseenCard(
        test_shifts={name: shift for name, shift in shifts.items() if shift is not None},
        warnings=_texts([finding for finding in findings if finding.part not in SEEN]),
    )
    return {CARD: card.model_dump(mode="json"), UNSEEN: unseen.model_dump(mode="json")}


def sound_targets(data: OpenData) -> list[Target]:
    """Return the targets of every series.

    Raises ConfigError if training or validation cannot mean anything on them.
    """
    if not isinstance(data, OpenPanel):
        targets = _targets_of(data)
        refuse_degenerate(data, targets)
        return targets
    for member in data.members:
        try:
            _refuse_huge(member)
        except ConfigError as error:
            raise ConfigError(f"{member.label}{error}") from None
    targets = [target for member in data.members for target in _targets_of(member)]
    scored = [target for target in targets if target.rows("val")]
    if not scored or all(target.is_constant("val") for target in scored):
        raise ConfigError(
            "the target of every series is one value in all its val rows: a flat line scores 0 there, so no "
            "comparison of models means anything; move the borders with --split, or sum the rows to a "
            "coarser step"
        )
    return targets


def _targets_of(data: OpenTask) -> list[Target]:
    names = data.series.column_names(data.task.targets)
    columns = data.series.values[:, list(data.series.column_indices(names))]
    return [Target(name, values, data) for name, values in zip(names, columns.T, strict=True)]


def _covariates(data: OpenTask) -> list[Target]:
    """Return the first of the columns that are no targets."""
    forecast = set(data.series.column_names(data.task.targets))
    others = [(index, name) for index, name in enumerate(data.series.columns) if name not in forecast]
    return [
        Target(name, data.series.values[:, index], data, is_read_only=True)
        for index, name in others[:MOST_COVARIATES]
    ]


def refuse_degenerate(data: OpenTask, targets: Sequence[Target]) -> None:
    """Raise ConfigError if training or validation cannot mean anything on these targets."""
    _refuse_huge(data)
    flat = [target for target in targets if target.is_constant("train")]
    for target in flat:
        level = target.part("train")[0]
        changes = np.flatnonzero(target.values != level)
        if len(flat) == len(targets) or (target.part("val") != level).any():
            advice = "it never changes; choose another --target"
            if len(changes):
                advice = (
                    f"it first changes at {_place(data, changes[0])}; move the border with --split, or leave "
                    "the rows before out of the file"
                )
            raise ConfigError(
                f"{target.all_rows('train')}: there is nothing to learn, and no scale to measure errors on; "
                f"{advice}"
            )
    if all(target.is_constant("val") for target in targets):
        rows = targets[0].rows("val")
        raise ConfigError(
            f"{targets[0].all_rows('val')} (rows {rows.start} to {rows.stop}): a flat line scores 0 there, "
            "so no comparison of models means anything; move the borders with --split, or sum the rows to a "
            "coarser step"
        )


def _refuse_huge(data: OpenTask) -> None:
    with np.errstate(over="ignore"):
        scaled = np.abs(data.scaler.transform(data.series.values))
    row, column = np.unravel_index(int(scaled.argmax()), scaled.shape)
    if not scaled[row, column] <= LARGEST_SCALED:
        raise ConfigError(
            f"column {data.series.columns[column]!r} is {data.series.values[row, column]:g} at "
            f"{_place(data, row)}, more than {LARGEST_SCALED:.0e} times as far out as the training rows are, "
            "and its square is too large to train on; correct that row, or leave the column out"
        )


def _card_of(target: Target) -> TargetCard:
    train, series = target.part("train"), target.data.series
    return TargetCard(
        name=target.full_name,
        seasons=tuple((season.period, season.strength) for season in find_seasons(train, series.freq)),
        trend=_trend(train),
        zeros=round(float((train == 0).mean()), 4),
        repeats=round(float((np.diff(train) == 0).mean()), 4),
        filled=series.filled.get(target.name, 0),
        val_shift=_shift(target, "val"),
    )


def _trend(values: Array) -> float:
    """Return the share of variance that a line explains, with the sign of its slope; 0 for a constant."""
    unit, spread = _size_and_spread(values)
    if spread == 0:
        return 0.0
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    correlation = float(steps @ (values / unit)) / (spread * steps.std() * len(values))
    return round(correlation * abs(correlation), 4)


def _shift(target: Target, part: SplitName) -> float | None:
    """Return how far the mean of a part is from that of the training rows, in their standard deviations."""
    train = target.part("train")
    unit, spread = _size_and_spread(train)
    if spread == 0:
        return None
    if not len(target.part(part)):
        return None
    with np.errstate(over="ignore"):
        shift = float((target.part(part) / unit).mean() - (train / unit).mean()) / spread
    return float(f"{shift:.4g}") if np.isfinite(shift) else None


def _size_and_spread(values: Array) -> tuple[float, float]:
    """Return the largest absolute value, and the standard deviation in that unit; 0 for a constant."""
    if values.min() == values.max():
        return 1.0, 0.0
    # Without a unit the squares of 1e-200 are 0.
    unit = float(np.abs(values).max())
    return unit, float((values / unit).std())


def _constant_parts(target: Target) -> Iterator[Finding]:
    for part in SPLIT_NAMES:
        if not target.is_constant(part):
            continue
        meaning = {
            "train": "forecasts of it say nothing; leave it out of --target",
            "val": "its part of the validation score only says how flat a forecast is",
            "test": "its test score only says how flat a forecast is; move the borders with --split",
            "hold_out": "its hold-out score only says how flat a forecast is; move the borders with --split",
        }
        yield Finding(part, f"{target.all_rows(part)}: {meaning[part]}")


def _extreme_values(target: Target) -> Iterator[Finding]:
    """Find single values far outside, measured by the training rows."""
    low, median, high = np.quantile(target.part("train"), (0.25, 0.5, 0.75))
    usual = high - low or np.quantile(np.abs(target.part("train") - median), 1 - MOST_EXTREME)
    if usual == 0:
        return
    for part in SPLIT_NAMES:
        with np.errstate(over="ignore"):
            distances = np.abs(target.part(part) - median) / usual
        extreme = int((distances > FAR).sum())
        if not 0 < extreme <= max(1, MOST_EXTREME * len(distances)):
            continue
        row = target.rows(part).start + int(distances.argmax())
        times = float(f"{distances.max():.2g}")
        others = f" (and {extreme - 1} more like it)" if extreme > 1 else ""
        yield Finding(
            part,
            f"{target.label} is {target.values[row]:g} at {_place(target.data, row)}{others}, "
            f"{times:,.0f} times as far from the median as usual, and {_weight_of(part, target)}; "
            "correct it, or empty the cell and add --missing ffill",
        )


def _weight_of(part: SplitName, target: Target) -> str:
    if target.is_read_only:
        return "may decide alone what the models that read it forecast"
    if part != "train":
        return f"decides the {label_of(part)} score alone"
    if target.data.task.scaling == "robust":
        return "outweighs all other rows in training"
    return "sets the scale alone, so errors elsewhere look like 0 (with --scaling robust it does not)"


def _rare_values(target: Target, card: TargetCard) -> Iterator[Finding]:
    """Find a target that seldom is anything but one value."""
    train = target.part("train")
    usual = float(np.median(train))
    others = int((train != usual).sum())
    if 0 < others <= MOST_EXTREME * len(train):
        yield Finding(
            "train",
            f"target {target.full_name!r} is {usual:g} in all but {others} of {len(train):,} train rows: "
            "there is next to nothing to learn; move the border with --split, or sum the rows to a "
            "coarser step",
        )
    elif card.zeros >= INTERMITTENT and train.min() >= 0 and not _is_regular(card):
        yield Finding(
            "train",
            f"target {target.full_name!r} is intermittent: {card.zeros:.0%} of its train rows are 0 and no "
            f"season says which; the least squared error is near the mean ({train.mean():.3g}) in every row, "
            "so do not expect zeros; to forecast amounts, sum the rows to a coarser step",
        )


def _is_regular(card: TargetCard) -> bool:
    return any(strength >= REGULAR for _, strength in card.seasons)


def _place(data: OpenTask, row: int | np.integer[Any]) -> str:
    """Return a row as messages name it, counted from 0 as those of the parts are."""
    return f"row {row}, {str(data.series.dates[row]).replace('T', ' ')}"


def _texts(findings: Sequence[Finding]) -> tuple[str, ...]:
    texts = [finding.text for finding in findings]
    more = len(texts) - MOST_WARNINGS
    return (*texts[:MOST_WARNINGS], *([f"... and {more} more of this kind"] if more > 0 else []))
