"""What a series is like, measured once: the data card, for people and for the model that proposes.

It speaks of the training and the validation part alone. What is known of the parts that no
proposer may know of is kept apart, and `TaskInfo.seen` leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas_system.space.task_info import UNSEEN, TaskInfo

CARD = "card"
"""The name of the card in `TaskInfo.measured`."""

SHOWN_TARGETS = 3
"""Targets that a page about the search describes."""

WEAK_TREND = 0.05
"""Share of variance below which a trend is called none."""

Card = TypeVar("Card", bound=BaseModel)


class CardModel(BaseModel):
    """Base of the cards: read from a file that anybody may have edited, or a newer version written."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class TargetCard(CardModel):
    """One target; shares are of the training rows, from 0 to 1."""

    name: str
    seasons: tuple[tuple[int, float], ...] = ()
    """Periods in steps, each with its strength from 0 to 1, strongest first."""
    trend: float = 0.0
    """Share of the variance that a line explains; negative where the line falls."""
    zeros: float = 0.0
    repeats: float = 0.0
    """Rows equal to the row before."""
    filled: int = 0
    """Missing cells that hold the value before them, in the whole series."""
    val_shift: float | None = None
    """Mean of the validation rows minus that of the training rows, in training standard deviations."""

    def describe(self, test_shift: float | None = None) -> str:
        """Return everything but the name: `season of 24 steps (strength 0.34), falling trend ...`."""
        parts = [self._seasons, self._trend]
        parts += [f"{share:.0%} {what}" for share, what in self._shares if share >= 0.005]
        parts += [f"{self.filled:,} missing cells filled"] if self.filled else []
        shifts = [("val", self.val_shift), ("test", test_shift)]
        moved = ", ".join(f"{shift:+.2g} ({part})" for part, shift in shifts if shift is not None)
        parts += [f"mean shifts by {moved} training std"] if moved else []
        return ", ".join(parts)

    @property
    def _seasons(self) -> str:
        if not self.seasons:
            return "no season"
        periods = " and ".join(str(period) for period, _ in self.seasons)
        strengths = ", ".join(f"{strength:.2f}" for _, strength in self.seasons)
        return f"season{'s' * (len(self.seasons) > 1)} of {periods} steps (strength {strengths})"

    @property
    def _trend(self) -> str:
        if abs(self.trend) < WEAK_TREND:
            return "no trend"
        return f"{'rising' if self.trend > 0 else 'falling'} trend ({abs(self.trend):.0%} of the variance)"

    @property
    def _shares(self) -> tuple[tuple[float, str], ...]:
        return (self.zeros, "zeros"), (self.repeats, "repeats")


class DataCard(CardModel):
    """A series as a proposer may know it."""

    rows: int
    step: str = Field(pattern=r"^\d{0,9}[A-Za-z]{1,3}$")
    targets: tuple[TargetCard, ...] = ()
    more_targets: int = 0
    """Targets without a card of their own."""
    warnings: tuple[str, ...] = ()
    """What makes the task hard to measure or to learn, a sentence each."""


class UnseenCard(CardModel):
    """What else is known of the series, of the test part and the hold-out set."""

    test_shifts: Mapping[str, float] = Field(default_factory=dict)
    """By target, as `TargetCard.val_shift`."""
    warnings: tuple[str, ...] = ()


def card_of(measured: Mapping[str, Any]) -> DataCard | None:
    """Return the data card; None where there is none, or none that can be read."""
    return _read(DataCard, measured.get(CARD))


COMPARED_OVER_SERIES = (
    "Scores are compared over the series, whose dates are few: what moves all of them alike is not counted"
)


def series_of(measured: Mapping[str, Any]) -> int:
    """Return how many series one model is trained on; 0 where the file holds one alone."""
    found = measured.get("series")
    count = found.get("count") if isinstance(found, Mapping) else None
    return count if type(count) is int else 0


def compares_series(measured: Mapping[str, Any]) -> bool:
    """Return whether scores are compared over the series of a file, because it has too few dates."""
    found = measured.get("series")
    return isinstance(found, Mapping) and found.get("compared") == "series"


def known_of(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns whose future is known."""
    found = measured.get("known")
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def unseen_of(measured: Mapping[str, Any]) -> UnseenCard:
    """Return what no proposer may know; nothing where there is none."""
    return _read(UnseenCard, measured.get(UNSEEN)) or UnseenCard()


def series_lines(info: TaskInfo, most: int = SHOWN_TARGETS) -> list[str]:
    """Describe the series for people: its size, then a line for each of the first targets."""
    card = card_of(info.measured)
    if card is None:
        return []
    windows = ", ".join(f"{size:,} {name.replace('_', '-')}" for name, size in info.sizes.items())
    return [
        f"Series: {card.rows:,} rows, step {card.step}; windows: {windows}",
        *structure_lines(info),
        *target_lines(info, most),
    ]


def structure_lines(info: TaskInfo) -> list[str]:
    """Describe what is more than one series and its past; nothing where nothing is."""
    count, known = series_of(info.measured), known_of(info.measured)
    told_apart = ", ".join(info.task.told_apart_by)
    return [
        *([f"{count:,} series, told apart by {told_apart}; one model for all"] if count else []),
        *([COMPARED_OVER_SERIES] if compares_series(info.measured) else []),
        *([f"Known for the future: {', '.join(known)}"] if known else []),
    ]


def target_lines(info: TaskInfo, most: int | None = None) -> list[str]:
    """Return a line for each target that has a card, for people: with the shift of the test part."""
    card, unseen = card_of(info.measured), unseen_of(info.measured)
    if card is None:
        return []
    shown = card.targets[:most]
    lines = [f"{target.name}: {target.describe(unseen.test_shifts.get(target.name))}" for target in shown]
    more = len(card.targets) - len(shown) + card.more_targets
    return lines + ([f"... and {more} more target" + "s" * (more > 1)] if more > 0 else [])


def warnings_of(info: TaskInfo) -> tuple[str, ...]:
    """Return all warnings about the data, for people."""
    card = card_of(info.measured)
    return (*(card.warnings if card else ()), *unseen_of(info.measured).warnings)


def said_of(info: TaskInfo) -> tuple[str, ...]:
    """Return how the file of a series was read where that was to be found out, a sentence each."""
    said = info.measured.get("said")
    return tuple(text for text in said if isinstance(text, str)) if isinstance(said, list) else ()


def _read(kind: type[Card], record: Any) -> Card | None:
    try:
        return kind.model_validate(record)
    except ValidationError:
        return None
